//! Writes hashes as hex in JSON: readable in a row, a view or a manifest, and a third of the length of a list.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(hash: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&hex::encode(hash))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
    let mut hash = [0; 32];
    hex::decode_to_slice(String::deserialize(from)?, &mut hash).map_err(D::Error::custom)?;
    Ok(hash)
}
