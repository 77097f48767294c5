//! Records: sealing our own, opening those of others.
//!
//! A record is three byte strings: header, body, signatures. The signature covers the DSSE pre-authentication encoding
//! of the header; the header holds the hash of the body; the hash of the header is the record's hash. Bytes that came
//! in are kept and relayed as they are: what is decoded here is a copy for our own use.

use std::sync::Arc;

use bytes::Bytes;
use campanile_alert::classify::Classification;
use campanile_alert::{Alert, DepartmentId, ExerciseId, OriginId, Scope, Status, Timestamp, World};
use campanile_discovery::keys::{KeyId, Signature, SigningKey};
use campanile_log::{Entry, Hash, Lane, Link, LogId, Sealed, Slot};
use campanile_proto::bus::v1 as wire;
use campanile_proto::convert;
use prost::Message as _;

/// The format this version writes and understands.
pub const FORMAT: u32 = 1;
/// The reader version of this program; a record that asks for more is stored and relayed, not acted on.
pub const READER_VERSION: u32 = 1;
/// The largest record, header, body and signatures together, in bytes.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// The most causes that a record lists.
pub const CAUSES_MAX: usize = 32;
/// The most departments that a tick says were heard.
pub const HEARD_MAX: usize = 1_024;
/// The most signatures on a record.
pub const SIGNATURES_MAX: usize = 4;
/// What the signature of a record is over, in DSSE's words.
pub const PAYLOAD_TYPE: &str = "application/vnd.campanile.record.v1+protobuf";
/// What the signature of a checkpoint is over.
pub const CHECKPOINT_TYPE: &str = "application/vnd.campanile.checkpoint.v1+protobuf";

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More bytes than a record may have.
    #[error("the record has {0} bytes; at most 1 MiB is taken")]
    TooLarge(usize),
    /// The header is not a RecordHeader.
    #[error("the header of the record is not readable")]
    Header(#[source] prost::DecodeError),
    /// A field of the header is missing or out of range.
    #[error("the record's header has no usable {0}")]
    Field(&'static str),
    /// The body is not what the header says.
    #[error("the body does not match the hash in the header")]
    BodyHash,
    /// The body is not a RecordBody.
    #[error("the body of the record is not readable")]
    Body(#[source] prost::DecodeError),
    /// The alert in the body breaks the domain's rules.
    #[error("the alert in the record is not valid: {0}")]
    Alert(String),
}

/// Who may read a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    /// The scope of the message.
    pub scope: Scope,
    /// Departments that may read a Restricted or Private body, besides its own; at most 256.
    pub departments: Vec<String>,
}

impl Audience {
    /// Everyone.
    pub fn public() -> Self {
        Self { scope: Scope::Public, departments: Vec::new() }
    }

    /// True when a node of `reader` may read a body that `author` published.
    pub fn admits(&self, reader: &str, author: &str) -> bool {
        self.scope == Scope::Public || reader == author || self.departments.iter().any(|d| d == reader)
    }
}

/// What stands in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of RecordKind in record.proto")]
pub enum Kind {
    Alert,
    Approval,
    Tick,
    DeliveryReport,
    KeyChange,
    Manifest,
    Pause,
    Envelope,
    Activation,
    Shadow,
}

/// A decoded header.
#[derive(Debug, Clone)]
pub struct Header {
    /// The least reader version that may act on it.
    pub reader_version_min: u32,
    /// The federation.
    pub federation: String,
    /// The author.
    pub origin: OriginId,
    /// The log it stands in.
    pub log: LogId,
    /// The epoch, above zero.
    pub epoch: u64,
    /// The number in the epoch, from 1.
    pub seq: u64,
    /// The hash before it; zero for seq 1.
    pub previous: Hash,
    /// For seq 1: the tail it continues.
    pub link: Option<Link>,
    /// When it was sealed.
    pub time: Timestamp,
    /// The roster it was sealed under.
    pub roster: u64,
    /// The key that signed it.
    pub key_id: String,
    /// Its status.
    pub status: Status,
    /// Its world.
    pub world: World,
    /// What stands in the body.
    pub kind: Kind,
    /// Severe, Extreme, or about such a one.
    pub urgent: bool,
    /// Who may read the body.
    pub audience: Audience,
    /// SHA-256 of the body.
    pub body_hash: Hash,
    /// The first field that is missing or out of range though the record chains; such a record never counts.
    pub fault: Option<&'static str>,
}

/// A decoded body.
#[derive(Debug, Clone)]
pub struct Body {
    /// What the alert means in the vocabulary.
    pub classification: Classification,
    /// The alerts that led to it, the nearest first.
    pub causes: Vec<wire::Cause>,
    /// How many there are.
    pub cause_count: u32,
    /// The rule that issued it.
    pub rule: Option<campanile_proto::rules::v1::RuleRef>,
    /// The length of the chain of effects.
    pub depth: u32,
    /// The rules on the chain.
    pub rule_chain: Vec<String>,
    /// W3C trace context of the root cause.
    pub traceparent: String,
    /// The content.
    pub content: Content,
}

/// A moment that timers waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// The moment.
    pub at: Timestamp,
    /// The departments that were heard just before, in order; at most one for each of the roster.
    pub heard: Vec<DepartmentId>,
}

