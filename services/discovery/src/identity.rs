//! Who stands at the other end: names in certificates, and what is read from one.
//!
//! A certificate names exactly one identity, `spiffe://<department>/node/<name>` or `…/client/<name>`, as its only URI.
//! A client's roles stand in the subject as organizational units `role:publish` and so on: several units, or several
//! words in one. Reading says nothing about trust; [`crate::tls`] decides that.
//!
//! Source: SPIFFE X509-SVID §2 and §5.2 (one URI SAN, or refuse).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use campanile_alert::{DepartmentId, OriginId, Timestamp};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;

use crate::roster::ClientId;

/// What a certificate's holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerKind {
    /// A node or gateway.
    Node,
    /// A person's or a system's client.
    Client,
}

/// What a client may do at its own department's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Publish alerts.
    Publish,
    /// Approve effects, and cancel them.
    Approve,
    /// Read alerts.
    Read,
    /// Operate the node.
    Administer,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Publish, Self::Approve, Self::Read, Self::Administer];

    /// The word in certificates and on the command line, for example `publish`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Approve => "approve",
            Self::Read => "read",
            Self::Administer => "administer",
        }
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| Error::Role(text.chars().take(40).collect()))
    }
}

/// Why a certificate has no identity here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Encoding(String),
    /// No URI, or more than one.
    #[error("the certificate names {0} URIs; it must name exactly one, spiffe://department/node/name")]
    UriCount(usize),
    /// A URI of another form.
    #[error("{0:?} is not an identity; it must be spiffe://department/node/name or spiffe://department/client/name")]
    Uri(String),
    /// No such role.
    #[error("{0:?} is not a role; there are publish, approve, read and administer")]
    Role(String),
}

/// The identity in a certificate, as its URI says it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// The trust domain: whose CA must vouch.
    pub department: DepartmentId,
    /// Node or client.
    pub kind: PeerKind,
    /// The name in the department.
    pub name: String,
}

impl SpiffeId {
    /// The identity of a node.
    pub fn node(origin: &OriginId) -> Self {
        Self { department: origin.department().clone(), kind: PeerKind::Node, name: origin.node().into() }
    }

    /// The identity of a client.
    pub fn client(client: &ClientId) -> Self {
        Self { department: client.department().clone(), kind: PeerKind::Client, name: client.name().into() }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            PeerKind::Node => "node",
            PeerKind::Client => "client",
        };
        write!(f, "spiffe://{}/{kind}/{}", self.department, self.name)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SpiffeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = || Error::Uri(text.chars().take(120).collect());
        let mut parts = text.strip_prefix("spiffe://").ok_or_else(refuse)?.split('/');
        let (Some(department), Some(kind), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse());
        };
        let department = DepartmentId::try_new(department).map_err(|_| refuse())?;
        let origin = OriginId::try_new(department, name).map_err(|_| refuse())?;
        match kind {
            "node" => Ok(Self::node(&origin)),
            "client" => Ok(Self { kind: PeerKind::Client, ..Self::node(&origin) }),
            _ => Err(refuse()),
        }
    }
}

/// What a certificate says of its holder. Trust it only where the TLS layer handed it out.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The department whose CA vouches.
    pub department: DepartmentId,
    /// Node or client.
    pub kind: PeerKind,
    /// The name in the department.
    pub name: String,
    /// What a client may do; unknown words are passed over, a node has none.
    pub roles: BTreeSet<Role>,
    /// The serial number in lower-case hexadecimal, without leading zeros.
    pub serial: String,
    /// When the certificate ends.
    pub not_after: Timestamp,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    chain: Arc<[CertificateDer<'static>]>,
}

impl PeerIdentity {
    /// Reads a chain, leaf first.
    ///
    /// # Errors
    /// [`Error`] when the leaf is missing or unreadable, or does not name exactly one identity.
    pub fn read(chain: &[CertificateDer<'_>]) -> Result<Self, Error> {
        let leaf = chain.first().ok_or_else(|| Error::Encoding("there is none".into()))?;
        let (rest, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|e| Error::Encoding(e.to_string()))?;
        if !rest.is_empty() {
            return Err(Error::Encoding("bytes follow its end".into()));
        }
        let names = parsed.subject_alternative_name().map_err(|e| Error::Encoding(e.to_string()))?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|san| &san.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect();
        let [uri] = uris.as_slice() else {
            return Err(Error::UriCount(uris.len()));
        };
        let SpiffeId { department, kind, name } = uri.parse()?;
        let units: Vec<&str> =
            parsed.subject().iter_organizational_unit().filter_map(|unit| unit.as_str().ok()).collect();
        let words = units.iter().flat_map(|unit| unit.split_ascii_whitespace());
        let roles = match kind {
            PeerKind::Client => words.filter_map(|w| w.strip_prefix("role:")?.parse().ok()).collect(),
            PeerKind::Node => BTreeSet::new(),
        };
        let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp())
            .map_err(|e| Error::Encoding(e.to_string()))?;
        Ok(Self {
            department,
            kind,
            name,
            roles,
            serial: serial_text(parsed.raw_serial()),
            not_after,
            fingerprint: Sha256::digest(leaf).into(),
            chain: chain.iter().map(|c| c.clone().into_owned()).collect(),
        })
    }

    /// The identity as a URI.
    pub fn spiffe(&self) -> SpiffeId {
        SpiffeId { department: self.department.clone(), kind: self.kind, name: self.name.clone() }
    }

    /// The origin, when the holder is a node.
    pub fn origin(&self) -> Option<OriginId> {
        let name = OriginId::try_new(self.department.clone(), self.name.clone()).ok()?;
        (self.kind == PeerKind::Node).then_some(name)
    }

    /// The client, when the holder is one.
    pub fn client(&self) -> Option<ClientId> {
        let name = ClientId::try_new(self.department.clone(), &self.name).ok()?;
        (self.kind == PeerKind::Client).then_some(name)
    }

    /// Whether the certificate gives this role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The certificates, leaf first, as the holder sent them.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} serial {} until {} roles {:?}", self.spiffe(), self.serial, self.not_after, self.roles)
    }
}

/// A serial number as the roster writes it.
pub(crate) fn serial_text(bytes: &[u8]) -> String {
    let text = hex::encode(bytes);
    let trimmed = text.trim_start_matches('0');
    if trimmed.is_empty() { "0".into() } else { trimmed.into() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn identities_have_one_form() {
        let id: SpiffeId = "spiffe://edb/node/node-1".parse().unwrap();
        assert_eq!(id.to_string(), "spiffe://edb/node/node-1");
        assert!("spiffe://edb/client/desk-1".parse::<SpiffeId>().is_ok());
        for bad in [
            "",
            "spiffe://edb",
            "spiffe://edb/node",
            "spiffe://edb/node/",
            "spiffe://edb/node/a/b",
            "spiffe://EDB/node/a",
            "https://edb/node/a",
            "spiffe://edb/admin/a",
            "spiffe://edb/node/a?x",
            "spiffe://edb:1/node/a",
        ] {
            assert!(matches!(bad.parse::<SpiffeId>(), Err(Error::Uri(_))), "{bad:?}");
        }
    }

    #[test]
    fn serials_lose_their_leading_zeros() {
        assert_eq!(serial_text(&[0, 0x0a, 0xbc]), "abc");
        assert_eq!(serial_text(&[0]), "0");
    }
}
