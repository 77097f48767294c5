//! The verifier of both sides, and the small adapters that rustls asks for.

use std::sync::Arc;

use arc_swap::ArcSwap;
use campanile_alert::{Clock, Timestamp};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::{Error, Expect, Identity, provider};
use crate::identity::{PeerIdentity, PeerKind};
use crate::roster::RosterHandle;

/// The most intermediates that a peer may send; ours send none.
const INTERMEDIATES_MAX: usize = 3;

/// The side of the connection that a certificate is shown on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    Server,
    Client,
}

impl Usage {
    fn eku(self) -> KeyUsage {
        // Required, not "required if present": a certificate without the extension is for anything, hence for nothing.
        // The bytes are the object identifiers 1.3.6.1.5.5.7.3.1 and .2.
        match self {
            Self::Server => KeyUsage::required(&[0x2b, 6, 1, 5, 5, 7, 3, 1]),
            Self::Client => KeyUsage::required(&[0x2b, 6, 1, 5, 5, 7, 3, 2]),
        }
    }
}

/// Judges certificates by the roster in force.
#[derive(Debug)]
pub(super) struct Verifier {
    roster: RosterHandle,
    clock: Arc<dyn Clock>,
    expect: Option<Expect>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(roster: RosterHandle, clock: Arc<dyn Clock>, expect: Option<Expect>) -> Self {
        Self { roster, clock, expect, algorithms: provider().signature_verification_algorithms }
    }

    /// Judges a chain, leaf first: identity, then that department's CAs alone, then revocation.
    pub(super) fn judge(&self, certificates: &[CertificateDer<'_>], usage: Usage) -> Result<PeerIdentity, Error> {
        let peer = PeerIdentity::read(certificates)?;
        let roster = self.roster.current();
        let number = roster.number;
        if roster.department(&peer.department).is_none() {
            return Err(Error::UnknownDepartment { roster: number, department: peer.department });
        }
        let all = || roster.departments.iter().flat_map(|department| roster.trust_anchors(&department.id)).cloned();
        let merged: Vec<TrustAnchor<'_>> = if crate::mutant("merge-ca-bundles") { all().collect() } else { Vec::new() };
        let own = roster.trust_anchors(&peer.department);
        let anchors = if merged.is_empty() { own } else { &merged };
        let id = peer.spiffe().to_string();
        chain(certificates, anchors, self.clock.now(), usage).map_err(|reason| Error::Chain {
            id: id.clone(),
            roster: number,
            reason,
        })?;
        if roster.is_revoked(&peer.department, &peer.serial) {
            return Err(Error::Revoked { id, serial: peer.serial, roster: number });
        }
        Ok(peer)
    }

    /// Judges one's own certificate as every peer will: a node's for both sides, a client's for one.
    pub(super) fn judge_own(&self, identity: &Identity) -> Result<(), Error> {
        let certificates = identity.peer.chain();
        if identity.peer.kind == PeerKind::Node {
            self.judge(certificates, Usage::Server)?;
        }
        self.judge(certificates, Usage::Client).map(drop)
    }

    fn judge_server(&self, certificates: &[CertificateDer<'_>]) -> Result<(), Error> {
        let peer = self.judge(certificates, Usage::Server)?;
        let (wanted, fits) = match &self.expect {
            Some(Expect::Origin(origin)) => (origin.to_string(), peer.origin().as_ref() == Some(origin)),
            Some(Expect::Department(d)) => {
                (format!("a node of {d}"), &peer.department == d && peer.kind == PeerKind::Node)
            }
            None => ("nobody".into(), false),
        };
        if fits { Ok(()) } else { Err(Error::OtherPeer { found: peer.spiffe().to_string(), wanted }) }
    }
}

/// Checks a chain against anchors: signatures, time and extended key usage. The reason is a sentence without the name.
pub(super) fn chain(
    certificates: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    now: Timestamp,
    usage: Usage,
) -> Result<(), String> {
    let (leaf, intermediates) = certificates.split_first().ok_or("there is none")?;
    if intermediates.len() > INTERMEDIATES_MAX {
        return Err(format!(
            "{} intermediate certificates came with it, more than {INTERMEDIATES_MAX}",
            intermediates.len()
        ));
    }
    let leaf = EndEntityCert::try_from(leaf).map_err(|e| e.to_string())?;
    let seconds = u64::try_from(now.as_second()).map_err(|_| "the clock stands before 1970".to_owned())?;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let algorithms = provider().signature_verification_algorithms.all;
    match leaf.verify_for_usage(algorithms, anchors, intermediates, time, usage.eku(), None, None) {
        Ok(_) => Ok(()),
        Err(webpki::Error::CertExpired { .. }) => Err("it has expired; renew it".into()),
        Err(webpki::Error::CertNotValidYet { .. }) => Err("it is not valid yet; check the clocks".into()),
        Err(webpki::Error::UnknownIssuer) => {
            Err("no CA that the roster lists for its department vouches for it".into())
        }
        Err(e) => Err(e.to_string()),
    }
}

fn refused(error: Error) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

fn joined<'c>(leaf: &CertificateDer<'c>, rest: &[CertificateDer<'c>]) -> Vec<CertificateDer<'c>> {
    std::iter::once(leaf).chain(rest).cloned().collect()
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: which CAs count depends on the department, and a client has one certificate anyway.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.judge(&joined(end_entity, intermediates), Usage::Client) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(error) => Err(refused(error)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name in the URI identifies a node, not its address, which is only a hint and may change.
        match self.judge_server(&joined(end_entity, intermediates)) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => Err(refused(error)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Gives whichever certificate is in place at the moment of the handshake.
#[derive(Debug)]
pub(super) struct Identities(pub(super) Arc<ArcSwap<Identity>>);

impl ResolvesServerCert for Identities {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().certified.clone())
    }
}

impl ResolvesClientCert for Identities {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The injected clock, as rustls wants it.
#[derive(Debug)]
pub(super) struct ClockTime(pub(super) Arc<dyn Clock>);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}
