//! The CAP codec: messages of CAP 1.0, 1.1 and 1.2 in XML, alone or inside Atom, RSS, EDXL-DE or another envelope.
//!
//! ```text
//! bytes ─► [ size ] ─► [ decode ] ─► [ scan: no DTD, depth, counts ] ─► [ parse ] ─► alert elements ─► [ read ] ─► Alert
//! ```
//!
//! Limits come before work, and nothing outside the bytes is ever looked at: a document type is refused whole, so there
//! are no entities; XInclude and `schemaLocation` are names like any others. A message that breaks the form gives
//! [`Fault`]s with paths; its neighbours in a feed are read all the same.
//!
//! Writing a message gives the tree that was read: expanded names, text and order, in the message's own CAP version.
//! Prefixes, comments and white space between elements are not kept here; the original bytes are, in
//! [`Message::original`].

mod reader;
mod scan;
mod signature;
mod writer;

use std::ops::Range;

use crate::judge::{Fault, FaultCode};
use crate::message::{Alert, CapVersion};

pub use self::writer::write;
pub(crate) use self::{signature::is_signature, writer::unwritable};

/// The media type of a CAP message.
pub const MEDIA_TYPE: &str = "application/cap+xml";

/// What a document may cost before it is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message, alone or in a feed.
    pub message_bytes_max: usize,
    /// Bytes of a feed or another envelope.
    pub feed_bytes_max: usize,
    /// Messages in one document.
    pub messages_max: usize,
    /// Levels of elements.
    pub depth_max: usize,
    /// Elements, text runs and comments in one document.
    pub nodes_max: u32,
    /// Polygons in one message.
    pub polygons_max: usize,
    /// Points of all polygons in one message.
    pub points_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 1 << 20,
            feed_bytes_max: 8 << 20,
            messages_max: 10_000,
            depth_max: 64,
            nodes_max: 500_000,
            polygons_max: 1_000,
            points_max: 50_000,
        }
    }
}

/// What stands around the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: the document is one CAP message.
    Alert,
    /// An Atom feed.
    Atom,
    /// An RSS feed.
    Rss,
    /// An EDXL-DE distribution.
    EdxlDe,
    /// Another element that holds CAP messages, for example `alerts`.
    Other,
}

/// A document that was read: its messages, good and bad, in their order.
#[derive(Debug, Clone)]
pub struct Document {
    /// What stands around the messages.
    pub kind: Kind,
    /// The messages; empty for a feed that is an index only.
    pub messages: Vec<Message>,
    /// Entries, items or content objects of the feed; zero for a message alone.
    pub entries: usize,
}

impl Document {
    /// Says in one sentence what was found.
    pub fn statement(&self) -> String {
        let what = match self.kind {
            Kind::Alert => return "one CAP message".into(),
            Kind::Atom => "Atom feed",
            Kind::Rss => "RSS feed",
            Kind::EdxlDe => "EDXL-DE distribution",
            Kind::Other => "envelope",
        };
        match (self.messages.len(), self.entries) {
            (0, 0) => format!("{what} without entries: it holds no CAP message"),
            (0, n) => format!("{what} with {n} entries and no CAP message inside: it is an index, follow its links"),
            (n, _) => format!("{what} with {n} CAP messages"),
        }
    }
}

/// One message of a document.
#[derive(Debug, Clone)]
pub struct Message {
    /// The message, or the faults of its form. A message without faults may still break the standard: see
    /// [`crate::judge::cap_valid`].
    pub result: Result<Alert, Vec<Fault>>,
    /// The exact bytes it was read from: the whole document for a message alone, the element for an embedded one.
    pub original: Vec<u8>,
    /// The media type of `original`; it names the character set when that is not UTF-8 and `original` does not say so.
    pub media_type: String,
    /// Whether `original` gives the same message when read by itself. An element that was cut out of an envelope does
    /// not when it uses namespaces that the envelope declares, or when it is not in UTF-8.
    pub stands_alone: bool,
}

/// Why a document was refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// More bytes than the limit.
    #[error("the document has {bytes} bytes, the limit is {limit}; split it or leave out embedded files")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit for what it is.
        limit: usize,
    },
    /// The XML declaration names an encoding that is not known, or does not fit the bytes.
    #[error("the encoding {0:?} is not known or does not fit the first bytes; send UTF-8")]
    Encoding(String),
    /// Bytes that the declared encoding does not have.
    #[error("the bytes are not {0}, the encoding that the document declares; declare the right one or send UTF-8")]
    Undecodable(&'static str),
    /// A document type declaration.
    #[error("the document has a document type declaration (DTD), which is refused; leave it out")]
    Dtd,
    /// More levels of elements than the limit.
    #[error("elements are nested deeper than {0} levels")]
    TooDeep(usize),
    /// More nodes, messages, attributes or namespaces than the limit.
    #[error("the document has more {what} than {limit}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Not well-formed.
    #[error("the document is not well-formed XML: {0}")]
    NotXml(String),
    /// Well-formed, but neither CAP nor an envelope with CAP inside.
    #[error(
        "the root element {name:?} of namespace {namespace:?} is no CAP message and holds none; CAP 1.2 is urn:oasis:names:tc:emergency:cap:1.2"
    )]
    NotCap {
        /// The local name of the root element.
        name: String,
        /// Its namespace, empty when it has none.
        namespace: String,
    },
}