/// The content of a body.
#[derive(Debug, Clone)]
pub enum Content {
    /// An alert, and the bytes it came in when it was imported.
    Alert {
        /// The message.
        alert: Arc<Alert>,
        /// The exact bytes of an imported message.
        original: Option<Bytes>,
        /// Their media type.
        media_type: Option<String>,
    },
    /// An officer's decision.
    Approval(campanile_proto::rules::v1::Approval),
    /// A moment that timers waited for.
    Tick(Tick),
    /// What a gateway did.
    DeliveryReport(campanile_proto::gateway::v1::DeliveryReport),
    /// A new signing key.
    KeyChange(wire::KeyChange),
    /// The author's active packs.
    Manifest(campanile_proto::rules::v1::Manifest),
    /// A rule stopped or released.
    Pause(campanile_proto::rules::v1::Pause),
    /// A pre-authorisation.
    Envelope(campanile_proto::rules::v1::Envelope),
    /// A change of which packs are in force.
    Activation(Box<campanile_proto::rules::v1::Activation>),
    /// What a pack in shadow would have done.
    Shadow(Box<campanile_proto::rules::v1::ShadowDecision>),
}

impl Content {
    /// The kind, for the header.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Alert { .. } => Kind::Alert,
            Self::Approval(_) => Kind::Approval,
            Self::Tick(_) => Kind::Tick,
            Self::DeliveryReport(_) => Kind::DeliveryReport,
            Self::KeyChange(_) => Kind::KeyChange,
            Self::Manifest(_) => Kind::Manifest,
            Self::Pause(_) => Kind::Pause,
            Self::Envelope(_) => Kind::Envelope,
            Self::Activation(_) => Kind::Activation,
            Self::Shadow(_) => Kind::Shadow,
        }
    }
}

/// A record that this node is about to write: everything but its place and its signature.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The status in the header.
    pub status: Status,
    /// The exercise it belongs to.
    pub exercise: Option<ExerciseId>,
    /// Severe, Extreme, or about such a one; the pipeline adds what the references say.
    pub urgent: bool,
    /// Who may read it.
    pub audience: Audience,
    /// Body and content.
    pub body: Body,
}

impl Draft {
    /// The lane it goes to: the exercise lane for whatever is not real, else urgent or routine.
    pub fn lane(&self) -> Lane {
        match (self.status, &self.exercise) {
            (Status::Exercise | Status::Test, _) | (_, Some(_)) => Lane::Exercise,
            _ if self.urgent => Lane::Urgent,
            _ => Lane::Routine,
        }
    }
}

/// What a seal needs besides the draft and its place.
pub struct Seal<'a> {
    /// The federation.
    pub federation: &'a str,
    /// The author.
    pub origin: &'a OriginId,
    /// The number of the roster in force.
    pub roster: u64,
    /// The time to write.
    pub time: Timestamp,
    /// The key to sign with.
    pub key: &'a SigningKey,
    /// 16 random bytes.
    pub salt: [u8; 16],
}

