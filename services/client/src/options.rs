//! What a client needs to know to connect: where, as whom, whom to expect, and how patient to be.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use campanile_alert::Clock;
use campanile_discovery::{Expect, Identity, RosterHandle, SystemClock, TlsMaterial};

use crate::Error;
use crate::backoff::Attempts;

/// The largest message that is sent or taken, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// As whom to connect, and by what to know the node.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// By the federation's roster: each department's CAs vouch for that department alone.
    Roster(TlsMaterial),
    /// By the CAs of one's own department, where a client has no roster.
    Roots(Roots),
}

impl Credentials {
    /// Judges the node by the roster in force.
    ///
    /// # Errors
    /// [`Error`] when the certificate is not good under the roster.
    pub fn roster(identity: Identity, roster: RosterHandle, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        TlsMaterial::new(identity, roster, clock).map(Self::Roster).map_err(|e| Error::options(e.to_string()))
    }

    /// Judges the node by one's own department's CAs.
    pub fn roots(chain_pem: Vec<u8>, key_pem: Vec<u8>, roots_pem: Vec<u8>) -> Self {
        let clock = Arc::new(SystemClock);
        Self::Roots(Roots { chain_pem, key_pem, roots_pem, server_name: None, clock })
    }
}

/// A certificate with its key and the CAs that vouch for the node, all in PEM.
#[derive(Clone)]
pub struct Roots {
    /// The client's certificate chain, leaf first.
    pub chain_pem: Vec<u8>,
    /// Its private key, PKCS#8. Never shown.
    pub key_pem: Vec<u8>,
    /// The CAs of the node's department.
    pub roots_pem: Vec<u8>,
    /// The DNS name to look for in the node's certificate; absent means the host of the endpoint.
    pub server_name: Option<String>,
    /// By which time certificates are judged.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots").field("key_pem", &"***").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// How long to wait for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection, TLS included.
    pub connect: Duration,
    /// For the answer to one call, and for the opening of a stream.
    pub call: Duration,
    /// For the next sign of life on a watched stream; the node gives one every 5 s.
    pub silence: Duration,
    /// Between two HTTP/2 pings, also while nothing is asked.
    pub ping: Duration,
    /// For the answer to a ping; then the connection is given up.
    pub pong: Duration,
}

impl Default for Timeouts {
    /// 5 s to connect, 10 s a call, 15 s of silence, a ping each 10 s with 5 s for its answer.
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { connect: s(5), call: s(10), silence: s(15), ping: s(10), pong: s(5) }
    }
}

/// Everything [`Client::connect`](crate::Client::connect) needs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Host and port of the node, for example `node-1.edb.example:7443`; a leading `https://` may be given.
    pub endpoint: String,
    /// As whom, and by what the node is known.
    pub credentials: Credentials,
    /// Who must answer there; anyone else is refused.
    pub expect: Expect,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How often a call is made that is safe to repeat: publish and everything that only reads.
    pub calls: Attempts,
    /// How often a broken stream is opened again, counted from its last message.
    pub streams: Attempts,
}

impl Options {
    /// Options with the usual patience: 5 attempts a call; streams for about 10 minutes, 10 s apart at most.
    pub fn new(endpoint: impl Into<String>, credentials: Credentials, expect: Expect) -> Self {
        Self {
            endpoint: endpoint.into(),
            credentials,
            expect,
            timeouts: Timeouts::default(),
            calls: Attempts { attempts_max: 5, backoff_ms_first: 100, backoff_ms_max: 2_000 },
            streams: Attempts { attempts_max: 80, backoff_ms_first: 100, backoff_ms_max: 10_000 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_never_shown() {
        let shown = format!("{:?}", Credentials::roots(b"chain".into(), b"SECRET".into(), b"roots".into()));
        assert!(shown.contains("***") && !shown.contains("SECRET") && !shown.contains("83, 69"), "{shown}");
    }
}
