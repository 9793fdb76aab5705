//! The Docker engine, reached through its socket.
