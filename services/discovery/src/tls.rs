//! Mutual TLS in which each department's CA vouches for that department alone.
//!
//! There is no pooled root store. A verifier reads the department from the leaf's identity and accepts only a chain to
//! the CAs that the roster *in force* lists for it; rosters and certificates are looked up at each handshake, so both
//! change without a restart. The crypto provider (ring) is handed in everywhere; nothing relies on a process default.
//!
//! TLS checks only at the handshake: ask [`TlsMaterial::still_good`] of open connections when the roster changes, and
//! close them at the certificate's end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use campanile_alert::{Clock, DepartmentId, OriginId};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::identity::{self, PeerIdentity, PeerKind, SpiffeId};
use crate::roster::RosterHandle;
use crate::roster::read_bounded;

mod connect;
mod verifier;

pub use connect::{Acceptor, Connector, Timeouts};
use verifier::{ClockTime, Identities, Verifier};

/// The longest certificate or key file, in bytes.
const PEM_BYTES_MAX: usize = 256 << 10;
/// The protocol that every connection speaks inside TLS.
const ALPN: &[u8] = b"h2";

/// Why a certificate, a connection or new material was refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("failed to read {path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's or the parser's reason.
        reason: String,
    },
    /// The certificate has no usable identity.
    #[error("the certificate was refused")]
    Identity(#[from] identity::Error),
    /// The key and the certificate do not belong together.
    #[error("the private key does not belong to the certificate of {0}; the two files are from different renewals")]
    KeyMismatch(String),
    /// The department is not in the roster.
    #[error("roster {roster} does not list the department {department}")]
    UnknownDepartment {
        /// The roster asked.
        roster: u64,
        /// The department in the leaf.
        department: DepartmentId,
    },
    /// Not vouched for by the department it names, expired, not yet valid, or for another use.
    #[error("the certificate of {id} was refused under roster {roster}: {reason}")]
    Chain {
        /// The identity that the leaf claims.
        id: String,
        /// The roster asked.
        roster: u64,
        /// Why.
        reason: String,
    },
    /// Revoked by the roster.
    #[error("the certificate {serial} of {id} is revoked by roster {roster}")]
    Revoked {
        /// The identity in the leaf.
        id: String,
        /// Its serial number.
        serial: String,
        /// The roster asked.
        roster: u64,
    },
    /// Somebody else answered.
    #[error("{found} answered where {wanted} was called; check the address in the directory")]
    OtherPeer {
        /// Who answered.
        found: String,
        /// Who was called.
        wanted: String,
    },
    /// A replacement certificate is for another identity.
    #[error("the new certificate is for {found}, this process is {held}; put the right file in place")]
    OtherSelf {
        /// Whom it names.
        found: String,
        /// Who this process is.
        held: String,
    },
    /// rustls refused a configuration or a handshake.
    #[error("tls failed: {0}")]
    Tls(String),
    /// The connection could not be made.
    #[error("failed to connect to {address}: {reason}")]
    Connect {
        /// Where to.
        address: String,
        /// The system's reason.
        reason: String,
    },
    /// The other side took too long.
    #[error("{0} took longer than its limit")]
    Timeout(&'static str),
}

/// A certificate chain with its private key, read but not yet judged.
#[derive(Debug, Clone)]
pub struct Identity {
    peer: PeerIdentity,
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Reads a chain (leaf first) and a PKCS#8 key from PEM texts.
    ///
    /// # Errors
    /// [`Error`] when either cannot be read, they do not belong together, or the leaf has no one identity.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Error> {
        let unreadable = |what: &str, e: rustls_pki_types::pem::Error| Error::Tls(format!("{what}: {e:?}"));
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|e| unreadable("the certificate file is not PEM", e))?;
        // The parser's error is left out of the message: it must not echo any of the key.
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| Error::Tls("the key file holds no private key in PEM".into()))?;
        let peer = PeerIdentity::read(&chain)?;
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|_| Error::Tls("the private key is of a kind that cannot be used".into()))?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| Error::KeyMismatch(peer.spiffe().to_string()))?;
        Ok(Self { peer, certified: Arc::new(certified) })
    }

    /// Reads the two files.
    ///
    /// # Errors
    /// [`Error`] as for [`Identity::from_pem`], and [`Error::File`] when a file cannot be read.
    pub fn load(files: &IdentityFiles) -> Result<Self, Error> {
        Self::from_pem(&read(&files.chain)?, &read(&files.key)?)
    }

    /// What the leaf says.
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }
}

/// Where a process keeps its certificate chain and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The chain in PEM, leaf first.
    pub chain: PathBuf,
    /// The private key in PEM.
    pub key: PathBuf,
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    read_bounded(path, PEM_BYTES_MAX).map_err(|e| Error::File { path: path.into(), reason: e.to_string() })
}

/// Whom a connection must reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// This node and no other.
    Origin(OriginId),
    /// Any node of this department.
    Department(DepartmentId),
}

/// A process's own certificate and its view of everybody else's, both exchangeable while it runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TlsMaterial(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: Option<IdentityFiles>,
    identity: Arc<ArcSwap<Identity>>,
    roster: RosterHandle,
    clock: Arc<dyn Clock>,
    server: Arc<ServerConfig>,
}

