//! Clients of the ftp decoy.
