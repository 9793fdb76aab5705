#!/bin/sh
# Makes the packages under test from program $3 in directory $1: this version, and
# version $2 whose program differs and renders other units. Called by the system suite.
set -eu

out=$1
old=$2
binary=$3
make --no-print-directory deb rpm BINARY="$binary" DIST="$out"
echo older >>dist/stage/decnet
# Same length, so the program stays whole: templates are text inside it.
LC_ALL=C sed -i 's/TimeoutStopSec=15/TimeoutStopSec=16/g' dist/stage/decnet
make --no-print-directory deb rpm DIST="$out" STAGED=yes PKG_VERSION="$old" \
	DEB_COMPRESSION=gzip RPM_COMPRESSION=none
rm -rf dist/stage
