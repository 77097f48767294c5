//! The directory of a federation: etcd, used as a hint and never as an authority.
//!
//! ```text
//! /campanile/<federation>/nodes/<department>/<node>      leased; the hint's envelope
//!                        /roster/v<number, 20 digits>    the roster's envelope
//!                        /values/<key>                   whatever its owner compares and sets
//! ```
//!
//! Two tasks run for as long as the directory lives: `register` keeps the own hint under a lease, `lister` lists and
//! then watches. Each owns its connection and builds a new one after any failure (certificates are read again then),
//! since streams of this client die with the server and never come back by themselves. Every call has a deadline;
//! back-off is jittered and capped; `require_leader` is on, or a watch on a cut-off member would hang in silence.
//! Connecting proves nothing, because the client connects at the first call.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use campanile_alert::OriginId;
use etcd_client::{
    Certificate, Channel, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity, SortOrder, SortTarget,
    TlsOptions, Txn, TxnOp, TxnOpResponse,
};
use rand::Rng as _;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::{
    Announcement, Directory, DirectoryHealth, Error, Listing, Monitor, PutOutcome, UPDATES_MAX, Update, VALUES_MAX,
    check_name, check_value,
};
use crate::roster::read_bounded;

mod lister;
mod register;

/// The longest message taken from etcd, in bytes: all hints of a large federation, or one roster.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// The longest certificate, key or password file, in bytes.
const FILE_BYTES_MAX: usize = 64 << 10;
/// The longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// HTTP/2 pings: the interval is above the 5 s under which etcd drops a client for pinging too much.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// How to reach etcd.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdConfig {
    /// URLs, for example `https://etcd-1.example:2379`; at least one.
    pub endpoints: Vec<String>,
    /// How long a registration outlives its node, in seconds; from 1 to 3,600, and 30 by default.
    #[serde(default = "ttl_s_default")]
    pub ttl_s: u32,
    /// How long one call may take, in milliseconds; from 100 to 60,000, and 3,000 by default.
    #[serde(default = "timeout_ms_default")]
    pub timeout_ms: u64,
    /// Certificates; needed with `https` URLs of a private CA.
    #[serde(default)]
    pub tls: Option<EtcdTls>,
    /// The etcd user; better leave it out, and let the certificate's common name be the user.
    #[serde(default)]
    pub user: Option<String>,
    /// The file that holds the user's password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

impl EtcdConfig {
    /// One server by its URL, everything else by default.
    pub fn at(url: &str) -> Self {
        Self {
            endpoints: vec![url.into()],
            ttl_s: ttl_s_default(),
            timeout_ms: timeout_ms_default(),
            tls: None,
            user: None,
            password_file: None,
        }
    }
}

/// Files for TLS with etcd. They are read again at each connection.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdTls {
    /// The CA of the servers, in PEM.
    pub ca: PathBuf,
    /// The own certificate, in PEM.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// Its key, in PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The name that the servers' certificates must bear; absent means the host of the URL.
    #[serde(default)]
    pub domain: Option<String>,
}

fn ttl_s_default() -> u32 {
    30
}

fn timeout_ms_default() -> u64 {
    3000
}

impl EtcdConfig {
    /// Plain access to these endpoints, with the defaults for the rest.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            ttl_s: ttl_s_default(),
            timeout_ms: timeout_ms_default(),
            tls: None,
            user: None,
            password_file: None,
        }
    }
}

impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may carry a password, so only the number of endpoints is shown.
        write!(f, "EtcdConfig({} endpoints, ttl {} s)", self.endpoints.len(), self.ttl_s)
    }
}

/// What a directory in etcd takes from outside itself. A node takes the machine's ([`Machine`]); the simulation passes its
/// own, so that one seed gives one run.
pub trait Surroundings: Send + Sync + fmt::Debug {
    /// A way to etcd; absent means a connection to the endpoints of the configuration.
    fn channel(&self) -> Option<Channel>;

    /// A random factor from one half to one, for the wait between two tries.
    fn jitter(&self) -> f64;
}

/// The machine's own: its network and its entropy.
#[derive(Debug, Clone, Copy)]
pub struct Machine;

impl Surroundings for Machine {
    fn channel(&self) -> Option<Channel> {
        None
    }

    fn jitter(&self) -> f64 {
        rand::rng().random_range(0.5..=1.0)
    }
}

/// What the tasks and the handle share.
#[derive(Debug)]
struct Shared {
    surroundings: Arc<dyn Surroundings>,
    config: EtcdConfig,
    prefix: String,
    monitor: Monitor,
}

impl Shared {
    fn ttl(&self) -> Duration {
        Duration::from_secs(u64::from(self.config.ttl_s))
    }

    /// A third of the lease: the pace of renewals and of signs of life.
    fn beat(&self) -> Duration {
        self.ttl() / 3
    }

    /// The deadline of one call. It is never longer than a beat needs, so that a lost lease is noticed in time.
    fn timeout(&self) -> Duration {
        Duration::from_millis(self.config.timeout_ms).min(self.ttl().max(Duration::from_secs(1)))
    }

