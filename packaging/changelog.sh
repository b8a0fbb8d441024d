#!/bin/sh
# CHANGELOG.md on standard input, as a Debian changelog. The first section gets the version that is given, the others
# have their own. A section without a date is of SOURCE_DATE_EPOCH.
set -eu

awk -v first="$1" -v today="$SOURCE_DATE_EPOCH" '
    # An item of the list, which may have had several lines, in lines of at most 78 columns.
    function flush_item(    line, count, words, i) {
        if (item == "") return
        count = split(item, words, " ")
        line = "  *"
        for (i = 1; i <= count; i++) {
            if (length(line) + 1 + length(words[i]) > 78) {
                print line
                line = "   "
            }
            line = line " " words[i]
        }
        print line
        item = ""
    }
    function flush_section(    command, stamp) {
        flush_item()
        if (version == "") return
        command = "date -R -u -d " date
        command | getline stamp
        close(command)
        print "\n -- fairstalk maintainers <maintainers@fairstalk.example>  " stamp
    }
    /^## / {
        flush_section()
        if (version != "") print ""
        match($2, /[^][]+/)
        version = version == "" ? first : substr($2, RSTART, RLENGTH)
        date = $4 ~ /^[0-9]/ ? $4 : "@" today
        print "fairstalk (" version ") unstable; urgency=medium"
        next
    }
    version == "" { next }
    /^### / { flush_item(); print "\n  [ " substr($0, 5) " ]"; next }
    /^\* / { flush_item(); item = substr($0, 3); next }
    /^  / { item = item " " $0; next }
    { flush_item() }
    END { flush_section() }
'
