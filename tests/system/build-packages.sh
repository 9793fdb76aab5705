#!/bin/sh
# Builds the packages under test into directory $1: this version, and version $2 whose
# program differs and renders other units. Called by the system suite.
set -eu

out=$1
old=$2
make --no-print-directory deb rpm PROFILE=dev DIST="$out"
# Same length, so the program stays whole: templates are text inside it.
LC_ALL=C sed -i 's/TimeoutStopSec=15/TimeoutStopSec=16/g' dist/stage/decnet
make --no-print-directory deb rpm PROFILE=dev DIST="$out" STAGED=yes PKG_VERSION="$old" \
	DEB_COMPRESSION=gzip RPM_COMPRESSION=none
rm -rf dist/stage
