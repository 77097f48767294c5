//! What trust rests on: the roster, certificates and CAs with the days they have left, signing keys.

use std::sync::Arc;

use campanile_alert::{OriginId, Timestamp};
use campanile_bus::record::PAYLOAD_TYPE;
use campanile_discovery::identity::PeerKind;
use campanile_discovery::roster::{ClientId, KeyUse, SignedRoster};
use campanile_discovery::{Identity, IdentityFiles, RosterHandle, SigningKey, SystemClock, TlsMaterial};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Findings, days};
use crate::connect::{Profile, identity_files, open_roster};
use crate::failure::sentence;

/// Days left of a certificate below which it is time to act; certificates of a real federation last a week.
const LEAF_DAYS_MIN: i64 = 2;
/// Days left of a CA below which its successor should be in the roster.
const CA_DAYS_MIN: i64 = 60;

/// Looks at a client's own files.
pub(super) fn profile(profile: &Profile, now: Timestamp, findings: &mut Findings) {
    let handle = match open_roster(profile) {
        Ok(Some(handle)) => {
            roster(&handle.current(), now, findings);
            Some(handle)
        }
        Ok(None) => {
            findings.warn("roster", "no roster is given", "give --roster and --root, or name them in the profile");
            None
        }
        Err(error) => {
            let help = "get the roster and root keys anew from governance";
            findings.fail("roster", format!("{error:#}"), sentence(&error, help));
            None
        }
    };
    if let Some(files) = identity_files(profile) {
        certificate(&files, handle.as_ref(), now, findings);
    }
}

/// Looks at the roster in force.
pub(super) fn roster(roster: &SignedRoster, now: Timestamp, findings: &mut Findings) {
    let age = days(roster.issued, now);
    let detail = format!("number {} of {}, {age} days old", roster.number, roster.federation);
    match roster.development {
        false => findings.ok("roster", detail),
        true => findings.warn(
            "roster",
            format!("{detail}, marked development"),
            "use it for trying things out alone; a real federation's roster is signed by governance",
        ),
    }
    if roster.issued.duration_since(now).as_secs() > 300 {
        let next = "set the clock (chrony or systemd-timesyncd); certificates and expiry are judged by it";
        findings.fail("clock", format!("it is {now}, before the roster was issued ({})", roster.issued), next);
    } else {
        findings.ok("clock", format!("{now}, after the roster was issued"));
    }
    for department in &roster.departments {
        for pem in &department.cas {
            let name = format!("CA of {}", department.id);
            match ca_end(pem) {
                Some(end) if days(now, end) < 0 => {
                    findings.fail(name, format!("ended on {end}"), "have governance list the department's new CA");
                }
                Some(end) if days(now, end) < CA_DAYS_MIN => {
                    let next = "have the department make its next CA, and governance list it beside this one";
                    findings.warn(name, format!("{} days left", days(now, end)), next);
                }
                Some(end) => findings.ok(name, format!("{} days left", days(now, end))),
                None => findings.fail(name, "it cannot be read", "have governance list a whole certificate"),
            }
        }
    }
}

fn ca_end(pem: &str) -> Option<Timestamp> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

/// Looks at a certificate and its key; gives whose it is.
pub(super) fn certificate(
    files: &IdentityFiles,
    roster: Option<&RosterHandle>,
    now: Timestamp,
    findings: &mut Findings,
) {
    let identity = match Identity::load(files) {
        Ok(identity) => identity,
        Err(error) => {
            let detail = sentence(&error.into(), "it cannot be used");
            findings.fail("certificate", detail, "check the paths, or make a new pair with `campanile pki renew`");
            return;
        }
    };
    let peer = identity.peer().clone();
    let left = days(now, peer.not_after);
    let detail = format!("{} serial {}, {left} days left", peer.spiffe(), peer.serial);
    let renew = "renew it with `campanile pki renew`; a running node takes the new one without a restart";
    if peer.not_after <= now {
        findings.fail("certificate", format!("{detail}: it has ended"), renew);
        return;
    }
    let Some(roster) = roster else {
        findings.warn("certificate", format!("{detail}; not judged, there is no roster"), "give the roster");
        return;
    };
    match TlsMaterial::new(identity, roster.clone(), Arc::new(SystemClock)) {
        Err(error) => findings.fail(
            "certificate",
            sentence(&error.into(), "peers will refuse it"),
            "have the department's CA in the roster issue a new one; compare `campanile roster show`",
        ),
        Ok(_) if left < LEAF_DAYS_MIN => findings.warn("certificate", detail, renew),
        Ok(_) => findings.ok("certificate", detail),
    }
    if peer.kind == PeerKind::Client && peer.roles.is_empty() {
        findings.warn("roles", "the certificate gives no role", "renew it with roles: --client NAME,publish,read");
    }
    let approves = peer.has(campanile_discovery::Role::Approve);
    let person = ClientId::try_new(peer.department.clone(), &peer.name)
        .ok()
        .and_then(|client| roster.current().person_of(&client).map(|person| person.id.clone()));
    if approves && peer.kind == PeerKind::Client {
        match person {
            Some(person) => findings.ok("person", format!("the roster knows {person} behind this certificate")),
            None => findings.warn(
                "person",
                "the roster names no person behind this certificate, so its approvals do not count",
                "have governance name the person and the client in the roster",
            ),
        }
    }
}

/// Looks at a signing key: that it is listed, for the right use, and signs.
pub(super) fn signing_key(
    name: &str,
    key: &SigningKey,
    usage: KeyUse,
    origin: &OriginId,
    roster: &SignedRoster,
    findings: &mut Findings,
) {
    let listed = roster.origin(origin).map(|listed| listed.keys.as_slice());
    let id = key.id();
    let add = "have governance list the key in the next roster, or put the listed key's file in place";
    match listed.map(|keys| keys.iter().find(|listed| listed.public == key.verifying_key())) {
        None => findings.fail(name, format!("roster {} does not list {origin}", roster.number), add),
        Some(None) => findings.fail(name, format!("roster {} lists no key {id} for {origin}", roster.number), add),
        Some(Some(listed)) if listed.usage != usage => {
            let next = "exchange the two key files in the configuration";
            findings.fail(name, format!("key {id} is listed as a {:?} key", listed.usage), next);
        }
        Some(Some(listed)) if !listed.until.is_empty() => {
            findings.fail(name, format!("roster {} has ended the key {id}", roster.number), add);
        }
        Some(Some(listed)) => {
            let probe = b"campanile doctor";
            match listed.public.verify(PAYLOAD_TYPE, probe, &key.sign(PAYLOAD_TYPE, probe)) {
                Ok(()) => findings.ok(name, format!("key {id} is listed; a signature by it verifies")),
                Err(error) => findings.fail(name, error.to_string(), "restore the key file from its backup"),
            }
        }
    }
}
