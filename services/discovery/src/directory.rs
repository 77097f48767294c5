//! The directory: where nodes leave hints for each other, and where rosters and manifests can be found.
//!
//! A [`Directory`] carries bytes and judges nothing: [`crate::members`] verifies what it brings. Whatever it says may be
//! old, wrong or gone; nothing that runs stops for it. There are three: [`etcd`] for a federation, [`file`] for a few
//! nodes on one machine or shared folder, [`memory`] for one process and for tests.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use campanile_alert::OriginId;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub mod etcd;
pub mod file;
pub mod memory;
mod snapshot;

pub use etcd::{EtcdConfig, EtcdDirectory, EtcdTls};
pub use file::FileDirectory;
pub use memory::{MemoryDirectory, MemoryHub};

/// How many updates may wait for a watcher before the directory waits for it.
const UPDATES_MAX: usize = 256;
/// The most hints a directory reads; a federation has far fewer nodes.
pub const HINTS_MAX: usize = 4096;
/// The longest value in a folder, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// The most values that are read from a folder; a federation has far fewer departments.
pub const VALUES_MAX: usize = 1024;
/// The longest name of a folder or of a value in it, in bytes.
pub const KEY_BYTES_MAX: usize = 200;

/// Why a directory did not do what was asked. All of these may be tried again, but for [`Error::Invalid`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It cannot be reached, or did not answer in time.
    #[error("the directory {place} is not available: {reason}")]
    Unavailable {
        /// Which directory.
        place: String,
        /// Why.
        reason: String,
    },
    /// It holds another roster under the number.
    #[error("the directory holds another roster under number {0}; compare the two before anything else")]
    RosterConflict(u64),
    /// A key or value that no directory takes.
    #[error("{0}")]
    Invalid(String),
}

/// A hint as the directory carries it: the name it stands under, and the envelope, unverified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The node it claims to be of.
    pub origin: OriginId,
    /// The signed envelope.
    pub envelope: Vec<u8>,
}

/// What a watcher learns, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// All hints that are registered now. Those not among them are unregistered, which does not mean gone.
    Reset(Vec<Entry>),
    /// A hint came or changed.
    Put(Entry),
    /// A registration ended: for information, since the node may well be running.
    Gone(OriginId),
    /// The newest roster, as an envelope, unverified.
    Roster(Vec<u8>),
}

/// All values of a folder at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The moment, to name in [`Directory::put_unless_changed`]; it grows with each change of the folder.
    pub revision: u64,
    /// The values by name, at most [`VALUES_MAX`].
    pub values: BTreeMap<String, Vec<u8>>,
}

/// What came of a compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// Written.
    Done,
    /// Someone has changed the folder since it was listed; nothing was written.
    Changed,
}

/// How the directory does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DirectoryHealth {
    /// How long ago it last answered; absent when it never did.
    pub contact_age: Option<Duration>,
    /// Whether the own hint stands in it, as far as is known.
    pub registered: bool,
    /// Another live instance under the own name, by its token. An operator must decide which one stops.
    pub conflict: Option<String>,
    /// What last went wrong; absent once it works again.
    pub last_error: Option<String>,
}

/// A place for hints, rosters and manifests.
#[async_trait]
pub trait Directory: Send + Sync + fmt::Debug {
    /// Registers a hint, and keeps it registered from now on, whatever happens to the directory, until
    /// [`Directory::withdraw`]. A second call replaces it. `instance` is the token inside the hint.
    fn announce(&self, origin: OriginId, instance: String, envelope: Vec<u8>);

    /// Ends the registration, as far as the directory can be reached.
    async fn withdraw(&self);

    /// Begins to watch: first a [`Update::Reset`] once the directory answers, then changes. It never ends by itself; drop
    /// the receiver to end it.
    fn watch(&self) -> mpsc::Receiver<Update>;

    /// The newest roster, unverified; absent when there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn roster(&self) -> Result<Option<Vec<u8>>, Error>;

    /// Publishes a roster under its number. The same bytes again are fine.
    ///
    /// # Errors
    /// [`Error::RosterConflict`] when another one stands under the number, [`Error::Unavailable`].
    async fn publish_roster(&self, number: u64, envelope: &[u8]) -> Result<(), Error>;

