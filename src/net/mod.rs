//! Small pieces between us and the kernel: file locks, atomic files, peers of sockets.

pub mod blob;
pub mod descriptor;
pub mod file;
pub mod forwarded;
pub mod http;
pub mod lock;
pub mod outbound;
pub mod seal;
pub mod store;
pub mod tail;
