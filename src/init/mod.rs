//! What a host should hold, and making it so.
