# The program is gone by now; erasing keeps data and accounts, as everywhere on rpm.
if [ "$1" -eq 0 ]; then
	# The packaging tool cannot say that these directories are the package's own.
	for dir in /usr/share/doc/decnet/docs /usr/share/doc/decnet /usr/share/licenses/decnet; do
		if [ -d "$dir" ]; then rmdir --ignore-fail-on-non-empty "$dir"; fi
	done
	echo "decnet: kept configuration, data and accounts, listed in /var/lib/decnet/install.manifest."
	echo "decnet: to remove them as well, install the package again and run 'decnet init --deinit --purge' before erasing it."
fi
