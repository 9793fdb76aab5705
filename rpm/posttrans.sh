# Runs once at the end of an install or upgrade, when the old package is gone. Init is
# idempotent and enables units only the first time, so an upgrade keeps the
# administrator's choice.
status=0
decnet init || status=$?
# 3: all is in place, but a worker did not come up; init has named it.
if [ "$status" -ne 0 ] && [ "$status" -ne 3 ]; then
	echo "decnet: 'decnet init' failed; mend what it names and run it again" >&2
	exit "$status"
fi
