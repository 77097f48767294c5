//! Feeds in: other people's warnings become publications on the bus.
//!
//! A [`Source`] is asked at an interval and gives [`Publication`]s; [`run()`] hands them to a publish function and keeps a
//! state file, so that a restart neither repeats nor loses one. There are two sources: [`hko`], the Hong Kong
//! Observatory's open data, from which alerts are made; and [`cap`], a feed of CAP messages, whose bytes are not touched.
//!
//! Common to both: what vanishes from a source is not cancelled, and a source that does not answer is *stale*, which
//! ends nothing either.

pub mod cap;
pub mod hko;
mod http;
mod run;
mod state;

use campanile_alert::{Alert, AlertId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

pub use http::{Error as HttpError, Http};
pub use run::{PublishError, Published, Runner, Step, Timing, run};
pub use state::{Error as StateError, StateFile};

/// One message to publish.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Publication {
    /// A message made here.
    Alert(Box<Alert>),
    /// A foreign message in CAP XML.
    CapXml {
        /// Its identity.
        id: AlertId,
        /// Its bytes, as they came.
        #[serde(with = "base64_bytes")]
        bytes: Vec<u8>,
        /// The source whose mapping table classifies it.
        source: String,
    },
}

impl Publication {
    /// The identity of the message.
    pub fn id(&self) -> AlertId {
        match self {
            Self::Alert(alert) => alert.id(),
            Self::CapXml { id, .. } => id.clone(),
        }
    }
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Something outside that is asked for warnings.
pub trait Source: Send {
    /// What it remembers between polls and over a restart.
    type State: Serialize + DeserializeOwned + Send;

    /// Its name in logs and states.
    fn name(&self) -> &str;

    /// Asks it once. A source that cannot be asked gives nothing and is stale.
    fn poll(&mut self, now: Timestamp) -> impl Future<Output = Vec<Publication>> + Send;

    /// Takes back a message that the bus refused for good.
    fn refused(&mut self, id: &AlertId);

    /// What it remembers now.
    fn state(&self) -> &Self::State;

    /// Sets what it remembers.
    fn restore(&mut self, state: Self::State);

    /// Whether it answers.
    fn health(&self) -> &Health;
}

/// Whether a source answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Health {
    /// Not asked yet.
    #[default]
    Starting,
    /// It answered, and the answer was new enough.
    Fresh {
        /// When the answer was taken.
        taken: Timestamp,
    },
    /// It does not answer, or not in a way that can be used. Nothing is concluded from it.
    Stale {
        /// Since when.
        since: Timestamp,
        /// Why, and what to do.
        reason: String,
    },
}

impl Health {
    /// Whether the source is stale.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Stale { .. })
    }

    pub(crate) fn fresh(&mut self, name: &str, taken: Timestamp) {
        if let Self::Stale { since, .. } = self {
            info!(source = name, %since, "Source answers again");
        }
        *self = Self::Fresh { taken };
    }

    pub(crate) fn stale(&mut self, name: &str, reason: &str, now: Timestamp) {
        let since = if let Self::Stale { since, .. } = self { *since } else { now };
        if since == now {
            warn!(source = name, %reason, "Source is stale; nothing is published from it and nothing ended");
        }
        *self = Self::Stale { since, reason: reason.into() };
    }
}

/// An error and its causes in one sentence.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        sentence.push_str(": ");
        sentence.push_str(&cause.to_string());
        next = cause.source();
    }
    sentence
}