    /// Reads all values of a folder at one moment, for example of `manifests`.
    ///
    /// # Errors
    /// [`Error`] when the name is not valid or the directory not available.
    async fn list(&self, folder: &str) -> Result<Listing, Error>;

    /// Writes a value if nothing in its folder, whosever it is, was written since the listing of that revision. So what
    /// was judged over the whole folder still holds when it is written.
    ///
    /// # Errors
    /// [`Error`] when name or value is not valid, or the directory not available: then it is unknown whether it wrote.
    async fn put_unless_changed(
        &self,
        folder: &str,
        revision: u64,
        name: &str,
        bytes: &[u8],
    ) -> Result<PutOutcome, Error>;

    /// How it does.
    fn health(&self) -> DirectoryHealth;
}

/// Which directory to use.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DirectoryConfig {
    /// In this process alone.
    Memory,
    /// A folder.
    File {
        /// The folder; made where it is missing.
        path: PathBuf,
        /// How often it is read, in milliseconds; from 10 to 60,000, and 1,000 by default.
        #[serde(default = "poll_ms_default")]
        poll_ms: u64,
    },
    /// An etcd cluster.
    Etcd(EtcdConfig),
}

fn poll_ms_default() -> u64 {
    1000
}

impl DirectoryConfig {
    /// Opens the directory of a federation. It need not be reachable now. Call it inside a tokio runtime.
    ///
    /// `memory` is the hub of this process, which only [`DirectoryConfig::Memory`] uses.
    ///
    /// # Errors
    /// [`Error`] when the configuration is not valid or the folder cannot be made.
    pub fn open(&self, federation: &str, memory: &MemoryHub) -> Result<Arc<dyn Directory>, Error> {
        Ok(match self {
            Self::Memory => Arc::new(memory.join()),
            Self::File { path, poll_ms } => {
                let poll = Duration::from_millis((*poll_ms).clamp(10, 60_000));
                Arc::new(FileDirectory::open(path.join(federation), poll)?)
            }
            Self::Etcd(config) => Arc::new(EtcdDirectory::open(config.clone(), federation)?),
        })
    }
}

/// Checks the name of a folder or of a value: `a-z0-9-`, at most 200 bytes.
fn check_name(name: &str) -> Result<(), Error> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || name.len() > KEY_BYTES_MAX || !name.bytes().all(fits) {
        let shown: String = name.chars().take(60).collect();
        return Err(Error::Invalid(format!(
            "{shown:?} is not a name here; use lower-case letters, digits and hyphens, at most {KEY_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

fn check_value(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(Error::Invalid(format!("the value has {} bytes, more than {VALUE_BYTES_MAX}", bytes.len())));
    }
    Ok(())
}

/// What a node registers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Announcement {
    origin: OriginId,
    instance: String,
    envelope: Vec<u8>,
}

/// The health record that a directory's tasks share.
#[derive(Debug, Default)]
struct Monitor(Mutex<Condition>);

#[derive(Debug, Default)]
struct Condition {
    contact: Option<Instant>,
    registered: bool,
    conflict: Option<String>,
    last_error: Option<String>,
}

impl Monitor {
    fn contact(&self) {
        let mut condition = self.0.lock();
        condition.contact = Some(Instant::now());
        condition.last_error = None;
    }

    fn failed(&self, error: &impl fmt::Display) {
        self.0.lock().last_error = Some(error.to_string());
    }

    fn registered(&self, registered: bool) {
        let mut condition = self.0.lock();
        condition.registered = registered;
        if registered {
            condition.conflict = None;
        }
    }

    fn conflict(&self, instance: &str) {
        let mut condition = self.0.lock();
        condition.registered = false;
        condition.conflict = Some(instance.chars().take(64).collect());
    }

    fn health(&self) -> DirectoryHealth {
        let condition = self.0.lock();
        DirectoryHealth {
            contact_age: condition.contact.map(|at| at.elapsed()),
            registered: condition.registered,
            conflict: condition.conflict.clone(),
            last_error: condition.last_error.clone(),
        }
    }
}
