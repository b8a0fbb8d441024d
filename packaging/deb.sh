#!/bin/sh
# Makes target/debian/fairstalk_VERSION_ARCH.deb of a binary that is built already: `make deb` builds it first.
#
#   deb.sh BINARY PAGES      PAGES: the folder with the man pages and completions
#
# Environment: DEB_VERSION        the package's version; without it the crate's
#              DEB_OUTPUT         the folder of the package; target/debian
#              SOURCE_DATE_EPOCH  the only time that is in the package; without it that of the last commit
#
# The same input gives the same bytes. The work is debhelper's, in a tree laid out under DEB_OUTPUT.
set -eu
umask 022
export LC_ALL=C.UTF-8 TZ=UTC

root=$(cd "$(dirname "$0")/.." && pwd)
binary=$(realpath "$1")
pages=$(realpath "$2")
output=${DEB_OUTPUT:-$root/target/debian}
tree=$output/tree
version=${DEB_VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)}

# Without git, in an unpacked archive, the changelog's own time stands in.
last_commit() {
    git -C "$root" log -1 --format=%ct 2>/dev/null || stat -c %Y "$root/CHANGELOG.md"
}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(last_commit)}
export SOURCE_DATE_EPOCH

if ! command -v dh >/dev/null; then
    echo "deb.sh: installing debhelper" >&2
    if [ "$(id -u)" -eq 0 ]; then as_root=; else as_root=sudo; fi
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debhelper >/dev/null
fi

rm -rf "$tree"
mkdir -p "$tree"
cp -r "$root/packaging/debian" "$tree/debian"
cp "$binary" "$tree/fairstalk"
cp "$root/etc/fairstalk.toml" "$pages"/*.[158] "$pages/_fairstalk" "$pages/fairstalk.fish" "$tree/"
mkdir "$tree/bash"
cp "$pages/fairstalk.bash" "$tree/bash/fairstalk"
cp "$root"/systemd/*.service "$tree/debian/"
# What the units, the configuration and messages refer to.
mkdir "$tree/docs"
cp "$root"/docs/*.md "$root"/docs/*.svg "$tree/docs/"

# The licence and the changes are written once, in the files that a reader of the sources sees.
sed -e '1,/^$/d; /^$/s/.*/./; s/^/ /' "$root/LICENSE-MIT" >"$tree/licence"
sed -i -e "/^@MIT@\$/{r $tree/licence" -e 'd}' "$tree/debian/copyright"
"$root/packaging/changelog.sh" "$version" <"$root/CHANGELOG.md" >"$tree/debian/changelog"

cd "$tree"
# The option is what "Rules-Requires-Root: no" is when dpkg-buildpackage does not read it.
DEB_RULES_REQUIRES_ROOT=no debian/rules binary >"$output/build.log" 2>&1 || {
    cat "$output/build.log" >&2
    exit 1
}
package=$(cut -d ' ' -f 1 debian/files)
mv "$output/$package" "$output/.$package.new" && mv "$output/.$package.new" "$output/$package"
echo "$output/$package"
