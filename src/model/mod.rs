//! Plain values that every other part speaks in: stamps, events, services,
//! workers, topics. No IO, no tokio, nothing imported from the rest of the crate.

pub mod decky;
pub mod event;
pub mod service;
pub mod stamp;
pub mod topic;
pub mod worker;

pub use decky::{Decky, DeckyState, Listener};
pub use event::{Credential, Event, Flow, Proto, SecretKind, Severity};
pub use service::Service;
pub use stamp::Stamp;
pub use worker::Worker;