    fn nodes(&self) -> String {
        format!("{}nodes/", self.prefix)
    }

    fn rosters(&self) -> String {
        format!("{}roster/", self.prefix)
    }

    fn node_key(&self, origin: &OriginId) -> String {
        format!("{}{origin}", self.nodes())
    }

    fn origin_of(&self, key: &[u8]) -> Option<OriginId> {
        std::str::from_utf8(key).ok()?.strip_prefix(&self.nodes())?.parse().ok()
    }

    /// Runs one call that etcd answers, within its deadline.
    async fn call<T>(&self, what: &str, call: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, Error> {
        let out = self.within(what, call).await;
        if out.is_ok() {
            self.monitor.contact();
        }
        out
    }

    /// Runs one step within the deadline of a call. That it went well proves nothing about etcd.
    async fn within<T>(
        &self,
        what: &str,
        step: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Error> {
        let reason = match tokio::time::timeout(self.timeout(), step).await {
            Ok(Ok(out)) => return Ok(out),
            Ok(Err(error)) => format!("{what}: {error}"),
            Err(_) => format!("{what}: no answer within {} ms", self.timeout().as_millis()),
        };
        self.monitor.failed(&reason);
        Err(self.unavailable(reason))
    }

    fn unavailable(&self, reason: String) -> Error {
        Error::Unavailable { place: "etcd".into(), reason }
    }

    /// Builds a client. Nothing is proven yet: it connects at its first call.
    async fn connect(&self) -> Result<Client, Error> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.timeout())
            .with_keep_alive(PING.0, PING.1)
            .with_keep_alive_while_idle(false)
            .with_require_leader(!crate::mutant("no-require-leader"))
            .with_auto_token_refresh(true);
        let read = |path: &PathBuf| {
            read_bounded(path, FILE_BYTES_MAX)
                .map_err(|e| self.unavailable(format!("failed to read {}: {e}", path.display())))
        };
        if let Some(tls) = &self.config.tls {
            let mut etcd_tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(&tls.ca)?));
            if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
                etcd_tls = etcd_tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
            }
            if let Some(domain) = &tls.domain {
                etcd_tls = etcd_tls.domain_name(domain);
            }
            options = options.with_tls(etcd_tls);
        }
        if let (Some(user), Some(file)) = (&self.config.user, &self.config.password_file) {
            let password = String::from_utf8_lossy(&read(file)?).trim().to_owned();
            options = options.with_user(user, password);
        }
        match self.surroundings.channel() {
            Some(channel) => self.within("connect", Client::from_channel(channel, Some(options))).await,
            None => self.within("connect", Client::connect(&self.config.endpoints, Some(options))).await,
        }
    }
}

/// Waits between tries: doubling, jittered by half, capped; back to the start after a success.
#[derive(Debug)]
struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);

    /// The cap is 10 s, or half a lease where that is shorter, so that a registration heals within two.
    fn new(ttl: Duration) -> Self {
        Self { next: Self::FIRST, max: BACKOFF_MAX.min(ttl / 2).max(Self::FIRST) }
    }

    fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    async fn wait(&mut self, shared: &Shared) {
        let wait = self.next.mul_f64(shared.surroundings.jitter());
        self.next = (self.next * 2).min(self.max);
        tokio::time::sleep(wait).await;
    }
}

/// etcd as directory.
#[derive(Debug)]
pub struct EtcdDirectory {
    shared: Arc<Shared>,
    own: watch::Sender<Option<Announcement>>,
    registrar: JoinHandle<()>,
    /// For the calls of the handle itself; built at the first, and again after a failure.
    client: ClientSlot,
}

/// `Client` shows nothing of itself, so neither does its slot.
struct ClientSlot(tokio::sync::Mutex<Option<Client>>);

impl fmt::Debug for ClientSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSlot")
    }
}

impl Drop for EtcdDirectory {
    fn drop(&mut self) {
        // The lease then runs out by itself; `withdraw` is the polite way.
        self.registrar.abort();
    }
}

impl EtcdDirectory {
    /// Opens the directory of a federation. etcd need not be there yet. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the configuration has no endpoint or a number outside its range.
    pub fn open(config: EtcdConfig, federation: &str) -> Result<Self, Error> {
        Self::open_within(Arc::new(Machine), config, federation)
    }

    /// As [`EtcdDirectory::open`], with other surroundings than the machine's.
    ///
    /// # Errors
    /// As [`EtcdDirectory::open`].
    pub fn open_within(
        surroundings: Arc<dyn Surroundings>,
        config: EtcdConfig,
        federation: &str,
    ) -> Result<Self, Error> {
        if config.endpoints.is_empty() {
            return Err(Error::Invalid("etcd needs at least one endpoint; give URLs under `endpoints`".into()));
        }
        if !(1..=3600).contains(&config.ttl_s) || !(100..=60_000).contains(&config.timeout_ms) {
            return Err(Error::Invalid("etcd's ttl_s must be 1 to 3600, and timeout_ms 100 to 60000".into()));
        }
        check_name(federation)?;
        let prefix = format!("/campanile/{federation}/");
        let shared = Arc::new(Shared { surroundings, config, prefix, monitor: Monitor::default() });
        let (own, wanted) = watch::channel(None);
        let registrar = tokio::spawn(register::run(shared.clone(), wanted));
        Ok(Self { shared, own, registrar, client: ClientSlot(tokio::sync::Mutex::new(None)) })
    }

