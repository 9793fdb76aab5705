#!/bin/sh
# Adds to .deb $1 the md5sums control file that cargo-deb leaves out, so that
# `dpkg --verify decnet` can tell whether a file was changed; compresses it with $2.
set -eu

deb=$1
compression=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dpkg-deb --raw-extract "$deb" "$work/root"
(
	cd "$work/root"
	find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums
)
dpkg-deb --root-owner-group -Z"$compression" --build "$work/root" "$work/out.deb" >/dev/null
mv "$work/out.deb" "$deb"
