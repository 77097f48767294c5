//! Certificates: a department's CA, and the leaves of its nodes and clients. ECDSA P-256 throughout.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use campanile_alert::{DepartmentId, OriginId, Timestamp};
use rand::RngCore as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, date_time_ymd,
};

use super::{BACKDATE, DepartmentDir, Error, Validity, io_error, put};
use crate::identity::{PeerKind, Role, SpiffeId};
use crate::roster::{ClientId, read_bounded};
use crate::tls::{Identity, IdentityFiles};

/// A certificate and its private key, in PEM.
pub struct Leaf {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key, PKCS#8. Secret.
    pub key_pem: String,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("certificate_pem", &self.certificate_pem).field("key_pem", &"***").finish()
    }
}

fn refuse(name: impl ToString) -> impl Fn(rcgen::Error) -> Error {
    move |e| Error::Certificate { name: name.to_string(), reason: e.to_string() }
}

fn window(params: &mut CertificateParams, from: Timestamp, lifetime: Duration) {
    // Seconds since 1970 on the library's own calendar type; before 1970 there are no certificates.
    let epoch = date_time_ymd(1970, 1, 1);
    let start = Duration::from_secs(u64::try_from(from.as_second()).unwrap_or(0));
    params.not_before = epoch + start.saturating_sub(BACKDATE);
    params.not_after = epoch + start.saturating_add(lifetime);
}

fn serial() -> SerialNumber {
    // 16 random bytes, positive and without a leading zero, so that a renewal is another certificate to revocation.
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x3f) | 0x40;
    }
    SerialNumber::from_slice(&bytes)
}

/// Makes a department's CA: its certificate in PEM, and the issuer with its key.
pub(super) fn authority(id: &DepartmentId, validity: Validity) -> Result<(String, Issuer<'static, KeyPair>), Error> {
    let failed = refuse(format!("the CA of {id}"));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(&failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, id.as_str());
    params.distinguished_name.push(DnType::CommonName, format!("Campanile CA of {id}"));
    // No CA below this one: it signs nodes and clients only.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    window(&mut params, validity.from, validity.ca);
    let pem = params.self_signed(&key).map_err(&failed)?.pem();
    Ok((pem, Issuer::new(params, key)))
}

/// Makes a node's or client's certificate. Nodes serve and call, clients only call.
pub(super) fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    id: &SpiffeId,
    roles: &BTreeSet<Role>,
    hosts: &[String],
    validity: Validity,
) -> Result<Leaf, Error> {
    let failed = refuse(id);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(&failed)?;
    let mut names: Vec<String> = Vec::new();
    if id.kind == PeerKind::Node {
        names.extend(["localhost", "127.0.0.1", "::1"].map(String::from));
        names.extend(hosts.iter().filter(|h| !["localhost", "127.0.0.1", "::1"].contains(&h.as_str())).cloned());
    }
    let mut params = CertificateParams::new(names).map_err(&failed)?;
    params.subject_alt_names.insert(0, SanType::URI(id.to_string().try_into().map_err(&failed)?));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, id.department.as_str());
    if !roles.is_empty() {
        // The library keeps one unit per name, so the roles share it, separated by spaces.
        let words: Vec<String> = roles.iter().map(|r| format!("role:{}", r.as_str())).collect();
        params.distinguished_name.push(DnType::OrganizationalUnitName, words.join(" "));
    }
    params.distinguished_name.push(DnType::CommonName, id.name.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match id.kind {
        PeerKind::Node => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        PeerKind::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial());
    window(&mut params, validity.from, validity.leaf);
    let certificate = params.signed_by(&key, issuer).map_err(&failed)?;
    Ok(Leaf { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

fn issuer(folder: &DepartmentDir) -> Result<Issuer<'static, KeyPair>, Error> {
    let failed = refuse(format!("the CA of {}", folder.id()));
    let text = |path: &Path| {
        let bytes = read_bounded(path, 64 << 10).map_err(|e| io_error(path, e))?;
        Ok::<_, Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let key = KeyPair::from_pem(&text(&folder.ca_key_path())?).map_err(&failed)?;
    Issuer::from_ca_cert_pem(&text(&folder.ca_path())?, key).map_err(&failed)
}

/// Gives a node a new certificate and key from its department's CA. The running node takes them at its next reload.
///
/// # Errors
/// [`Error`] when the CA cannot be read or the files not written.
pub fn renew_node(folder: &DepartmentDir, name: &str, hosts: &[String], validity: Validity) -> Result<(), Error> {
    let origin = OriginId::try_new(folder.id().clone(), name)?;
    let leaf = leaf(&issuer(folder)?, &SpiffeId::node(&origin), &BTreeSet::new(), hosts, validity)?;
    place(&folder.node(name).tls, &leaf)
}

/// Gives a client a new certificate and key with these roles; without roles given, those of the old certificate.
///
/// # Errors
/// [`Error`] when the CA or the old certificate cannot be read, or the files not written.
pub fn renew_client(
    folder: &DepartmentDir,
    name: &str,
    roles: Option<&BTreeSet<Role>>,
    validity: Validity,
) -> Result<(), Error> {
    let client = ClientId::try_new(folder.id().clone(), name)?;
    let files = folder.client(name);
    let roles = match roles {
        Some(roles) => roles.clone(),
        None => {
            let old = Identity::load(&files)
                .map_err(|e| Error::Certificate { name: client.to_string(), reason: e.to_string() })?;
            old.peer().roles.clone()
        }
    };
    place(&files, &leaf(&issuer(folder)?, &SpiffeId::client(&client), &roles, &[], validity)?)
}

/// Key first, then certificate: a reload between the two finds a pair that does not match, and keeps what it has.
fn place(files: &IdentityFiles, leaf: &Leaf) -> Result<(), Error> {
    put(&files.key, leaf.key_pem.as_bytes(), true)?;
    put(&files.chain, leaf.certificate_pem.as_bytes(), false)
}
