# 0: the last copy is being erased; 1: an upgrade, which keeps everything running.
if [ "$1" -eq 0 ]; then
	decnet init --deinit || {
		echo "decnet: 'decnet init --deinit' failed; units may be left in /etc/systemd/system" >&2
		exit 1
	}
fi
