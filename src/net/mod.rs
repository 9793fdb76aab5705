//! Small pieces between us and the kernel: file locks, atomic files, peers of sockets.

pub mod blob;
pub mod descriptor;
pub mod file;
pub mod http;
pub mod lock;
pub mod store;
pub mod tail;
