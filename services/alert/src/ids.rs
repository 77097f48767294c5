//! Names of departments, origins, exercises and alerts: newtypes that are checked once, at the door.
//!
//! Their text is shared: a node keeps each name in many indexes, and a copy of it costs a count.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest department id, node name or exercise id, in bytes.
pub const NAME_BYTES_MAX: usize = 32;

/// Why a name was refused; the sentence names the text, the place and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not valid: {reason}")]
pub struct Error {
    /// What was being named, for example `department id`.
    pub kind: &'static str,
    /// The refused text, cut to a readable length.
    pub text: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}

impl Error {
    fn new(kind: &'static str, text: &str, reason: &'static str) -> Self {
        let text = text.chars().take(NAME_BYTES_MAX * 2).collect();
        Self { kind, text, reason }
    }
}

fn check_name(kind: &'static str, text: &str) -> Result<(), Error> {
    let first_is_letter = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let rest_is_plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if text.len() > NAME_BYTES_MAX {
        return Err(Error::new(kind, text, "it is longer than 32 characters"));
    }
    if !first_is_letter || !rest_is_plain {
        return Err(Error::new(kind, text, "use lower-case letters, digits and hyphens, beginning with a letter"));
    }
    Ok(())
}

/// An organisation with its own authority, CA and rights, for example `fsd`.
///
/// Lower-case letters, digits and hyphens, beginning with a letter, at most 32 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DepartmentId(Arc<str>);

impl DepartmentId {
    /// Parses a department id.
    ///
    /// # Errors
    /// [`Error`] when the text is empty, too long, or has a character outside `a-z0-9-`.
    pub fn try_new(text: impl Into<String>) -> Result<Self, Error> {
        let text = text.into();
        check_name("department id", &text)?;
        Ok(Self(text.into()))
    }

    /// The id as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A node as author of logs, for example `edb/node-1`: the department and the node's name in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OriginId {
    department: DepartmentId,
    node: Arc<str>,
}

impl OriginId {
    /// Joins a department and a node name.
    ///
    /// # Errors
    /// [`Error`] when the node name breaks the rule of names.
    pub fn try_new(department: DepartmentId, node: impl Into<String>) -> Result<Self, Error> {
        let node = node.into();
        check_name("node name", &node)?;
        Ok(Self { department, node: node.into() })
    }

    /// The department that the node belongs to; rights belong to it.
    pub fn department(&self) -> &DepartmentId {
        &self.department
    }

    /// The node's name inside its department.
    pub fn node(&self) -> &str {
        &self.node
    }
}

impl FromStr for OriginId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (department, node) =
            text.split_once('/').ok_or_else(|| Error::new("origin", text, "write it as department/node"))?;
        Self::try_new(DepartmentId::try_new(department)?, node)
    }
}

impl TryFrom<String> for OriginId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<OriginId> for String {
    fn from(origin: OriginId) -> Self {
        origin.to_string()
    }
}

impl fmt::Display for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.department, self.node)
    }
}

impl fmt::Debug for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of an exercise, for example `hv26`. It separates one drill's world from another's.
///
/// Letters, digits, `-`, `_` and `.`, at most 32 characters; letters keep their case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExerciseId(Arc<str>);

impl ExerciseId {
    /// Parses an exercise id.
    ///
    /// # Errors
    /// [`Error`] when the text is empty, too long, or has another character.
    pub fn try_new(text: impl Into<String>) -> Result<Self, Error> {
        let text = text.into();
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(plain) {
            return Err(Error::new(
                "exercise id",
                &text,
                "use 1 to 32 letters, digits, hyphens, underscores or full stops",
            ));
        }
        Ok(Self(text.into()))
    }