impl Seal<'_> {
    /// Encodes and signs `draft` at `slot`.
    pub fn seal(&self, draft: &Draft, log: &LogId, slot: Slot) -> (Sealed, Header) {
        let body = encode_body(&draft.body, &self.salt);
        let body_hash = Hash::of(&body);
        let key_id = self.key.id().to_string();
        let header = wire::RecordHeader {
            format: FORMAT,
            reader_version_min: 1,
            federation: self.federation.into(),
            origin: self.origin.to_string(),
            lane: lane_to_wire(log.lane).into(),
            epoch: slot.epoch,
            seq: slot.seq,
            previous_hash: if slot.seq == 1 { Bytes::new() } else { Bytes::copy_from_slice(&slot.previous.0) },
            link: slot.link.map(|link| wire::Link {
                epoch: link.epoch,
                seq: link.seq,
                hash: Bytes::copy_from_slice(&link.hash.0),
            }),
            time: Some(convert::timestamp_to_wire(self.time)),
            roster: self.roster,
            key_id: key_id.clone(),
            status: convert::status_to_wire(draft.status).into(),
            exercise_id: draft.exercise.as_ref().map(|id| id.as_str().to_owned()),
            kind: kind_to_wire(draft.body.content.kind()).into(),
            urgent: draft.urgent,
            audience: Some(wire::Audience {
                scope: scope_to_wire(draft.audience.scope).into(),
                departments: draft.audience.departments.clone(),
            }),
            body_hash: Bytes::copy_from_slice(&body_hash.0),
            body_length: body.len() as u64,
        };
        let bytes: Bytes = header.encode_to_vec().into();
        let signature = self.key.sign(PAYLOAD_TYPE, &bytes);
        let signatures = signatures_to_bytes(&[signature]);
        let world = World::of(draft.status, draft.exercise.as_ref()).unwrap_or(World::Test);
        let decoded = Header {
            reader_version_min: 1,
            federation: self.federation.into(),
            origin: self.origin.clone(),
            log: log.clone(),
            epoch: slot.epoch,
            seq: slot.seq,
            previous: slot.previous,
            link: slot.link,
            time: self.time,
            roster: self.roster,
            key_id,
            status: draft.status,
            world,
            kind: draft.body.content.kind(),
            urgent: draft.urgent,
            audience: draft.audience.clone(),
            body_hash,
            fault: None,
        };
        (Sealed { header: bytes, body, signatures }, decoded)
    }
}

/// The bytes of a body with this salt: what a record's body hash is over.
pub fn encode_body(body: &Body, salt: &[u8; 16]) -> Bytes {
    body_to_wire(body, salt).encode_to_vec().into()
}

/// Decodes a header.
///
/// What the chain stands on must be there. Any other field that is missing or out of range is named in
/// [`Header::fault`] and gets the most careful value instead: the record is kept and never counts, so that nothing an
/// origin writes stops its own log.
///
/// # Errors
/// [`Error`] when it is not readable, or its place in the chain is missing or out of range.
pub fn open_header(bytes: &[u8]) -> Result<Header, Error> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(Error::TooLarge(bytes.len()));
    }
    let header = wire::RecordHeader::decode(bytes).map_err(Error::Header)?;
    let origin: OriginId = header.origin.parse().map_err(|_| Error::Field("origin"))?;
    let lane = lane_from_wire(header.lane()).ok_or(Error::Field("lane"))?;
    if header.epoch == 0 || header.epoch > campanile_log::epoch::MAX {
        return Err(Error::Field("epoch"));
    }
    if header.seq == 0 || header.seq > campanile_log::epoch::MAX {
        return Err(Error::Field("seq"));
    }
    let previous = match (header.seq, header.previous_hash.is_empty()) {
        (1, true) => Hash::ZERO,
        (1, false) | (_, true) => return Err(Error::Field("previous hash")),
        _ => hash(&header.previous_hash, "previous hash")?,
    };
    let link = match &header.link {
        Some(_) if header.seq != 1 => return Err(Error::Field("link")),
        Some(link) => Some(Link { epoch: link.epoch, seq: link.seq, hash: hash(&link.hash, "link")? }),
        None => None,
    };
    let mut faults = Faults::default();
    faults.check(header.format != 0, "format");
    let time = convert::timestamp_from_wire(header.time.as_ref(), "time").ok();
    let time = faults.or(time, "time", Timestamp::UNIX_EPOCH);
    let status = faults.or(convert::status_from_wire(header.status).ok(), "status", Status::Test);
    let exercise = header.exercise_id.clone().map(|id| ExerciseId::try_new(id).ok());
    faults.check(!matches!(exercise, Some(None)), "exercise id");
    let exercise = exercise.flatten();
    let world = faults.or(World::of(status, exercise.as_ref()).ok(), "exercise id", World::Test);
    let in_exercise_lane = matches!(status, Status::Exercise | Status::Test) || exercise.is_some();
    faults.check(in_exercise_lane == (lane == Lane::Exercise), "lane for its status");
    let audience = header.audience.as_ref().and_then(|audience| {
        let scope = scope_from_wire(audience.scope()).filter(|_| audience.departments.len() <= 256)?;
        Some(Audience { scope, departments: audience.departments.clone() })
    });
    let nobody = Audience { scope: Scope::Private, departments: Vec::new() };
    Ok(Header {
        reader_version_min: header.reader_version_min,
        federation: header.federation.clone(),
        log: LogId::new(header.origin.as_str(), lane),
        origin,
        epoch: header.epoch,
        seq: header.seq,
        previous,
        link,
        time,
        roster: header.roster,
        key_id: header.key_id.clone(),
        status,
        world,
        kind: faults.or(kind_from_wire(header.kind()), "kind", Kind::Tick),
        urgent: header.urgent,
        audience: faults.or(audience, "audience", nobody),
        body_hash: faults.or(hash(&header.body_hash, "body hash").ok(), "body hash", Hash::ZERO),
        fault: faults.0,
    })
}

