//! Plain values that every other part speaks in: stamps, events, services,
//! workers, topics. No IO, no tokio, nothing imported from the rest of the crate.

pub mod canary;
pub mod csv;
pub mod decky;
pub mod event;
pub mod family;
pub mod job;
pub mod query;
pub mod service;
pub mod setting;
pub mod stamp;
pub mod topic;
pub mod worker;

pub use decky::{Custom, Decky, DeckyState, Driver, Link, Listener, Runtime, Settings, Wish};
pub use event::{Credential, Event, Flow, Proto, SecretKind, Severity};
pub use family::Family;
pub use query::Query;
pub use service::Service;
pub use stamp::Stamp;
pub use worker::Worker;
