//! DECNET: a fleet of believable decoy hosts, recorded and explained.
//!
//! One binary. Every daemon is a subcommand; [`app::start`] runs it with the settings,
//! the bus, the database, signals, heartbeat and watchdog that all of them share. The
//! picture of the whole is in ARCHITECTURE.md; who may import whom is held by
//! `tests/it/layers.rs`.
//!
//! Roles: [`worker`] (background daemons), [`api`] (HTTP), [`web`] (dashboard), [`decoy`] (runs inside a
//! decky, faces attackers), [`init`] (makes a host hold what it should).
//! Shared by roles and command line: [`deploy`].
//! Domain: [`persona`], [`fleet`], [`capture`], [`export`], [`canary`]. Adapters: [`db`], [`bus`], [`systemd`],
//! [`docker`], [`syslog`], [`net`]. Base: [`config`], [`model`].

pub mod api;
pub mod app;
pub mod bus;
pub mod canary;
pub mod capture;
pub mod cli;
pub mod config;
pub mod db;
pub mod decoy;
pub mod deploy;
pub mod docker;
pub mod export;
pub mod fleet;
pub mod geo;
pub mod init;
pub mod model;
pub mod net;
pub mod netns;
pub mod persona;
pub mod syslog;
pub mod systemd;
pub mod web;
pub mod worker;