/// The first fault of a header that chains.
#[derive(Default)]
struct Faults(Option<&'static str>);

impl Faults {
    fn check(&mut self, good: bool, field: &'static str) {
        if !good {
            self.0.get_or_insert(field);
        }
    }

    fn or<T>(&mut self, value: Option<T>, field: &'static str, otherwise: T) -> T {
        self.check(value.is_some(), field);
        value.unwrap_or(otherwise)
    }
}

/// Checks a body against its header and decodes it.
///
/// # Errors
/// [`Error`] when the hash differs, the header has a fault, the body is not readable, or the alert in it breaks the
/// domain's rules.
pub fn open_body(header: &Header, bytes: &Bytes) -> Result<Body, Error> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(Error::TooLarge(bytes.len()));
    }
    if Hash::of(bytes) != header.body_hash {
        return Err(Error::BodyHash);
    }
    if let Some(field) = header.fault {
        return Err(Error::Field(field));
    }
    let body = wire::RecordBody::decode(bytes.clone()).map_err(Error::Body)?;
    if body.causes.len() > CAUSES_MAX {
        return Err(Error::Field("causes"));
    }
    let content = content_from_wire(body.payload.ok_or(Error::Field("payload"))?)?;
    if content.kind() != header.kind {
        return Err(Error::Field("kind for its payload"));
    }
    if let Content::Alert { alert, .. } = &content
        && alert.status != header.status
    {
        return Err(Error::Field("status for its alert"));
    }
    Ok(Body {
        classification: body.classification.map(convert::classification_from_wire).unwrap_or_default(),
        causes: body.causes,
        cause_count: body.cause_count,
        rule: body.rule,
        depth: body.depth,
        rule_chain: body.rule_chain,
        traceparent: body.traceparent,
        content,
    })
}

/// Reads the stored form of signatures.
///
/// # Errors
/// [`Error::Field`] when there is none, more than four, or one is malformed.
pub fn open_signatures(bytes: &Bytes) -> Result<Vec<Signature>, Error> {
    let holder = wire::Record::decode(bytes.clone()).map_err(|_| Error::Field("signature"))?;
    signatures_from_wire(&holder.signatures)
}

/// Reads signatures from the wire.
///
/// # Errors
/// [`Error::Field`] when there is none, more than four, or one is malformed.
pub fn signatures_from_wire(signatures: &[wire::Signature]) -> Result<Vec<Signature>, Error> {
    if signatures.is_empty() || signatures.len() > SIGNATURES_MAX {
        return Err(Error::Field("signature"));
    }
    signatures
        .iter()
        .map(|signature| {
            let key_id: KeyId = signature.key_id.parse().map_err(|_| Error::Field("key id"))?;
            Ok(Signature { key_id, value: signature.value.to_vec() })
        })
        .collect()
}

/// The wire form of signatures.
pub fn signatures_to_wire(signatures: &[Signature]) -> Vec<wire::Signature> {
    signatures
        .iter()
        .map(|s| wire::Signature { key_id: s.key_id.to_string(), value: Bytes::copy_from_slice(&s.value) })
        .collect()
}

