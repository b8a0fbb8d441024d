#!/bin/sh
# Builds the package of the last commit twice from nothing, in folders with different names, and compares the bytes.
# Takes two full builds; `make test` only packs the same binary twice.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# An unpacked archive has no commit to take the time from.
SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct)
export SOURCE_DATE_EPOCH

for folder in "$scratch/one" "$scratch/quite/another"; do
    mkdir -p "$folder"
    git -C "$root" archive HEAD | tar -x -C "$folder"
    make -C "$folder" deb >"$folder/make.log" 2>&1 || { cat "$folder/make.log" >&2; exit 1; }
done

cd "$scratch"
sha256sum one/target/debian/*.deb quite/another/target/debian/*.deb
if cmp one/target/debian/*.deb quite/another/target/debian/*.deb; then
    echo "the same bytes"
else
    # To look at with diffoscope.
    cp one/target/debian/*.deb "$root/target/debian/one.deb"
    cp quite/another/target/debian/*.deb "$root/target/debian/another.deb"
    exit 1
fi
