//! Clients of the http decoy.
