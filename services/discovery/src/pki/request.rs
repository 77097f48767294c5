//! A department's request to join: public parts only, signed by every key in it, so that nobody asks for another's keys.

use std::path::Path;

use campanile_alert::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

use super::{DepartmentPlan, Error, Validity, make_department};
use crate::envelope::{self, Envelope};
use crate::identity::SpiffeId;
use crate::roster::{Department, Draft, DraftError, Origin, OriginKind, Person, Right};
use crate::tls;

/// The payload type of a request's envelope.
pub const REQUEST_TYPE: &str = "application/vnd.campanile.request.v1+json";
/// The longest request file, in bytes.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Why a request was refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// The envelope cannot be read.
    #[error("the request's envelope was refused")]
    Envelope(#[from] envelope::Error),
    /// The payload is not a request.
    #[error("the payload is not a request: {0}")]
    Shape(String),
    /// A listed key did not sign.
    #[error("key {key} of {origin} did not sign the request; who asks must hold every key in it")]
    Unproven {
        /// Whose key.
        origin: String,
        /// The key.
        key: String,
    },
    /// An origin is of another department, or without certificate.
    #[error("the request of {department} was refused: {reason}")]
    Unsound {
        /// The department asking.
        department: String,
        /// Why.
        reason: String,
    },
    /// The CA did not issue the node's certificate.
    #[error("the CA in the request does not vouch for the certificate of {0}; who asks must hold the CA's key")]
    Ca(String, #[source] tls::Error),
}

/// What a department asks governance to list. It asks for no rights: governance gives those.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The department, without rights.
    pub department: Department,
    /// Its nodes and gateways with their public keys.
    pub origins: Vec<Origin>,
    /// The persons it names, with the roles it proposes.
    pub persons: Vec<Person>,
    /// One certificate in PEM per origin, in the same order: proof that the CA's key is at hand.
    pub certificates: Vec<String>,
    /// When it was made.
    pub made: Timestamp,
}

impl Request {
    /// Makes the department's folder inside `dir`, and gives the bytes of the request file, which holds no secret.
    ///
    /// # Errors
    /// [`Error`] when the folder has a CA already, or a key, a certificate or the disk fails.
    pub fn create(dir: &Path, plan: &DepartmentPlan, validity: Validity) -> Result<Vec<u8>, Error> {
        let part = make_department(dir, plan, validity)?;
        let department =
            Department { rights: Vec::new(), may_read: Vec::new(), delegates: Vec::new(), ..part.department };
        let request = Self {
            department,
            origins: part.origins,
            persons: plan.persons()?,
            certificates: part.certificates,
            made: validity.from,
        };
        let payload = serde_json::to_vec_pretty(&request).map_err(|e| DraftError::Write(e.to_string()))?;
        let mut envelope = Envelope::new(REQUEST_TYPE, payload);
        part.live.iter().chain(&part.exercise).for_each(|key| envelope.sign(key));
        Ok(envelope.to_bytes())
    }

    /// Reads a request file, and checks that who made it holds each key and the CA. Compare the CA's fingerprint with
    /// the department by another way before signing: a request proves possession, not who somebody is.
    ///
    /// # Errors
    /// [`RequestError`] when it cannot be read, a key did not sign, or the CA does not vouch for the nodes.
    pub fn verify(bytes: &[u8]) -> Result<Self, RequestError> {
        let envelope = Envelope::parse(bytes, REQUEST_TYPE, REQUEST_BYTES_MAX)?;
        let request: Self =
            serde_json::from_slice(envelope.payload()).map_err(|e| RequestError::Shape(e.to_string()))?;
        let department = &request.department.id;
        let unsound = |reason: String| RequestError::Unsound { department: department.to_string(), reason };
        if !request.department.rights.is_empty() || !request.department.delegates.is_empty() {
            return Err(unsound("it carries rights; only governance gives those".into()));
        }
        if request.origins.is_empty() || request.origins.len() != request.certificates.len() {
            return Err(unsound("it needs at least one node, and a certificate for each".into()));
        }
        let ca = |pem: &String| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| unsound(format!("{e:?}")));
        let cas: Vec<CertificateDer<'_>> = request.department.cas.iter().map(ca).collect::<Result<_, _>>()?;
        for (origin, certificate) in request.origins.iter().zip(&request.certificates) {
            if origin.id.department() != department {
                return Err(unsound(format!("origin {} is of another department", origin.id)));
            }
            for key in &origin.keys {
                if key.id != key.public.id() || envelope.verified_by(&key.public).is_err() {
                    return Err(RequestError::Unproven { origin: origin.id.to_string(), key: key.id.to_string() });
                }
            }
            let leaf = ca(certificate)?;
            tls::vouched(&[leaf], &SpiffeId::node(&origin.id), &cas, request.made)
                .map_err(|e| RequestError::Ca(origin.id.to_string(), e))?;
        }
        if let Some(person) = request.persons.iter().find(|p| &p.department != department) {
            return Err(unsound(format!("person {} is of another department", person.id)));
        }
        Ok(request)
    }

    /// Puts the department into a draft with the rights that governance gives it.
    ///
    /// # Errors
    /// [`DraftError::There`] when the department or an origin is listed already.
    pub fn add_to(self, draft: &mut Draft, rights: Vec<Right>) -> Result<(), DraftError> {
        let mut department = Department { rights, ..self.department };
        if department.publisher.is_none() {
            let node = self.origins.iter().find(|o| o.kind == OriginKind::Node);
            department.publisher = node.map(|o| o.id.clone());
        }
        draft.add_department(department, self.origins)?;
        self.persons.into_iter().for_each(|person| draft.put_person(person));
        Ok(())
    }
}