/// The stored form: a Record message that holds signatures alone.
fn signatures_to_bytes(signatures: &[Signature]) -> Bytes {
    let signatures = signatures_to_wire(signatures);
    wire::Record { header: Bytes::new(), body: None, signatures }.encode_to_vec().into()
}

/// The stored form of signatures that came over the wire.
pub fn signatures_as_stored(signatures: &[wire::Signature]) -> Bytes {
    wire::Record { header: Bytes::new(), body: None, signatures: signatures.to_vec() }.encode_to_vec().into()
}

/// A stored entry as it goes over the wire, with its body or without.
pub fn to_wire(entry: &Entry, with_body: bool) -> wire::Record {
    let signatures = wire::Record::decode(entry.signatures.clone()).map(|holder| holder.signatures).unwrap_or_default();
    let header = if crate::mutant("re-encode-on-relay") {
        let decoded = wire::RecordHeader::decode(entry.header.clone());
        decoded.map_or_else(|_| entry.header.clone(), |header| header.encode_to_vec().into())
    } else {
        entry.header.clone()
    };
    wire::Record { header, body: entry.body.clone().filter(|_| with_body), signatures }
}

/// A position on the wire.
pub fn position_to_wire(log: &LogId, position: &campanile_log::Position) -> wire::Position {
    wire::Position {
        origin: log.origin.to_string(),
        lane: lane_to_wire(log.lane).into(),
        epoch: position.epoch,
        seq: position.seq,
        hash: Bytes::copy_from_slice(&position.hash.0),
    }
}

/// A position from the wire.
///
/// # Errors
/// [`Error::Field`] when a part is missing or malformed: an empty message is never a position.
pub fn position_from_wire(position: &wire::Position) -> Result<(LogId, campanile_log::Position), Error> {
    let lane = lane_from_wire(position.lane()).ok_or(Error::Field("lane"))?;
    let _: OriginId = position.origin.parse().map_err(|_| Error::Field("origin"))?;
    if position.epoch == 0 || position.seq == 0 {
        return Err(Error::Field("epoch and seq"));
    }
    let hash = hash(&position.hash, "hash")?;
    let log = LogId::new(position.origin.as_str(), lane);
    Ok((log, campanile_log::Position { epoch: position.epoch, seq: position.seq, hash }))
}

fn hash(bytes: &[u8], field: &'static str) -> Result<Hash, Error> {
    bytes.try_into().map(Hash).map_err(|_| Error::Field(field))
}

fn body_to_wire(body: &Body, salt: &[u8; 16]) -> wire::RecordBody {
    wire::RecordBody {
        salt: Bytes::copy_from_slice(salt),
        classification: Some(convert::classification_to_wire(&body.classification)),
        causes: body.causes.clone(),
        cause_count: body.cause_count,
        rule: body.rule.clone(),
        depth: body.depth,
        rule_chain: body.rule_chain.clone(),
        traceparent: body.traceparent.clone(),
        payload: Some(content_to_wire(&body.content)),
    }
}

fn content_to_wire(content: &Content) -> wire::record_body::Payload {
    use wire::record_body::Payload;
    match content {
        Content::Alert { alert, original, media_type } => Payload::Alert(wire::AlertPayload {
            alert: Some(convert::alert_to_wire(alert)),
            original: original.clone(),
            original_media_type: media_type.clone(),
        }),
        Content::Approval(approval) => Payload::Approval(approval.clone()),
        Content::Tick(tick) => Payload::Tick(campanile_proto::rules::v1::Tick {
            at: Some(convert::timestamp_to_wire(tick.at)),
            heard: tick.heard.iter().map(ToString::to_string).collect(),
        }),
        Content::DeliveryReport(report) => Payload::DeliveryReport(report.clone()),
        Content::KeyChange(change) => Payload::KeyChange(change.clone()),
        Content::Manifest(manifest) => Payload::Manifest(manifest.clone()),
        Content::Pause(pause) => Payload::Pause(pause.clone()),
        Content::Envelope(envelope) => Payload::Envelope(envelope.clone()),
        Content::Activation(activation) => Payload::Activation((**activation).clone()),
        Content::Shadow(shadow) => Payload::Shadow((**shadow).clone()),
    }
}

