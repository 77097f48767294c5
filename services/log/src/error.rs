//! What can go wrong in a store, and whether to go on after it.

/// Why an operation of a store failed.
///
/// [`Error::is_retryable`] and [`Error::is_fatal`] say what to do with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk, or the quota of the store, is full. Nothing of the batch was kept; reads go on.
    #[error("no space left in {place}; free space on its disk, then repeat")]
    Full {
        /// The file or directory that is full.
        place: String,
    },
    /// Reading or writing failed. What the disk holds is unknown until the store is opened again.
    #[error("failed to {action} {place}; end the process, check the disk and start again")]
    Io {
        /// What was tried, for example `commit to`.
        action: &'static str,
        /// The file or directory.
        place: String,
        /// What the backend said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is stored contradicts itself.
    #[error("corrupt data at {place}: {reason}; restore the directory from a backup or let peers fill a new one")]
    Corrupt {
        /// File, and where known the log and position.
        place: String,
        /// What does not fit.
        reason: String,
    },
    /// Another process has this directory open.
    #[error("{path} is in use by another process; stop that process or give this one its own directory")]
    InUse {
        /// The directory.
        path: String,
    },
    /// The directory was written in a format this version does not know.
    #[error("{path} has format {found}, this program reads format {known}; use the version that wrote it")]
    Format {
        /// The database file.
        path: String,
        /// The number found in it.
        found: i64,
        /// The number this version reads.
        known: i64,
    },
    /// An earlier failure left the disk in an unknown state, so this store takes no more commits.
    #[error("an earlier write failed, so nothing more is written; end the process and start again")]
    Poisoned,
    /// A draft names a log for which this process has begun no epoch.
    #[error("no epoch is begun for log {log}; call begin_epoch first")]
    NoEpoch {
        /// The log.
        log: String,
    },
    /// An epoch to begin, or its first draft, is not above all epochs held of the log.
    #[error("epoch {epoch} of log {log} is not above {held}, the highest one held; begin a higher one")]
    EpochNotAbove {
        /// The log.
        log: String,
        /// The epoch asked for.
        epoch: u64,
        /// The highest epoch held.
        held: u64,
    },
    /// A value lies outside what the store can hold.
    #[error("{what}; correct the caller")]
    Invalid {
        /// What is wrong with which value.
        what: String,
    },
    /// The caller's own function (a seal, or the work of a commit) failed. Nothing was kept.
    #[error("the work of the commit failed")]
    Caller(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Wraps a failure of the caller's own work, so that it can leave a commit.
    pub fn caller(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Caller(source.into())
    }

    /// Whether the process must end: the store can promise nothing any more.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Corrupt { .. } | Self::Poisoned)
    }

    /// Whether the same call may succeed later without a change of its arguments.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}
