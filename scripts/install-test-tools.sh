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
php-fpm8.2:php8.2-fpm busybox:busybox-static dockerd:docker.io
chromium:chromium chromedriver:chromium-driver npm:npm
dig:bind9-dnsutils git:git ssh:openssh-client openssl:openssl wg:wireguard-tools kubectl:kubernetes-client
mariadbd:mariadb-server-core mariadb:mariadb-client-core zbarimg:zbar-tools
pdfinfo:poppler-utils qpdf:qpdf soffice:libreoffice-writer-nogui"

# Not packaged by Debian: schemathesis asks the API, axe-core the pages. Debian's AWS
# command line is too old to heed an endpoint in its configuration.
cache=/var/cache/decnet-test
schemathesis=4.32.5
awscli=1.46.3
axe=4.14.1

missing=
for tool in $tools; do
	if ! command -v "${tool%%:*}" >/dev/null && [ ! -x "/usr/sbin/${tool%%:*}" ]; then
		case " $missing " in
		*" ${tool#*:} "*) ;;
		*) missing="$missing ${tool#*:}" ;;
		esac
	fi
done
# vsftpd is only unpacked, so what it links to is not pulled in with it.
if [ ! -e /usr/lib/x86_64-linux-gnu/libwrap.so.0 ]; then
	missing="$missing libwrap0"
fi
# Writer and Calc are one program in two packages.
if [ ! -e /usr/lib/libreoffice/program/libsclo.so ]; then
	missing="$missing libreoffice-calc-nogui"
fi
# A virtual environment needs ensurepip, which Debian packages apart.
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
	missing="$missing python3-venv"
fi
elsewhere=
[ -x "$cache/schemathesis-$schemathesis/bin/schemathesis" ] || elsewhere="$elsewhere schemathesis"
[ -x "$cache/awscli-$awscli/bin/aws" ] || elsewhere="$elsewhere awscli"
[ -e "$cache/axe-core-$axe/package/axe.min.js" ] || elsewhere="$elsewhere axe-core"
if [ -z "$missing$elsewhere" ] && [ -x "$vsftpd_root/usr/sbin/vsftpd" ]; then
	exit 0
fi

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
	echo "not installed, their tests will be skipped:$missing$elsewhere vsftpd" >&2
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

for tool in $elsewhere; do
	case $tool in
	schemathesis)
		python3 -m venv "$cache/schemathesis-$schemathesis"
		"$cache/schemathesis-$schemathesis/bin/pip" install -q "schemathesis==$schemathesis"
		;;
	awscli)
		python3 -m venv "$cache/awscli-$awscli"
		"$cache/awscli-$awscli/bin/pip" install -q "awscli==$awscli"
		;;
	axe-core)
		mkdir -p "$cache/axe-core-$axe"
		(cd "$cache/axe-core-$axe" && npm pack --silent "axe-core@$axe" >/dev/null &&
			tar xzf "axe-core-$axe.tgz" package/axe.min.js package/LICENSE)
		;;
	esac || echo "$tool could not be installed; its tests will be skipped" >&2
done
