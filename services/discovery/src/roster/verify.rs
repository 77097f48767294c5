//! The one door for rosters: signatures, number, link and soundness are checked before anything is asked of one.

use std::collections::BTreeMap;
use std::ops::Deref;

use campanile_alert::DepartmentId;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Governance, ROSTER_BYTES_MAX, ROSTER_TYPE, Roster};
use crate::envelope::{self, Envelope};
use crate::keys::VerifyingKey;

/// The root keys that a node's configuration pins: what the first roster it sees must be signed by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootKeys {
    /// How many of them must have signed; at least one.
    pub threshold: usize,
    /// The keys.
    pub keys: Vec<VerifyingKey>,
}

impl From<&Governance> for RootKeys {
    fn from(governance: &Governance) -> Self {
        Self { threshold: governance.threshold, keys: governance.keys.clone() }
    }
}

/// Why a roster was refused. The one in force stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The envelope cannot be read.
    #[error("the roster's envelope was refused")]
    Envelope(#[from] envelope::Error),
    /// The payload is not a roster.
    #[error("the payload is not a roster: {0}")]
    Shape(String),
    /// The document contradicts itself.
    #[error("roster {number} is not sound: {}", faults.join("; "))]
    Unsound {
        /// Its number.
        number: u64,
        /// Each fault as a sentence.
        faults: Vec<String>,
    },
    /// Too few of the governance keys signed. What the payload says is not looked at then, its number included.
    #[error(
        "the roster has {found} of the {needed} governance signatures it needs; have it signed with `campanile roster sign`"
    )]
    Threshold {
        /// Good signatures found.
        found: usize,
        /// Good signatures needed.
        needed: usize,
    },
    /// A lower number than the one in force.
    #[error("roster {offered} is older than roster {held}, which is in force; a roster never goes back")]
    RollBack {
        /// The number offered.
        offered: u64,
        /// The number in force.
        held: u64,
    },
    /// The same number with other content.
    #[error("there are two rosters with number {0}; governance signed both, so tell it at once")]
    Fork(u64),
    /// The link names another predecessor.
    #[error("roster {number} does not follow the roster {held} held here; fetch what lies between from a peer")]
    Link {
        /// The number offered.
        number: u64,
        /// The number in force.
        held: u64,
    },
    /// No roster held here says that it came before.
    #[error("no roster held here links to roster {0}; fetch the one after it first")]
    Unlinked(u64),
    /// Of another federation.
    #[error("the roster is of federation {found:?}, this node belongs to {wanted:?}")]
    Federation {
        /// The one it names.
        found: String,
        /// The one it must name.
        wanted: String,
    },
    /// A development roster where none is allowed.
    #[error("roster {0} is marked development; start with --development to try things out, or use a real roster")]
    Development(u64),
    /// A CA certificate cannot be read, is no CA, or is shared.
    #[error("the CA of {department} in roster {number} was refused: {reason}")]
    Ca {
        /// Its number.
        number: u64,
        /// Whose CA.
        department: DepartmentId,
        /// Why.
        reason: String,
    },
    /// No roster is held at all.
    #[error("no roster is known yet; give the roster file in the configuration, or wait for the directory")]
    None,
    /// The cache on disk failed.
    #[error("the roster cache at {path} failed: {reason}")]
    Cache {
        /// Where.
        path: String,
        /// The system's reason.
        reason: String,
    },
}

/// A roster that passed every check, with its bytes as they were signed.
#[derive(Debug, Clone)]
pub struct SignedRoster {
    roster: Roster,
    envelope: Vec<u8>,
    digest: [u8; 32],
    anchors: BTreeMap<DepartmentId, Vec<TrustAnchor<'static>>>,
}

impl Deref for SignedRoster {
    type Target = Roster;

    fn deref(&self) -> &Roster {
        &self.roster
    }
}

