#!/bin/sh
# Makes sure the programs the suites drive are there: installs the missing ones when run
# as root on a host with apt, else lists them. Suites skip, with the reason, what still
# lacks its program.
#
# The real servers the decoys are compared with are installed without being started;
# vsftpd, which excludes proftpd, is only unpacked, into $1 (default
# /var/cache/decnet-test/vsftpd).
set -eu

vsftpd_root=${1:-/var/cache/decnet-test/vsftpd}

# program:package
tools="redis-cli:redis-tools ftp:ftp lftp:lftp curl:curl nmap:nmap jq:jq
debootstrap:debootstrap systemd-nspawn:systemd-container nsenter:util-linux ss:iproute2
lintian:lintian rpmlint:rpmlint rpm:rpm rpmbuild:rpm dnf:dnf createrepo_c:createrepo-c
shellcheck:shellcheck logrotate:logrotate pkaction:polkitd systemd-analyze:systemd
nft:nftables ip:iproute2 ping:iputils-ping python3:python3-minimal
redis-server:redis-server nginx:nginx apache2:apache2 lighttpd:lighttpd proftpd:proftpd-core
php-fpm8.2:php8.2-fpm busybox:busybox-static dockerd:docker.io"

missing=
for tool in $tools; do
	if ! command -v "${tool%%:*}" >/dev/null && [ ! -x "/usr/sbin/${tool%%:*}" ]; then
		case " $missing " in
		*" ${tool#*:} "*) ;;
		*) missing="$missing ${tool#*:}" ;;
		esac
	fi
done
if [ -z "$missing" ] && [ -x "$vsftpd_root/usr/sbin/vsftpd" ]; then
	exit 0
fi

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
	echo "not installed, their tests will be skipped:$missing vsftpd" >&2
	echo "install them with: sudo $0" >&2
	exit 0
fi

# Nothing that is installed here for comparison may occupy a port of this host.
work=$(mktemp -d)
trap 'rm -rf "$work"; [ ! -e "$work.policy" ] || rm -f /usr/sbin/policy-rc.d "$work.policy"' EXIT
if [ ! -e /usr/sbin/policy-rc.d ]; then
	touch "$work.policy"
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod 755 /usr/sbin/policy-rc.d
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
if [ -n "$missing" ]; then
	# shellcheck disable=SC2086 # a list of words
	apt-get install -y -qq --no-install-recommends $missing
fi
if [ ! -x "$vsftpd_root/usr/sbin/vsftpd" ]; then
	chmod 755 "$work"
	chown _apt "$work"
	(cd "$work" && apt-get download -qq vsftpd)
	mkdir -p "$vsftpd_root"
	dpkg-deb --extract "$work"/vsftpd_*.deb "$vsftpd_root"
fi
