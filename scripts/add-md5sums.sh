#!/bin/sh
# Adds the md5sums control file to a .deb, so that `dpkg -V decnet` can tell whether a
# file was changed; cargo-deb writes none.
set -eu

deb=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dpkg-deb --raw-extract "$deb" "$work/root"
(
	cd "$work/root"
	find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums
)
dpkg-deb --root-owner-group -Zxz --build "$work/root" "$work/out.deb" >/dev/null
mv "$work/out.deb" "$deb"
echo "$deb"
