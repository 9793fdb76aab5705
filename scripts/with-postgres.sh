#!/bin/sh
# with-postgres.sh COMMAND…: runs it beside a private PostgreSQL server that is made for it
# and gone afterwards. The command gets DECNET_TEST_DB=postgres and DECNET_TEST_DB_URL, the
# server's empty database, where tests make a schema of their own; DECNET_TEST_DB_SOCKET is
# the same by its socket, DECNET_TEST_PG_CTL a command that starts and stops the server.
#
# The server listens on a free port of 127.0.0.1 (password in the URL) and on a socket in a
# directory of its own. As root it runs as `nobody`, because it refuses to run as root.
set -eu

if [ $# -eq 0 ]; then
	echo "usage: $0 COMMAND [ARGUMENT…]" >&2
	exit 2
fi
bin=
for dir in /usr/local/bin /usr/bin /usr/pgsql-*/bin /usr/lib/postgresql/*/bin; do
	if [ -x "$dir/initdb" ] && [ -x "$dir/psql" ]; then bin=$dir; fi
done
if [ -z "$bin" ]; then
	echo "no PostgreSQL server here; install it with: sudo scripts/install-test-tools.sh" >&2
	exit 1
fi

work=$(mktemp -d)
child=
# shellcheck disable=SC2317 # the trap calls it
end() {
	[ -z "$child" ] || kill "$child" 2>/dev/null || true
	# The first line of the file is the server's process id.
	if [ -s "$work/data/postmaster.pid" ]; then
		run "$bin/pg_ctl" -D "$work/data" -m immediate -w stop >/dev/null 2>&1 || true
	fi
	rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs the server's programs as somebody who is not root.
run() {
	if [ "$(id -u)" -eq 0 ]; then
		(cd / && setpriv --reuid nobody --regid nogroup --clear-groups "$@")
	else
		(cd / && "$@")
	fi
}

if [ "$(id -u)" -eq 0 ]; then
	chown nobody:nogroup "$work"
fi
chmod 755 "$work"
password=throw-away
printf '%s' "$password" >"$work/password"
chmod 644 "$work/password"
run "$bin/initdb" -D "$work/data" -U decnet --pwfile "$work/password" -E UTF8 --no-locale --no-sync \
	--auth-local=trust --auth-host=scram-sha-256 >"$work/initdb.log" 2>&1 || {
	cat "$work/initdb.log" >&2
	exit 1
}
cat >>"$work/data/postgresql.conf" <<CONF
fsync = off
full_page_writes = off
max_connections = 400
shared_buffers = 64MB
unix_socket_directories = '$work'
listen_addresses = '127.0.0.1'
CONF

# A port that is free now may be taken in a moment: then another one.
tries=0
while :; do
	port=$(awk 'BEGIN { srand('"$$$tries"'); print int(20000 + rand() * 12000) }')
	echo "port = $port" >>"$work/data/postgresql.conf"
	if run "$bin/pg_ctl" -D "$work/data" -l "$work/data/log" -w start >/dev/null 2>&1; then
		break
	fi
	tries=$((tries + 1))
	if [ "$tries" -ge 10 ]; then
		cat "$work/data/log" >&2
		exit 1
	fi
done
# In a language whose order of letters is not that of bytes, where the server knows one.
make="create database decnet_test template template0 encoding 'UTF8'"
run "$bin/psql" -q -h "$work" -p "$port" -U decnet -d postgres \
	-c "$make locale_provider icu icu_locale 'en' locale 'C.UTF-8'" 2>/dev/null ||
	run "$bin/psql" -q -h "$work" -p "$port" -U decnet -d postgres -c "$make"

export DECNET_TEST_DB=postgres
export DECNET_TEST_DB_URL="postgres://decnet:$password@127.0.0.1:$port/decnet_test"
export DECNET_TEST_DB_SOCKET="postgres:///decnet_test?host=$work&port=$port&user=decnet"
as=
if [ "$(id -u)" -eq 0 ]; then as="setpriv --reuid nobody --regid nogroup --clear-groups"; fi
export DECNET_TEST_PG_CTL="$as $bin/pg_ctl -D $work/data -l $work/data/log"
status=0
# A command in the background would have no standard input.
exec 3<&0
"$@" <&3 3<&- &
child=$!
wait "$child" || status=$?
child=
exit "$status"
