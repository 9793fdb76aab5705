#!/bin/sh
# Prints the path of a pristine Debian root for the system suite, making it first when
# the cache does not hold it. A root is never used directly: every test works on a copy.
#
# DECNET_TEST_ROOTS  cache directory (default ${XDG_CACHE_HOME:-/var/cache}/decnet-test/roots)
# DECNET_TEST_SUITE  Debian release (default bookworm)
# DECNET_TEST_MIRROR mirror (default: the first one in this host's own apt sources)
set -eu

suite=${DECNET_TEST_SUITE:-bookworm}
cache=${DECNET_TEST_ROOTS:-${XDG_CACHE_HOME:-/var/cache}/decnet-test/roots}
# rpm and dnf live in the same root, so that one root serves both package families.
packages=systemd,systemd-sysv,dbus,libpam-systemd,logrotate,polkitd,adduser,udev
packages=$packages,iproute2,procps,apt-utils,ca-certificates,rpm,dnf,util-linux

# A changed package list makes a new root.
root=$cache/$suite-$(echo "$packages" | sha256sum | cut -c1-12)
if [ -e "$root/.complete" ]; then
	echo "$root"
	exit 0
fi

mirror=${DECNET_TEST_MIRROR:-}
if [ -z "$mirror" ]; then
	# shellcheck disable=SC2016 # apt's own placeholder
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | sed -n 1p)
fi
if [ -z "$mirror" ]; then
	echo "$0: no apt source on this host; set DECNET_TEST_MIRROR" >&2
	exit 1
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/.making.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
echo "making a $suite root in $root" >&2
debootstrap --variant=minbase --include="$packages" "$suite" "$work" "$mirror" >"$cache/debootstrap.log" 2>&1 || {
	tail -n 20 "$cache/debootstrap.log" >&2
	exit 1
}
rm -rf "$work"/var/cache/apt/archives/*.deb "$work"/var/lib/apt/lists/* \
	"$work"/usr/share/doc/* "$work"/usr/share/locale/* "$work"/usr/share/man/*
# Offline: no source may be asked. A container has no use for a password prompt.
: >"$work/etc/apt/sources.list"
: >"$work/.complete"
mv -T "$work" "$root"
trap - EXIT
echo "$root"