impl TlsMaterial {
    /// Takes an identity held in memory.
    ///
    /// # Errors
    /// [`Error`] when the certificate is not good under the roster in force.
    pub fn new(identity: Identity, roster: RosterHandle, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Self::build(identity, None, roster, clock)
    }

    /// Reads the identity from files, which [`TlsMaterial::reload`] reads again.
    ///
    /// # Errors
    /// [`Error`] when the files cannot be read, or the certificate is not good under the roster in force.
    pub fn open(files: IdentityFiles, roster: RosterHandle, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Self::build(Identity::load(&files)?, Some(files), roster, clock)
    }

    fn build(
        identity: Identity,
        files: Option<IdentityFiles>,
        roster: RosterHandle,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let verifier = Verifier::new(roster.clone(), clock.clone(), None);
        verifier.judge_own(&identity)?;
        let identity = Arc::new(ArcSwap::from_pointee(identity));
        // TLS 1.2 is for clients of other makes; the acceptor refuses it from nodes.
        let mut server = ServerConfig::builder_with_details(provider(), Arc::new(ClockTime(clock.clone())))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|e| Error::Tls(e.to_string()))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(Identities(identity.clone())));
        server.alpn_protocols = vec![ALPN.to_vec()];
        // No resumption: a resumed session would skip the judgement of the roster in force.
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self(Arc::new(Inner { files, identity, roster, clock, server: Arc::new(server) })))
    }

    /// Reads the files again. The new certificate is judged before it takes over; on failure the old one stays.
    ///
    /// # Errors
    /// [`Error`] when a file cannot be read, the pair does not match, the identity differs or is not good. Without
    /// files there is nothing to read, and nothing happens.
    pub fn reload(&self) -> Result<(), Error> {
        match &self.0.files {
            Some(files) => self.replace(Identity::load(files)?),
            None => Ok(()),
        }
    }

    /// Puts another certificate of the same identity in place, once it is judged good.
    ///
    /// # Errors
    /// [`Error::OtherSelf`] for another identity, otherwise as the judgement says; the old one stays.
    pub fn replace(&self, identity: Identity) -> Result<(), Error> {
        let (held, found) = (self.identity().peer().spiffe(), identity.peer().spiffe());
        if held != found {
            return Err(Error::OtherSelf { found: found.to_string(), held: held.to_string() });
        }
        Verifier::new(self.0.roster.clone(), self.0.clock.clone(), None).judge_own(&identity)?;
        self.0.identity.store(Arc::new(identity));
        Ok(())
    }

    /// The certificate in use.
    pub fn identity(&self) -> Arc<Identity> {
        self.0.identity.load_full()
    }

    /// The rosters that decide.
    pub fn roster(&self) -> &RosterHandle {
        &self.0.roster
    }

    /// The clock that decides.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Judges a peer again, by the roster in force and the clock: for connections that stay open.
    ///
    /// # Errors
    /// [`Error`] when a handshake would be refused now.
    pub fn still_good(&self, peer: &PeerIdentity) -> Result<(), Error> {
        let verifier = Verifier::new(self.0.roster.clone(), self.0.clock.clone(), None);
        verifier.judge(peer.chain(), verifier::Usage::Client).map(drop)
    }

    /// The configuration of the accepting side; certificates and rosters are looked up at each handshake.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.0.server.clone()
    }

    /// The configuration of a connection to `expect`: TLS 1.3, no resumption.
    ///
    /// # Errors
    /// [`Error::Tls`] when rustls refuses it.
    pub fn client_config(&self, expect: Expect) -> Result<Arc<ClientConfig>, Error> {
        let verifier = Verifier::new(self.0.roster.clone(), self.0.clock.clone(), Some(expect));
        let mut config = ClientConfig::builder_with_details(provider(), Arc::new(ClockTime(self.0.clock.clone())))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| Error::Tls(e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(Identities(self.0.identity.clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// ring, handed to rustls by value: no process default is set or needed.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Judges whether `chain` (leaf first) is a certificate of `id` that one of `cas` (PEM) vouches for at `now`.
///
/// For requests to join, where no roster lists the CA yet.
///
/// # Errors
/// [`Error`] when it is not.
pub(crate) fn vouched(
    chain: &[CertificateDer<'_>],
    id: &SpiffeId,
    cas: &[CertificateDer<'_>],
    now: campanile_alert::Timestamp,
) -> Result<(), Error> {
    let peer = PeerIdentity::read(chain)?;
    if &peer.spiffe() != id {
        return Err(Error::OtherPeer { found: peer.spiffe().to_string(), wanted: id.to_string() });
    }
    let refuse = |e: webpki::Error| Error::Tls(e.to_string());
    let anchors: Vec<_> = cas.iter().map(webpki::anchor_from_trusted_cert).collect::<Result<_, _>>().map_err(refuse)?;
    let usage = if peer.kind == PeerKind::Node { verifier::Usage::Server } else { verifier::Usage::Client };
    verifier::chain(chain, &anchors, now, usage).map_err(|reason| Error::Chain {
        id: id.to_string(),
        roster: 0,
        reason,
    })
}
