# The program is gone by now; erasing keeps data and accounts, as everywhere on rpm.
if [ "$1" -eq 0 ]; then
	echo "decnet: kept configuration, data and accounts, listed in /var/lib/decnet/install.manifest."
	echo "decnet: to remove them as well, install the package again and run 'decnet init --deinit --purge' before erasing it."
fi