fn content_from_wire(payload: wire::record_body::Payload) -> Result<Content, Error> {
    use wire::record_body::Payload;
    Ok(match payload {
        Payload::Alert(payload) => {
            let alert = payload.alert.ok_or(Error::Field("alert"))?;
            let alert = convert::alert_from_wire(alert).map_err(|faults| {
                let first = faults.first().map(ToString::to_string).unwrap_or_default();
                Error::Alert(first)
            })?;
            Content::Alert {
                alert: Arc::new(alert),
                original: payload.original,
                media_type: payload.original_media_type,
            }
        }
        Payload::Approval(approval) => Content::Approval(approval),
        Payload::Tick(tick) => {
            let at = convert::timestamp_from_wire(tick.at.as_ref(), "at").map_err(|_| Error::Field("tick"))?;
            let heard = tick.heard.into_iter().take(HEARD_MAX).map(DepartmentId::try_new).collect::<Result<_, _>>();
            Content::Tick(Tick { at, heard: heard.map_err(|_| Error::Field("tick"))? })
        }
        Payload::DeliveryReport(report) => Content::DeliveryReport(report),
        Payload::KeyChange(change) => Content::KeyChange(change),
        Payload::Manifest(manifest) => Content::Manifest(manifest),
        Payload::Pause(pause) => Content::Pause(pause),
        Payload::Envelope(envelope) => Content::Envelope(envelope),
        Payload::Activation(activation) => Content::Activation(Box::new(activation)),
        Payload::Shadow(shadow) => Content::Shadow(Box::new(shadow)),
    })
}

fn scope_to_wire(scope: Scope) -> campanile_proto::alert::v1::Scope {
    match scope {
        Scope::Public => campanile_proto::alert::v1::Scope::Public,
        Scope::Restricted => campanile_proto::alert::v1::Scope::Restricted,
        Scope::Private => campanile_proto::alert::v1::Scope::Private,
    }
}

fn scope_from_wire(scope: campanile_proto::alert::v1::Scope) -> Option<Scope> {
    match scope {
        campanile_proto::alert::v1::Scope::Unspecified => None,
        campanile_proto::alert::v1::Scope::Public => Some(Scope::Public),
        campanile_proto::alert::v1::Scope::Restricted => Some(Scope::Restricted),
        campanile_proto::alert::v1::Scope::Private => Some(Scope::Private),
    }
}

/// A lane on the wire.
pub fn lane_to_wire(lane: Lane) -> wire::Lane {
    match lane {
        Lane::Urgent => wire::Lane::Urgent,
        Lane::Routine => wire::Lane::Routine,
        Lane::Exercise => wire::Lane::Exercise,
    }
}

/// A lane from the wire; `None` when it is not given.
pub fn lane_from_wire(lane: wire::Lane) -> Option<Lane> {
    match lane {
        wire::Lane::Unspecified => None,
        wire::Lane::Urgent => Some(Lane::Urgent),
        wire::Lane::Routine => Some(Lane::Routine),
        wire::Lane::Exercise => Some(Lane::Exercise),
    }
}

fn kind_to_wire(kind: Kind) -> wire::RecordKind {
    match kind {
        Kind::Alert => wire::RecordKind::Alert,
        Kind::Approval => wire::RecordKind::Approval,
        Kind::Tick => wire::RecordKind::Tick,
        Kind::DeliveryReport => wire::RecordKind::DeliveryReport,
        Kind::KeyChange => wire::RecordKind::KeyChange,
        Kind::Manifest => wire::RecordKind::Manifest,
        Kind::Pause => wire::RecordKind::Pause,
        Kind::Envelope => wire::RecordKind::Envelope,
        Kind::Activation => wire::RecordKind::Activation,
        Kind::Shadow => wire::RecordKind::Shadow,
    }
}

fn kind_from_wire(kind: wire::RecordKind) -> Option<Kind> {
    Some(match kind {
        wire::RecordKind::Unspecified => return None,
        wire::RecordKind::Alert => Kind::Alert,
        wire::RecordKind::Approval => Kind::Approval,
        wire::RecordKind::Tick => Kind::Tick,
        wire::RecordKind::DeliveryReport => Kind::DeliveryReport,
        wire::RecordKind::KeyChange => Kind::KeyChange,
        wire::RecordKind::Manifest => Kind::Manifest,
        wire::RecordKind::Pause => Kind::Pause,
        wire::RecordKind::Envelope => Kind::Envelope,
        wire::RecordKind::Activation => Kind::Activation,
        wire::RecordKind::Shadow => Kind::Shadow,
    })
}
