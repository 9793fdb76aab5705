//! What a fleet should look like: names, addresses, the deployment INI.
