//! What takes the place of a CA or a signing key: made beside the present one, so that both count while a department
//! changes over and nobody is restarted.
//!
//! ```text
//! ca.next.pem       roster lists both ─► promote: it is ca.pem      ─► leaves are renewed ─► roster drops ca.old.pem
//! signing.next.key  roster lists both ─► promote: it is signing.key ─► node reloads       ─► roster ends the old key
//! ```

use std::path::{Path, PathBuf};

use campanile_alert::OriginId;
use serde::{Deserialize, Serialize};

use super::request::{REQUEST_BYTES_MAX, RequestError};
use super::{DepartmentDir, Error, Validity, io_error, issue, put};
use crate::envelope::Envelope;
use crate::keys::SigningKey;
use crate::roster::{Draft, DraftError, KeyUse, OriginKey};

const KEY_TYPE: &str = "application/vnd.campanile.key-request+json";

/// Makes the CA that follows a department's present one. Gives the certificate's file, which governance adds to the
/// roster; certificates are issued by the present CA until [`promote_ca`].
///
/// # Errors
/// [`Error::Exists`] when one was made already; [`Error`] when the disk fails.
pub fn next_ca(folder: &DepartmentDir, validity: Validity) -> Result<PathBuf, Error> {
    let (certificate, key) = (beside(&folder.ca_path(), "next"), beside(&folder.ca_key_path(), "next"));
    present(&folder.ca_path())?;
    absent(&key)?;
    let (pem, issuer) = issue::authority(folder.id(), validity)?;
    put(&certificate, pem.as_bytes(), false)?;
    put(&key, issuer.key().serialize_pem().as_bytes(), true)?;
    Ok(certificate)
}

/// Puts the next CA into the place of the present one, once rosters that list both are in force everywhere. Gives the
/// file of the old certificate, which governance takes out of the roster when every leaf was renewed.
///
/// # Errors
/// [`Error`] when there is no next one, or the disk fails; it may be tried again.
pub fn promote_ca(folder: &DepartmentDir) -> Result<PathBuf, Error> {
    promote(&[folder.ca_key_path(), folder.ca_path()])?;
    Ok(beside(&folder.ca_path(), "old"))
}

/// Makes the signing key that follows a node's present one. Gives the request that governance adds to the roster; the
/// node signs with the present key until [`promote_key`] and a reload.
///
/// # Errors
/// [`Error::Exists`] when one was made already; [`Error`] when the node has no key, or the disk fails.
pub fn next_key(folder: &DepartmentDir, node: &str, usage: KeyUse) -> Result<Vec<u8>, Error> {
    let origin = OriginId::try_new(folder.id().clone(), node)?;
    let file = key_file(folder, node, usage);
    present(&file)?;
    absent(&beside(&file, "next"))?;
    let key = SigningKey::generate()?;
    put(&beside(&file, "next"), key.to_pem().as_bytes(), true)?;
    let listed = OriginKey { id: key.id(), public: key.verifying_key(), usage, from: None, until: Vec::new() };
    let request = KeyRequest { origin, key: listed };
    let payload = serde_json::to_vec_pretty(&request).map_err(|e| DraftError::Write(e.to_string()))?;
    let mut envelope = Envelope::new(KEY_TYPE, payload);
    envelope.sign(&key);
    Ok(envelope.to_bytes())
}

/// Puts a node's next signing key into the place of the present one, once rosters that list both are in force
/// everywhere. The node signs with it from its next reload on.
///
/// # Errors
/// [`Error`] when there is no next one, or the disk fails; it may be tried again.
pub fn promote_key(folder: &DepartmentDir, node: &str, usage: KeyUse) -> Result<(), Error> {
    promote(&[key_file(folder, node, usage)])
}

/// A key that a department asks governance to list for one of its origins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// Whose it is.
    pub origin: OriginId,
    /// The key, good from the beginning and without an end.
    pub key: OriginKey,
}

impl KeyRequest {
    /// Reads a request, and checks that who made it holds the key. It proves possession, not who somebody is: compare
    /// the key's id with the department by another way.
    ///
    /// # Errors
    /// [`RequestError`] when it cannot be read, or the key did not sign it.
    pub fn verify(bytes: &[u8]) -> Result<Self, RequestError> {
        let envelope = Envelope::parse(bytes, KEY_TYPE, REQUEST_BYTES_MAX)?;
        let request: Self =
            serde_json::from_slice(envelope.payload()).map_err(|e| RequestError::Shape(e.to_string()))?;
        let key = &request.key;
        if key.id != key.public.id() || envelope.verified_by(&key.public).is_err() {
            return Err(RequestError::Unproven { origin: request.origin.to_string(), key: key.id.to_string() });
        }
        if key.from.is_some() || !key.until.is_empty() {
            let (department, reason) = (request.origin.department().to_string(), "it bounds its own key".into());
            return Err(RequestError::Unsound { department, reason });
        }
        Ok(request)
    }

    /// Lists the key in a draft, beside those that the origin has.
    ///
    /// # Errors
    /// [`DraftError`] when the origin is not listed, or has this key already.
    pub fn add_to(self, draft: &mut Draft) -> Result<(), DraftError> {
        draft.add_key(&self.origin, self.key)
    }
}

fn key_file(folder: &DepartmentDir, node: &str, usage: KeyUse) -> PathBuf {
    let files = folder.node(node);
    match usage {
        KeyUse::Live => files.signing,
        KeyUse::Exercise => files.exercise,
    }
}

/// `ca.pem` becomes `ca.next.pem`.
fn beside(path: &Path, word: &str) -> PathBuf {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    path.with_extension(format!("{word}.{extension}"))
}

fn present(path: &Path) -> Result<(), Error> {
    std::fs::metadata(path).map(drop).map_err(|e| io_error(path, e))
}

fn absent(path: &Path) -> Result<(), Error> {
    if path.exists() { Err(Error::Exists(path.into())) } else { Ok(()) }
}

/// Renames; after a power cut in between, what is left to do is done by the next try.
fn promote(files: &[PathBuf]) -> Result<(), Error> {
    let waiting: Vec<&PathBuf> = files.iter().filter(|file| beside(file, "next").exists()).collect();
    if let (Some(first), true) = (files.first(), waiting.is_empty()) {
        let next = beside(first, "next");
        return Err(io_error(&next, std::io::ErrorKind::NotFound.into()));
    }
    for file in waiting {
        if file.exists() {
            std::fs::rename(file, beside(file, "old")).map_err(|e| io_error(file, e))?;
        }
        std::fs::rename(beside(file, "next"), file).map_err(|e| io_error(file, e))?;
    }
    Ok(())
}