/// Reads a document: one CAP message, or an envelope with any number of them.
///
/// # Errors
/// [`ReadError`] when the document as a whole cannot be read: too large, undecodable, with a DTD, not well-formed, or
/// nothing of CAP. Faults of single messages are in [`Message::result`].
pub fn read(bytes: &[u8], limits: &Limits) -> Result<Document, ReadError> {
    if bytes.len() > limits.feed_bytes_max {
        return Err(ReadError::TooLarge { bytes: bytes.len(), limit: limits.feed_bytes_max });
    }
    let mut source = scan::Source::decode(bytes)?;
    let text = std::mem::take(&mut source.text);
    let root_name = scan::check(&text, limits)?;
    if root_name == "alert" && bytes.len() > limits.message_bytes_max {
        return Err(ReadError::TooLarge { bytes: bytes.len(), limit: limits.message_bytes_max });
    }
    let options = roxmltree::ParsingOptions { nodes_limit: limits.nodes_max, ..roxmltree::ParsingOptions::default() };
    let tree = roxmltree::Document::parse_with_options(&text, options).map_err(|error| match error {
        roxmltree::Error::NodesLimitReached => {
            ReadError::TooMany { what: "nodes", limit: usize::try_from(limits.nodes_max).unwrap_or(usize::MAX) }
        }
        roxmltree::Error::DtdDetected => ReadError::Dtd,
        error => ReadError::NotXml(error.to_string()),
    })?;
    let root = tree.root_element();
    if let Some(version) = version_of(root) {
        let result = reader::alert(root, version, &text, limits);
        let message = Message { result, original: bytes.to_vec(), media_type: MEDIA_TYPE.into(), stands_alone: true };
        return Ok(Document { kind: Kind::Alert, messages: vec![message], entries: 0 });
    }
    let mut messages = Vec::new();
    for node in tree.descendants() {
        let Some(version) = version_of(node) else { continue };
        if node.ancestors().skip(1).any(|outer| version_of(outer).is_some()) {
            continue;
        }
        if messages.len() == limits.messages_max {
            return Err(ReadError::TooMany { what: "messages", limit: limits.messages_max });
        }
        messages.push(embedded(node, version, &text, bytes, &mut source, limits)?);
    }
    let kind = kind_of(root);
    if messages.is_empty() && kind == Kind::Other {
        let name = root.tag_name();
        return Err(ReadError::NotCap {
            name: name.name().into(),
            namespace: name.namespace().unwrap_or_default().into(),
        });
    }
    let is_entry =
        |node: &roxmltree::Node<'_, '_>| matches!(node.tag_name().name(), "entry" | "item" | "contentObject");
    let entries = if kind == Kind::Other { 0 } else { tree.descendants().filter(is_entry).count() };
    Ok(Document { kind, messages, entries })
}

/// Reads the message in an element of an envelope, and cuts its bytes out of the source.
fn embedded(
    node: roxmltree::Node<'_, '_>,
    version: CapVersion,
    text: &str,
    bytes: &[u8],
    source: &mut scan::Source,
    limits: &Limits,
) -> Result<Message, ReadError> {
    let range: Range<usize> = node.range();
    let own = text.get(range.clone()).unwrap_or_default();
    let original = source.cut(bytes, text, range)?;
    let stands_alone = source.is_utf8() && stands_alone(node, own);
    let media_type = if source.is_utf8() {
        MEDIA_TYPE.into()
    } else {
        format!("{MEDIA_TYPE}; charset={}", source.encoding_name().to_ascii_lowercase())
    };
    let result = if original.len() > limits.message_bytes_max {
        let reason =
            format!("the message has {} bytes, the limit is {}; shorten it", original.len(), limits.message_bytes_max);
        Err(vec![Fault::new("alert", FaultCode::TooLarge, reason)])
    } else {
        reader::alert(node, version, text, limits)
    };
    Ok(Message { result, original, media_type, stands_alone })
}

/// Whether the element's own text parses to the same names by itself.
fn stands_alone(node: roxmltree::Node<'_, '_>, own: &str) -> bool {
    roxmltree::Document::parse(own).is_ok_and(|alone| {
        let names = |node: roxmltree::Node<'_, '_>| {
            let name = node.tag_name();
            (name.namespace().map(String::from), name.name().to_owned())
        };
        let elements = |node: roxmltree::Node<'_, '_>| node.is_element();
        let here = node.descendants().filter(|node| elements(*node)).map(names);
        here.eq(alone.root_element().descendants().filter(|node| elements(*node)).map(names))
    })
}

/// The CAP version of an `alert` element; `None` for any other element.
fn version_of(node: roxmltree::Node<'_, '_>) -> Option<CapVersion> {
    let name = node.tag_name();
    let version = CapVersion::ALL.iter().find(|version| name.namespace() == Some(namespace(**version)))?;
    (name.name() == "alert").then_some(*version)
}

/// The XML namespace of a CAP version.
pub fn namespace(version: CapVersion) -> &'static str {
    match version {
        CapVersion::V1_0 => "http://www.incident.com/cap/1.0",
        CapVersion::V1_1 => "urn:oasis:names:tc:emergency:cap:1.1",
        CapVersion::V1_2 => "urn:oasis:names:tc:emergency:cap:1.2",
    }
}

fn kind_of(root: roxmltree::Node<'_, '_>) -> Kind {
    let name = root.tag_name();
    match (name.name(), name.namespace().unwrap_or_default()) {
        ("feed", "http://www.w3.org/2005/Atom") => Kind::Atom,
        ("rss", "") | ("RDF", "http://www.w3.org/1999/02/22-rdf-syntax-ns#") => Kind::Rss,
        ("EDXLDistribution", namespace) if namespace.starts_with("urn:oasis:names:tc:emergency:EDXL:DE:") => {
            Kind::EdxlDe
        }
        _ => Kind::Other,
    }
}
