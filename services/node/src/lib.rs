//! A department's node: the bus, the rules of the department, and the services that its systems and officers call.
//!
//! Read in this order: [`config`] (what an operator writes), [`server`] (the assembly), [`rules`] (the engine on the
//! bus, packs in and out of force), [`alert_service`] and [`admin_service`] (the calls), [`auth`] (who may call what), [`status`] (the one place
//! that makes errors for callers), [`http`] (metrics and health for machines).

pub mod admin_service;
pub mod alert_service;
pub mod auth;
pub mod config;
pub mod exercises;
pub mod http;
pub mod lookup;
pub mod metrics;
pub mod reload;
pub mod rules;
pub mod server;
pub mod status;

pub use config::Config;
pub use server::Server;
