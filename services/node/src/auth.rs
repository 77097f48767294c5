//! Who may call what: roles from the client's certificate, persons from the roster, and a bound on the rate of each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use campanile_alert::DepartmentId;
use campanile_bus::transport::{PeerInfo, Standing};
use campanile_discovery::identity::{PeerIdentity, PeerKind, Role};
use campanile_discovery::roster::{ClientId, Person, RosterHandle};
use parking_lot::Mutex;
use tonic::{Code, Request, Status};

use crate::status::refuse;

/// Calls a second that one client may make in the long run.
const RATE: f64 = 20_000.0;
/// Calls that one client may make at once, saved up while it was quiet.
const BURST: f64 = 20_000.0;
/// How many clients are remembered; the one that was quiet longest is forgotten first.
const CLIENTS_MAX: usize = 4_096;

/// The gate in front of every call.
#[derive(Debug)]
pub struct Gate {
    department: DepartmentId,
    roster: RosterHandle,
    standing: Arc<Standing>,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// A caller that was let in.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The client, as `department/name`.
    pub client: ClientId,
    /// SHA-256 of its certificate.
    pub certificate_hash: Vec<u8>,
    /// What its certificate says, to be judged again while a call lasts.
    pub identity: Arc<PeerIdentity>,
}

impl Gate {
    /// A gate for the clients of one department.
    pub fn new(department: DepartmentId, roster: RosterHandle, standing: Arc<Standing>) -> Self {
        Self { department, roster, standing, buckets: Mutex::default() }
    }

    /// Lets a client in that has one of the roles.
    ///
    /// # Errors
    /// A status that names what is missing: another department, a node's certificate, the role, or patience.
    pub fn admit<T>(&self, request: &Request<T>, any_of: &[Role]) -> Result<Caller, Status> {
        let info = request
            .extensions()
            .get::<PeerInfo>()
            .ok_or_else(|| refuse(Code::Unauthenticated, "NO_IDENTITY", "the connection has no client certificate"))?;
        let identity = &info.identity;
        if identity.kind != PeerKind::Client {
            let message = "this service is for clients; a node's certificate has no role here";
            return Err(refuse(Code::PermissionDenied, "NOT_A_CLIENT", message));
        }
        if identity.department != self.department {
            let message = format!(
                "this node serves clients of {}; your certificate is of {}: call your own department's node",
                self.department, identity.department
            );
            return Err(refuse(Code::PermissionDenied, "OTHER_DEPARTMENT", message));
        }
        // The handshake may be long ago; the certificate may have ended or been revoked since.
        if let Err(error) = self.standing.check(identity) {
            return Err(refuse(Code::Unauthenticated, "REVOKED", error.to_string()));
        }
        if !any_of.iter().any(|role| identity.roles.contains(role)) {
            let names: Vec<&str> = any_of.iter().map(|role| role.as_str()).collect();
            let message = format!("this call needs the role {}; your certificate does not have it", names.join(" or "));
            return Err(refuse(Code::PermissionDenied, "NO_ROLE", message));
        }
        self.take_token(identity)?;
        let client = ClientId::try_new(identity.department.clone(), &identity.name)
            .map_err(|error| refuse(Code::Unauthenticated, "NO_IDENTITY", error.to_string()))?;
        Ok(Caller { client, certificate_hash: identity.fingerprint.to_vec(), identity: Arc::clone(identity) })
    }

    /// The person of the roster who works through the caller's certificate.
    ///
    /// # Errors
    /// A status when the roster names none: two officers are two persons, not two certificates.
    pub fn person(&self, caller: &Caller) -> Result<Person, Status> {
        let roster = self.roster.current();
        roster.person_of(&caller.client).cloned().ok_or_else(|| {
            let message = format!("the roster names no person for {}; have governance add one", caller.client);
            refuse(Code::PermissionDenied, "NO_PERSON", message)
        })
    }

    fn take_token(&self, identity: &PeerIdentity) -> Result<(), Status> {
        let now = Instant::now();
        let mut buckets = self.buckets.lock();
        if buckets.len() >= CLIENTS_MAX && !buckets.contains_key(&identity.name) {
            let oldest = buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(name, _)| name.clone());
            if let Some(oldest) = oldest {
                buckets.remove(&oldest);
            }
        }
        let bucket = buckets.entry(identity.name.clone()).or_insert(Bucket { tokens: BURST, at: now });
        bucket.tokens = (bucket.tokens + now.duration_since(bucket.at).as_secs_f64() * RATE).min(BURST);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(refuse(Code::ResourceExhausted, "RATE", "too many calls from this client; slow down"));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}
