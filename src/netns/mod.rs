//! Network namespaces and links: what the kernel is told, over netlink, so that a decky
//! is a machine of its own on the LAN and cannot call out.

pub mod probe;
pub mod uplink;
