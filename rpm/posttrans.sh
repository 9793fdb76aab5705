# Runs once at the end of an install or upgrade, when the old package is gone. Init is
# idempotent and enables units only the first time, so an upgrade keeps the
# administrator's choice. A scriptlet that fails cannot stop the transaction: say so.
decnet init || {
	echo "decnet: 'decnet init' failed; mend what it names and run it again" >&2
	exit 1
}
