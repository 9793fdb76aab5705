//! The Docker engine: deckies in containers, and the operator's own images beside them.
//! A host without an engine is a host with two runtimes fewer to think about, never an
//! error. What is ours there is known by its labels; nothing else is ever touched.

pub mod container;
pub mod custom;
pub mod engine;
pub mod failure;
pub mod image;
pub mod logs;
pub mod network;

pub use engine::Engine;

/// Labels of containers and networks.
pub mod label {
    /// The decky a container belongs to.
    pub const DECKY: &str = "decnet.fleet.decky";
    /// `true` on a decky's own container.
    pub const BASE: &str = "decnet.fleet.base";
    /// `true` on a container of the operator's image.
    pub const SERVICE: &str = "decnet.fleet.service";
    /// Name of the operator's service.
    pub const SERVICE_NAME: &str = "decnet.fleet.service_name";
    /// Fingerprint of what the container was made from.
    pub const HASH: &str = "decnet.fleet.base_hash";
    /// Directory of the installation's deckies: two installations may share an engine.
    pub const HOME: &str = "decnet.fleet.home";
}
