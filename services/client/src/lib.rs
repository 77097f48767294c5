//! The Rust SDK: how a department's own systems publish to their node, watch it, and run it.
//!
//! [`Client::connect`] opens one connection over mutual TLS and proves who answers. What comes back is in the domain's
//! types, checked. Publishing is safe to repeat and is repeated; a broken watch resumes from its last cursor; every
//! wait, attempt and message has a limit, set in [`Options`]. An [`Error`] says whether trying again may help.
//!
//! Read in this order: [`Options`] and [`Credentials`], [`Client`], [`Publish`], [`Watch`], [`Error`], [`admin`].

mod backoff;
mod client;
mod error;
mod options;
mod publish;
mod transport;
mod values;
mod watch;

pub mod admin;
pub mod exercise;
pub mod rules;

pub use backoff::Attempts;
pub use campanile_discovery::{Expect, Identity, IdentityFiles, RosterHandle};
pub use campanile_proto::convert::{Fault, WantedAlert};
pub use client::{Client, Decided, Decision, Page, Query, wanted};
pub use error::{Error, Retry, Violation};
pub use options::{Credentials, MESSAGE_BYTES_MAX, Options, Roots, Timeouts};
pub use publish::{Publish, Published};
pub use tonic::Code;
pub use values::{AlertDetail, AlertRecord, AlertState, Cause, Cursor, CursorError, Delivery, Filter, Position, Rule};
pub use watch::{Event, Start, Watch};