impl SignedRoster {
    /// Reads and checks a roster.
    ///
    /// Without `previous`, `pinned` must have signed it. With `previous`, that roster's governance must have signed,
    /// so root keys change only by the hand of the old ones; when they change, the new ones must have signed too.
    /// The roster already in force, offered again, is accepted.
    ///
    /// # Errors
    /// [`Error`] for a bad envelope or document, too few signatures, a number that goes back or stands for two
    /// contents, a broken link, another federation, a development roster that is not allowed, or a bad CA.
    pub fn verify(
        bytes: &[u8],
        pinned: &RootKeys,
        previous: Option<&Self>,
        allow_development: bool,
    ) -> Result<Self, Error> {
        let envelope = Envelope::parse(bytes, ROSTER_TYPE, ROSTER_BYTES_MAX)?;
        // Signatures first: nothing an outsider wrote is looked at any closer.
        let outgoing = previous.map(|p| RootKeys::from(&p.governance));
        threshold(&envelope, outgoing.as_ref().unwrap_or(pinned))?;
        let roster: Roster = serde_json::from_slice(envelope.payload()).map_err(|e| Error::Shape(e.to_string()))?;
        let number = roster.number;
        if previous.is_some_and(|p| p.governance != roster.governance) {
            threshold(&envelope, &RootKeys::from(&roster.governance))?;
        }
        if roster.development && (!allow_development || previous.is_some_and(|p| !p.development)) {
            return Err(Error::Development(number));
        }

        let digest: [u8; 32] = Sha256::digest(envelope.payload()).into();
        if let Some(held) = previous {
            if held.federation != roster.federation {
                return Err(Error::Federation { found: roster.federation, wanted: held.federation.clone() });
            }
            if number < held.number {
                return Err(Error::RollBack { offered: number, held: held.number });
            }
            if number == held.number && digest != held.digest {
                return Err(Error::Fork(number));
            }
            let follows = roster.previous.as_deref() == Some(hex::encode(held.digest).as_str());
            if number == held.number.saturating_add(1) && !follows {
                return Err(Error::Link { number, held: held.number });
            }
        }

        Self::sound(roster, bytes, digest)
    }

    /// Reads the roster that `next` came after: one that was passed over, or that was in force before this node was there.
    ///
    /// The link of `next`, which governance has signed, says that it is the very one; its own governance must have signed
    /// it as well.
    ///
    /// # Errors
    /// [`Error`] for a bad envelope or document, too few signatures, a roster that `next` does not link to, a
    /// development roster that is not allowed, or a bad CA.
    pub fn before(next: &Self, bytes: &[u8], allow_development: bool) -> Result<Self, Error> {
        let envelope = Envelope::parse(bytes, ROSTER_TYPE, ROSTER_BYTES_MAX)?;
        let digest: [u8; 32] = Sha256::digest(envelope.payload()).into();
        // The link first: nothing an outsider wrote is looked at any closer.
        if next.previous.as_deref() != Some(hex::encode(digest).as_str()) {
            return Err(Error::Unlinked(next.number.saturating_sub(1)));
        }
        let roster: Roster = serde_json::from_slice(envelope.payload()).map_err(|e| Error::Shape(e.to_string()))?;
        let number = roster.number;
        if number.saturating_add(1) != next.number {
            return Err(Error::Link { number: next.number, held: number });
        }
        threshold(&envelope, &RootKeys::from(&roster.governance))?;
        if roster.federation != next.federation {
            return Err(Error::Federation { found: roster.federation, wanted: next.federation.clone() });
        }
        if roster.development && !allow_development {
            return Err(Error::Development(number));
        }
        Self::sound(roster, bytes, digest)
    }

    fn sound(mut roster: Roster, bytes: &[u8], digest: [u8; 32]) -> Result<Self, Error> {
        let number = roster.number;
        roster.sort();
        let faults = roster.faults();
        if !faults.is_empty() {
            return Err(Error::Unsound { number, faults });
        }
        let anchors = anchors(&roster)?;
        Ok(Self { roster, envelope: bytes.to_vec(), digest, anchors })
    }

    /// The envelope, byte for byte as it came: what is cached, published and passed on.
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }

    /// SHA-256 of the payload: what the next roster links to and bookmarks carry.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The document.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The CAs of a department, and of no other; empty when it is unknown.
    pub fn trust_anchors(&self, department: &DepartmentId) -> &[TrustAnchor<'static>] {
        self.anchors.get(department).map(Vec::as_slice).unwrap_or_default()
    }
}

fn threshold(envelope: &Envelope, root: &RootKeys) -> Result<(), Error> {
    let found = envelope.signers(&root.keys).len();
    let needed = root.threshold.max(1);
    if found < needed { Err(Error::Threshold { found, needed }) } else { Ok(()) }
}

fn anchors(roster: &Roster) -> Result<BTreeMap<DepartmentId, Vec<TrustAnchor<'static>>>, Error> {
    let mut owners: BTreeMap<Vec<u8>, DepartmentId> = BTreeMap::new();
    let mut all = BTreeMap::new();
    for department in &roster.departments {
        let refuse = |reason: String| Error::Ca { number: roster.number, department: department.id.clone(), reason };
        let mut own = Vec::new();
        for pem in &department.cas {
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| refuse(e.to_string()))?;
            let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|e| refuse(e.to_string()))?;
            if !parsed.is_ca() {
                return Err(refuse("the certificate is not that of a CA".into()));
            }
            // The key counts, not the file: two certificates over one key are one authority.
            let key = parsed.public_key().raw.to_vec();
            if let Some(other) = owners.insert(key, department.id.clone())
                && other != department.id
            {
                return Err(refuse(format!("its key is the CA of {other} as well, so one could pass for the other")));
            }
            let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|e| refuse(e.to_string()))?;
            own.push(anchor.to_owned());
        }
        all.insert(department.id.clone(), own);
    }
    Ok(all)
}