    /// The id as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! name_text {
    ($name:ident) => {
        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                Self::try_new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                Self::try_new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_text!(DepartmentId);
name_text!(ExerciseId);

/// The identity of a CAP message: the triple that `references` is made of.
///
/// `sent` is the *text* of the element, not the instant: `2026-01-01T00:00:00+00:00` and `…-00:00` are two identities.
/// Source: CAP 1.2 §3.2.1 `references`.
///
/// The three are one shared text: a node keeps each identity in many indexes, and 100,000 alerts at a time.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Triple", into = "Triple")]
pub struct AlertId {
    /// `sender,identifier,sent`. Where each ends is told by the two lengths, so a comma inside one confuses nothing.
    text: Arc<str>,
    sender_bytes: u32,
    identifier_bytes: u32,
}

/// An identity as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename = "AlertId")]
struct Triple {
    sender: String,
    identifier: String,
    sent: String,
}

impl AlertId {
    /// Of its three texts, as they stand in the message.
    pub fn new(sender: impl AsRef<str>, identifier: impl AsRef<str>, sent: impl AsRef<str>) -> Self {
        let (sender, identifier, sent) = (sender.as_ref(), identifier.as_ref(), sent.as_ref());
        // A message is at most 1 MiB, so its parts are far below the bound of a u32.
        let bytes = |part: &str| u32::try_from(part.len()).unwrap_or(u32::MAX);
        Self {
            text: [sender, ",", identifier, ",", sent].concat().into(),
            sender_bytes: bytes(sender),
            identifier_bytes: bytes(identifier),
        }
    }

    /// CAP `sender`.
    pub fn sender(&self) -> &str {
        self.parts().0
    }

    /// CAP `identifier`.
    pub fn identifier(&self) -> &str {
        self.parts().1
    }

    /// The text of CAP `sent`.
    pub fn sent(&self) -> &str {
        self.parts().2
    }

    fn parts(&self) -> (&str, &str, &str) {
        let identifier = self.sender_bytes as usize + 1;
        let sent = identifier + self.identifier_bytes as usize + 1;
        let part = |range| self.text.get(range).unwrap_or_default();
        (part(0..identifier - 1), part(identifier..sent - 1), part(sent..self.text.len()))
    }
}

impl From<Triple> for AlertId {
    fn from(triple: Triple) -> Self {
        Self::new(triple.sender, triple.identifier, triple.sent)
    }
}

impl From<AlertId> for Triple {
    fn from(id: AlertId) -> Self {
        let (sender, identifier, sent) = id.parts();
        Self { sender: sender.into(), identifier: identifier.into(), sent: sent.into() }
    }
}

/// By sender, then identifier, then the text of `sent`.
impl Ord for AlertId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for AlertId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for AlertId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.split(',').map(str::trim);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(sender), Some(identifier), Some(sent), None) if ![sender, identifier, sent].contains(&"") => {
                Ok(Self::new(sender, identifier, sent))
            }
            _ => Err(Error::new("alert id", text, "write it as sender,identifier,sent")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn department_ids_are_lower_case() {
        assert!(DepartmentId::try_new("fsd").is_ok());
        for bad in ["", "FSD", "1fsd", "fs d", "消防", &"a".repeat(33)] {
            assert!(DepartmentId::try_new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn origin_is_department_slash_node() {
        let origin: OriginId = "edb/node-1".parse().expect("a good origin");
        assert_eq!((origin.department().as_str(), origin.node()), ("edb", "node-1"));
        assert!("edb".parse::<OriginId>().is_err());
        assert!("edb/".parse::<OriginId>().is_err());
        assert!("edb/a/b".parse::<OriginId>().is_err());
    }

    #[test]
    fn alert_id_round_trips_and_keeps_the_text_of_sent() {
        let text = "a@b,id-1,2026-01-01T00:00:00-00:00";
        assert_eq!(text.parse::<AlertId>().expect("a triple").to_string(), text);
        assert!("a@b,id-1".parse::<AlertId>().is_err());
    }

    #[test]
    fn an_identity_is_three_texts_whatever_is_in_them() {
        let id = AlertId::new("消防處@a", "x,y", "2026");
        assert_eq!((id.sender(), id.identifier(), id.sent()), ("消防處@a", "x,y", "2026"));
        assert_ne!(id, AlertId::new("消防處@a,x", "y", "2026"), "the same text, cut elsewhere");
        assert_eq!((AlertId::new("", "", "").sender(), AlertId::new("", "", "").sent()), ("", ""));
        let mut ids = [AlertId::new("b", "1", "t"), AlertId::new("a b", "2", "t"), AlertId::new("a", "3", "t")];
        ids.sort();
        let senders: Vec<&str> = ids.iter().map(AlertId::sender).collect();
        assert_eq!(senders, ["a", "a b", "b"], "by its parts, not by the text that holds them");
    }

    #[test]
    fn an_identity_is_stored_as_its_three_parts() {
        let json = r#"{"sender":"a@b","identifier":"i","sent":"t"}"#;
        let id: AlertId = serde_json::from_str(json).expect("an identity");
        assert_eq!(id, AlertId::new("a@b", "i", "t"));
        assert_eq!(serde_json::to_string(&id).expect("JSON"), json);
    }
}