    async fn client(&self) -> Result<Client, Error> {
        let mut held = self.client.0.lock().await;
        if let Some(client) = &*held {
            return Ok(client.clone());
        }
        let client = self.shared.connect().await?;
        *held = Some(client.clone());
        Ok(client)
    }

    /// Runs one call of the handle, and forgets the client when it fails.
    async fn call<T>(&self, what: &str, call: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, Error> {
        let out = self.shared.call(what, call).await;
        if out.is_err() {
            *self.client.0.lock().await = None;
        }
        out
    }

    fn values(&self, folder: &str) -> Result<String, Error> {
        check_name(folder)?;
        Ok(format!("{}values/{folder}/", self.shared.prefix))
    }
}

/// The options that list the newest roster alone: numbers have a fixed width, so the greatest key is the newest.
fn newest_roster_options() -> GetOptions {
    GetOptions::new().with_prefix().with_sort(SortTarget::Key, SortOrder::Descend).with_limit(1)
}

#[async_trait]
impl Directory for EtcdDirectory {
    fn announce(&self, origin: OriginId, instance: String, envelope: Vec<u8>) {
        self.own.send_replace(Some(Announcement { origin, instance, envelope }));
    }

    async fn withdraw(&self) {
        self.own.send_replace(None);
        // The registrar revokes the lease; it gets one call's time to do so.
        let gone = async {
            while self.shared.monitor.health().registered {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(self.shared.timeout(), gone).await.is_err() {
            tracing::debug!("Registration left to its lease");
        }
    }

    fn watch(&self) -> mpsc::Receiver<Update> {
        let (to, updates) = mpsc::channel(UPDATES_MAX);
        tokio::spawn(lister::run(self.shared.clone(), to));
        updates
    }

    async fn roster(&self) -> Result<Option<Vec<u8>>, Error> {
        let mut kv = self.client().await?.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
        let found = self.call("get", kv.get(self.shared.rosters(), Some(newest_roster_options()))).await?;
        Ok(found.kvs().first().map(|kv| kv.value().to_vec()))
    }

    async fn publish_roster(&self, number: u64, envelope: &[u8]) -> Result<(), Error> {
        let key = format!("{}v{number:020}", self.shared.rosters());
        let mut kv = self.client().await?.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
        let txn = Txn::new()
            .when([Compare::version(key.as_str(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key.as_str(), envelope, None)])
            .or_else([TxnOp::get(key.as_str(), None)]);
        let answer = self.call("put", kv.txn(txn)).await?;
        let same = answer.op_responses().iter().any(|response| match response {
            TxnOpResponse::Get(found) => found.kvs().iter().any(|kv| kv.value() == envelope),
            _ => false,
        });
        if answer.succeeded() || same { Ok(()) } else { Err(Error::RosterConflict(number)) }
    }

    async fn list(&self, folder: &str) -> Result<Listing, Error> {
        let prefix = self.values(folder)?;
        let mut kv = self.client().await?.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
        let options = GetOptions::new().with_prefix().with_limit(i64::try_from(VALUES_MAX).unwrap_or(i64::MAX));
        let found = self.call("list", kv.get(prefix.as_str(), Some(options))).await?;
        let name = |key: &[u8]| Some(std::str::from_utf8(key).ok()?.strip_prefix(&prefix)?.to_owned());
        let values = found.kvs().iter().filter_map(|kv| Some((name(kv.key())?, kv.value().to_vec()))).collect();
        Ok(Listing { revision: found.header().map_or(0, |header| header.revision().unsigned_abs()), values })
    }

    async fn put_unless_changed(
        &self,
        folder: &str,
        revision: u64,
        name: &str,
        bytes: &[u8],
    ) -> Result<PutOutcome, Error> {
        let prefix = self.values(folder)?;
        check_name(name)?;
        check_value(bytes)?;
        let mut kv = self.client().await?.kv_client();
        // One comparison over the whole prefix: no key below it, old or new, has changed since the listing.
        let after = i64::try_from(revision).unwrap_or(i64::MAX).saturating_add(1);
        let unchanged = Compare::mod_revision(prefix.as_str(), CompareOp::Less, after).with_prefix();
        let txn = Txn::new().when([unchanged]).and_then([TxnOp::put(format!("{prefix}{name}"), bytes, None)]);
        let answer = self.call("put", kv.txn(txn)).await?;
        Ok(if answer.succeeded() { PutOutcome::Done } else { PutOutcome::Changed })
    }

    fn health(&self) -> DirectoryHealth {
        self.shared.monitor.health()
    }
}
