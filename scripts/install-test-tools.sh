#!/bin/sh
# Makes sure the programs the suites drive are there: installs the missing ones when
# run as root on a host with apt, else lists them. Suites skip, with the reason, what
# still lacks its program.
set -eu

# program:package
tools="redis-cli:redis-tools ftp:ftp lftp:lftp curl:curl nmap:nmap jq:jq
debootstrap:debootstrap systemd-nspawn:systemd-container nsenter:util-linux ss:iproute2
lintian:lintian rpmlint:rpmlint rpm:rpm rpmbuild:rpm dnf:dnf createrepo_c:createrepo-c
shellcheck:shellcheck logrotate:logrotate pkaction:polkitd"

missing=
for tool in $tools; do
	if ! command -v "${tool%%:*}" >/dev/null && [ ! -x "/usr/sbin/${tool%%:*}" ]; then
		case " $missing " in
		*" ${tool#*:} "*) ;;
		*) missing="$missing ${tool#*:}" ;;
		esac
	fi
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
	echo "not installed, their tests will be skipped:$missing" >&2
	echo "install them with: sudo apt-get install$missing" >&2
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing
