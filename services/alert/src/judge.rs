//! Two judgements, kept apart: whether a message is CAP ([`cap_valid`]) and whether the bus takes it ([`bus_admissible`]).
//!
//! A fault names the place, the rule and the remedy. The codec finds the faults of form (order, cardinality, values that
//! cannot be read) with the same type; what is judged here are the rules that a well-formed, typed message can still
//! break: the prose of the standard, and what the bus asks beyond it.

use std::collections::BTreeSet;
use std::fmt;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::area::Area;
use crate::classify::{Classification, classify};
use crate::message::{
    Alert, CapVersion, Category, Certainty, Info, MessageType, ResponseType, Scope, Status, ValuePair,
};
use crate::time::Timestamp;
use crate::vocabulary::{ALARM_LEVEL, EVENT_CODE, SIGNAL, Vocabulary};

/// How far `sent` may lie ahead of the judge's clock.
pub const SENT_AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);

/// The most messages that one may refer to: each costs the ledger of live alerts a row.
pub const REFERENCES_MAX: usize = 1_000;

/// One reason why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Fault {
    /// The element, for example `alert.info[0].area[1].polygon[0]`; indices count from zero.
    pub path: String,
    /// The rule.
    pub code: FaultCode,
    /// What is wrong and what to do about it, in one sentence.
    pub reason: String,
}

impl Fault {
    /// Joins a place, a rule and a sentence.
    pub fn new(path: impl Into<String>, code: FaultCode, reason: impl Into<String>) -> Self {
        Self { path: path.into(), code, reason: reason.into() }
    }
}

macro_rules! fault_codes {
    ($($(#[$doc:meta])+ $variant:ident = $text:literal),+ $(,)?) => {
        /// The rule that a fault breaks; its text is for ever, for programs to match on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum FaultCode { $($(#[$doc])+ #[serde(rename = $text)] $variant),+ }

        impl FaultCode {
            /// The rule as programs spell it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for FaultCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

fault_codes! {
    /// A required element is not there.
    MissingElement = "missing-element",
    /// An element that CAP does not have at this place.
    UnexpectedElement = "unexpected-element",
    /// An element that stands after one it must precede.
    ElementOrder = "element-order",
    /// An element that may stand once stands again.
    RepeatedElement = "repeated-element",
    /// An attribute; CAP has none.
    UnexpectedAttribute = "unexpected-attribute",
    /// Text between elements.
    UnexpectedText = "unexpected-text",
    /// A code value that CAP does not have.
    BadCode = "bad-code",
    /// A code value that this version of CAP does not have yet or no longer.
    CodeOfOtherVersion = "code-of-other-version",
    /// Not a CAP date and time, or one without an offset.
    BadDateTime = "bad-date-time",
    /// An empty polygon.
    PolygonEmpty = "polygon-empty",
    /// A polygon with fewer than four points.
    PolygonShort = "polygon-short",
    /// A polygon whose last point is not its first.
    PolygonOpen = "polygon-open",
    /// A point that cannot be read.
    BadPoint = "bad-point",
    /// A circle that cannot be read.
    BadCircle = "bad-circle",
    /// A number that cannot be read.
    BadNumber = "bad-number",
    /// References that are not triples.
    BadReferences = "bad-references",
    /// A CAP 1.0 code without `=`, or a name with one in it.
    BadValuePair = "bad-value-pair",
    /// Not a language tag.
    BadLanguage = "bad-language",
    /// Characters that an identifier, a sender, or XML itself cannot hold.
    BadCharacters = "bad-characters",
    /// A signature that is not one element of the XML-DSig namespace.
    BadSignature = "bad-signature",
    /// More bytes, polygons, points or references than the limits allow.
    TooLarge = "too-large",
    /// A message about others that names none.
    ReferencesMissing = "references-missing",
    /// Restricted without `restriction`.
    RestrictionMissing = "restriction-missing",
    /// Private without `addresses`.
    AddressesMissing = "addresses-missing",
    /// `ceiling` without `altitude`.
    CeilingWithoutAltitude = "ceiling-without-altitude",
    /// No `scope`.
    ScopeMissing = "scope-missing",
    /// An Exercise or Error without its `note`.
    NoteMissing = "note-missing",
    /// An Alert or Update without `info`.
    InfoMissing = "info-missing",
    /// No `expires`.
    ExpiresMissing = "expires-missing",
    /// `expires` at or before `sent`.
    ExpiresBeforeSent = "expires-before-sent",
    /// `expires` has passed.
    Expired = "expired",
    /// `expires` beyond the event's ceiling.
    ExpiresBeyondCeiling = "expires-beyond-ceiling",
    /// `sent` in the future.
    SentInFuture = "sent-in-future",
    /// No area, or none with a shape or a code.
    AreaMissing = "area-missing",
    /// Infos that speak of different things.
    InfosDisagree = "infos-disagree",
    /// An event that the vocabulary does not have.
    UnknownEvent = "unknown-event",
    /// A level that the event's scale does not have.
    UnknownLevel = "unknown-level",
    /// A signal that the vocabulary does not have, or that its event does not carry.
    UnknownSignal = "unknown-signal",
    /// An event that carries a signal, without one.
    SignalMissing = "signal-missing",
    /// The message's own codes say something else than its classification.
    ClassificationDiffers = "classification-differs",
}

/// Judges a message by the standard of its own CAP version, its prose included. An empty list means valid.
///
/// Source: CAP 1.2 §3.2 and §3.3; CAP 1.1 and 1.0 for messages written in them.
pub fn cap_valid(alert: &Alert) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, text) in [("identifier", &alert.identifier), ("sender", &alert.sender)] {
        let bad = |c: char| c.is_whitespace() || matches!(c, ',' | '<' | '&');
        if text.is_empty() || text.contains(bad) {
            let reason = format!("{name} is empty or holds a space, comma, < or &; remove them");
            faults.push(Fault::new(format!("alert.{name}"), FaultCode::BadCharacters, reason));
        }
    }
    version_of_codes(alert, &mut faults);
    match alert.scope {
        None if alert.version != CapVersion::V1_0 => {
            faults.push(Fault::new("alert.scope", FaultCode::MissingElement, "scope is required; say for whom it is"));
        }
        Some(Scope::Restricted) if blank(alert.restriction.as_deref()) => {
            let reason = "a Restricted message needs restriction; write who may read it";
            faults.push(Fault::new("alert.restriction", FaultCode::RestrictionMissing, reason));
        }
        Some(Scope::Private) if alert.addresses.as_ref().is_none_or(|group| group.items().is_empty()) => {
            let reason = "a Private message needs addresses; list its recipients";
            faults.push(Fault::new("alert.addresses", FaultCode::AddressesMissing, reason));
        }
        _ => {}
    }
    faults.extend(references_missing(alert));
    for (at, text) in alert.signatures.iter().enumerate() {
        if !crate::xml::is_signature(text) {
            let reason = "a signature is one well-formed element of the XML-DSig namespace; leave out anything else";
            faults.push(Fault::new(format!("alert.Signature[{at}]"), FaultCode::BadSignature, reason));
        }
    }
    for (at, info) in alert.infos.iter().enumerate() {
        info_valid(alert.version, info, &format!("alert.info[{at}]"), &mut faults);
    }
    faults.extend(crate::xml::unwritable(alert));
    faults
}

fn blank(text: Option<&str>) -> bool {
    text.is_none_or(|text| text.trim().is_empty())
}

fn references_missing(alert: &Alert) -> Option<Fault> {
    if alert.msg_type == MessageType::Alert || !alert.referenced().is_empty() {
        return None;
    }
    let reason = format!("{} has no references; name the messages it is about", alert.msg_type);
    Some(Fault::new("alert.references", FaultCode::ReferencesMissing, reason))
}

fn version_of_codes(alert: &Alert, faults: &mut Vec<Fault>) {
    let mut other = |path: String, code: &str| {
        let reason = format!("CAP {} does not have {code:?} here; use one of its own values", alert.version);
        faults.push(Fault::new(path, FaultCode::CodeOfOtherVersion, reason));
    };
    if alert.version == CapVersion::V1_0 && alert.status == Status::Draft {
        other("alert.status".into(), "Draft");
    }
    if alert.version != CapVersion::V1_0 && alert.password.is_some() {
        other("alert.password".into(), "password");
    }
    for (at, info) in alert.infos.iter().enumerate() {
        for (k, response) in info.response_types.iter().enumerate() {
            let new = matches!(response, ResponseType::Avoid | ResponseType::AllClear);
            if alert.version == CapVersion::V1_0 || (new && alert.version == CapVersion::V1_1) {
                other(format!("alert.info[{at}].responseType[{k}]"), response.as_cap());
            }
        }
        let certainty_fits = match info.certainty {
            Certainty::VeryLikely => alert.version == CapVersion::V1_0,
            Certainty::Observed => alert.version != CapVersion::V1_0,
            _ => true,
        };
        if !certainty_fits {
            other(format!("alert.info[{at}].certainty"), info.certainty.as_cap());
        }
        for (k, category) in info.categories.iter().enumerate() {
            if alert.version == CapVersion::V1_0 && *category == Category::Cbrne {
                other(format!("alert.info[{at}].category[{k}]"), category.as_cap());
            }
        }
        for (k, resource) in info.resources.iter().enumerate() {
            if alert.version == CapVersion::V1_0 && resource.deref_uri.is_some() {
                other(format!("alert.info[{at}].resource[{k}].derefUri"), "derefUri");
            }
        }
    }
}

fn info_valid(version: CapVersion, info: &Info, path: &str, faults: &mut Vec<Fault>) {
    if info.categories.is_empty() && version != CapVersion::V1_0 {
        let reason = "category is required; give at least one";
        faults.push(Fault::new(format!("{path}.category"), FaultCode::MissingElement, reason));
    }
    if info.language.as_deref().is_some_and(|tag| !is_language(tag)) {
        let reason = "language is not a tag as RFC 3066 writes them, for example zh-Hant";
        faults.push(Fault::new(format!("{path}.language"), FaultCode::BadLanguage, reason));
    }
    for (at, resource) in info.resources.iter().enumerate() {
        if version == CapVersion::V1_2 && resource.mime_type.is_none() {
            let reason = "mimeType is required since CAP 1.2; name the type of the file";
            let path = format!("{path}.resource[{at}].mimeType");
            faults.push(Fault::new(path, FaultCode::MissingElement, reason));
        }
    }
    for (at, area) in info.areas.iter().enumerate() {
        if area.ceiling.is_some() && area.altitude.is_none() {
            let reason = "ceiling stands without altitude; give the altitude or leave the ceiling out";
            let path = format!("{path}.area[{at}].ceiling");
            faults.push(Fault::new(path, FaultCode::CeilingWithoutAltitude, reason));
        }
    }
    if version == CapVersion::V1_0 {
        let geocodes =
            |(at, area): (usize, &Area)| pairs_with_equals(&area.geocodes, &format!("{path}.area[{at}].geocode"));
        faults.extend(info.areas.iter().enumerate().flat_map(geocodes));
        faults.extend(pairs_with_equals(&info.event_codes, &format!("{path}.eventCode")));
        faults.extend(pairs_with_equals(&info.parameters, &format!("{path}.parameter")));
    }
}

/// XML Schema `language`: parts of 1 to 8 letters (digits too after the first), joined by hyphens.
fn is_language(tag: &str) -> bool {
    tag.trim_ascii().split('-').enumerate().all(|(at, part)| {
        let plain = |b: u8| b.is_ascii_alphabetic() || (at > 0 && b.is_ascii_digit());
        (1..=8).contains(&part.len()) && part.bytes().all(plain)
    })
}

/// CAP 1.0 joins a name and a value with `=`, so a name cannot hold one.
fn pairs_with_equals(pairs: &[ValuePair], path: &str) -> Vec<Fault> {
    let bad = pairs.iter().enumerate().filter(|(_, pair)| pair.value_name.contains('='));
    let reason = "CAP 1.0 writes name=value, so the name cannot hold =; use another name";
    bad.map(|(at, _)| Fault::new(format!("{path}[{at}]"), FaultCode::BadValuePair, reason)).collect()
}

/// Judges whether the bus takes a message at `now`. An empty list means that it does.
///
/// `classification` is what stands in the record beside the message. The standard is judged by [`cap_valid`]; here are
/// the rules of the bus: a scope; `sent` at most [`SENT_AHEAD_MAX`] ahead; for an Alert or Update an `expires` and an
/// explicit area in every info, not past and under the event's ceiling; references for all else; words that the
/// vocabulary has; infos that agree.
pub fn bus_admissible(
    alert: &Alert,
    classification: &Classification,
    vocabulary: &Vocabulary,
    now: Timestamp,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    if alert.scope.is_none() {
        let reason = "scope is missing; say Public, Restricted or Private";
        faults.push(Fault::new("alert.scope", FaultCode::ScopeMissing, reason));
    }
    let ahead = alert.sent.instant().duration_since(now);
    if ahead > SENT_AHEAD_MAX {
        let reason = format!("sent is {} s in the future; set the sender's clock", ahead.as_secs());
        faults.push(Fault::new("alert.sent", FaultCode::SentInFuture, reason));
    }
    faults.extend(references_missing(alert));
    if alert.referenced().len() > REFERENCES_MAX {
        let reason = format!("more than {REFERENCES_MAX} messages are named; split the message");
        faults.push(Fault::new("alert.references", FaultCode::TooLarge, reason));
    }
    let note = match (alert.status, alert.msg_type) {
        (Status::Exercise, _) => Some("an Exercise message needs a note; name the exercise in it"),
        (_, MessageType::Error) => Some("an Error message needs a note; give the reason in it"),
        _ => None,
    };
    if let Some(reason) = note.filter(|_| blank(alert.note.as_deref())) {
        faults.push(Fault::new("alert.note", FaultCode::NoteMissing, reason));
    }
    if matches!(alert.msg_type, MessageType::Alert | MessageType::Update) {
        if alert.infos.is_empty() {
            let reason = format!("{} has no info; say what happens and where", alert.msg_type);
            faults.push(Fault::new("alert.info", FaultCode::InfoMissing, reason));
        }
        let ceiling = vocabulary.expires_max(classification.event.as_deref());
        for (at, info) in alert.infos.iter().enumerate() {
            let path = format!("alert.info[{at}]");
            faults.extend(expires_fault(alert, info, classification, ceiling, now, &path));
            faults.extend(area_fault(info, &path));
        }
    }
    words_known(alert, classification, vocabulary, &mut faults);
    infos_agree(alert, &mut faults);
    faults
}

fn expires_fault(
    alert: &Alert,
    info: &Info,
    classification: &Classification,
    ceiling: SignedDuration,
    now: Timestamp,
    path: &str,
) -> Option<Fault> {
    let (code, reason) = match &info.expires {
        None => (FaultCode::ExpiresMissing, "expires is missing; say until when the message holds".into()),
        Some(expires) if expires.instant() <= alert.sent.instant() => {
            (FaultCode::ExpiresBeforeSent, format!("expires {expires} is not after sent {}; set it later", alert.sent))
        }
        Some(expires) if expires.instant() <= now => {
            (FaultCode::Expired, format!("expired at {expires}; issue a new message if it still holds"))
        }
        Some(expires) if expires.instant().duration_since(alert.sent.instant()) > ceiling => {
            let event = classification.event.as_deref().unwrap_or("an unclassified event");
            let hours = ceiling.as_hours();
            let reason = format!(
                "expires {expires} is more than {hours} h after sent, the ceiling of {event}; renew it by Update"
            );
            (FaultCode::ExpiresBeyondCeiling, reason)
        }
        Some(_) => return None,
    };
    Some(Fault::new(format!("{path}.expires"), code, reason))
}

fn area_fault(info: &Info, path: &str) -> Option<Fault> {
    let placed = |area: &Area| !(area.polygons.is_empty() && area.circles.is_empty() && area.geocodes.is_empty());
    if info.areas.iter().any(placed) {
        return None;
    }
    let reason = "no area has a polygon, circle or geocode; say where, since nothing means everywhere";
    Some(Fault::new(format!("{path}.area"), FaultCode::AreaMissing, reason))
}

fn words_known(alert: &Alert, classification: &Classification, vocabulary: &Vocabulary, faults: &mut Vec<Fault>) {
    let own = classify(alert, vocabulary);
    let mut push = |path: String, code, reason: String| faults.push(Fault::new(path, code, reason));
    for (at, info) in alert.infos.iter().enumerate() {
        for (k, pair) in info.event_codes.iter().enumerate().filter(|(_, pair)| pair.value_name == EVENT_CODE) {
            if vocabulary.event(&pair.value).is_none() {
                let reason =
                    format!("{:?} is not an event of {}; use one of its codes", pair.value, vocabulary.version());
                push(format!("alert.info[{at}].eventCode[{k}]"), FaultCode::UnknownEvent, reason);
            }
        }
        let event = info.event_code(EVENT_CODE).and_then(|code| vocabulary.event(code));
        for (k, pair) in info.parameters.iter().enumerate() {
            let path = || format!("alert.info[{at}].parameter[{k}]");
            if pair.value_name == SIGNAL {
                if vocabulary.signal(&pair.value).is_none() || event.is_some_and(|event| !event.carries_signal) {
                    let reason =
                        format!("{:?} is not a signal that this event carries; use one of the vocabulary", pair.value);
                    push(path(), FaultCode::UnknownSignal, reason);
                }
            } else if pair.value_name == ALARM_LEVEL && !level_on_scale(info, &pair.value, vocabulary) {
                let reason =
                    format!("{:?} is not a level of this event's scale; use a number of the scale", pair.value);
                push(path(), FaultCode::UnknownLevel, reason);
            }
        }
    }
    match classification.event.as_deref().map(|code| (code, vocabulary.event(code))) {
        Some((code, None)) => {
            let reason = format!("the message is classified as {code:?}, which {} does not have", vocabulary.version());
            push("alert".into(), FaultCode::UnknownEvent, reason);
        }
        Some((code, Some(event)))
            if event.carries_signal && classification.signal.is_none() && !alert.infos.is_empty() =>
        {
            let reason = format!("{code} names no signal; add a parameter {SIGNAL}");
            push("alert.info[0].parameter".into(), FaultCode::SignalMissing, reason);
        }
        _ => {}
    }
    if own.event.is_some() && own != *classification {
        let reason = "the message's own codes say something else than its classification; classify it by its codes";
        push("alert".into(), FaultCode::ClassificationDiffers, reason.into());
    }
}

fn level_on_scale(info: &Info, level: &str, vocabulary: &Vocabulary) -> bool {
    let Some(event) = info.event_code(EVENT_CODE).and_then(|code| vocabulary.event(code)) else { return true };
    let signal = info.parameter(SIGNAL).and_then(|code| vocabulary.signal(code));
    let scale = event.scale.as_deref().or(signal.and_then(|signal| signal.scale.as_deref()));
    let scale = scale.and_then(|id| vocabulary.scale(id));
    level.trim_ascii().parse().is_ok_and(|level| scale.is_some_and(|scale| scale.level(level).is_some()))
}

fn infos_agree(alert: &Alert, faults: &mut Vec<Fault>) {
    let Some((first, rest)) = alert.infos.split_first() else { return };
    let codes = |pairs: &[ValuePair]| -> BTreeSet<ValuePair> {
        let ours = |name: &str| matches!(name, EVENT_CODE | ALARM_LEVEL | SIGNAL);
        pairs.iter().filter(|pair| ours(&pair.value_name)).cloned().collect()
    };
    let categories = |info: &Info| info.categories.iter().copied().collect::<BTreeSet<_>>();
    for (at, info) in rest.iter().enumerate() {
        let mut differ = |element: &str, differs: bool| {
            if differs {
                let reason = format!("{element} differs from the first info's; write two messages for two events");
                let path = format!("alert.info[{}].{element}", at + 1);
                faults.push(Fault::new(path, FaultCode::InfosDisagree, reason));
            }
        };
        differ("category", categories(info) != categories(first));
        differ("eventCode", codes(&info.event_codes) != codes(&first.event_codes));
        differ("parameter", codes(&info.parameters) != codes(&first.parameters));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::ids::AlertId;
    use crate::message::{Decimal, Group, References, Resource};
    use crate::testing::fire;
    use crate::time::DateTime;
    use crate::vocabulary::v1;

    /// A rule is broken by `change`; exactly that fault must come out.
    type Case = (&'static str, FaultCode, fn(&mut Alert));

    fn time(text: &str) -> DateTime {
        DateTime::parse(text).unwrap()
    }

    fn now() -> Timestamp {
        time("2026-11-22T08:01:00+08:00").instant()
    }

    fn of(alert: &Alert) -> Vec<Fault> {
        bus_admissible(alert, &classify(alert, v1()), v1(), now())
    }

    fn check(cases: &[Case], judge: fn(&Alert) -> Vec<Fault>) {
        assert_eq!(judge(&fire()), [], "the sound message");
        for (path, code, change) in cases {
            let mut alert = fire();
            change(&mut alert);
            let faults = judge(&alert);
            let found: Vec<(&str, FaultCode)> = faults.iter().map(|fault| (fault.path.as_str(), fault.code)).collect();
            assert_eq!(found, [(*path, *code)], "{faults:#?}");
            assert!(faults[0].reason.len() > 20, "{} has no sentence", faults[0]);
        }
    }

    #[test]
    fn cap_faults_have_path_and_code() {
        let cases: &[Case] = &[
            ("alert.identifier", FaultCode::BadCharacters, |a| a.identifier = "a b".into()),
            ("alert.sender", FaultCode::BadCharacters, |a| a.sender = "a,b".into()),
            ("alert.sender", FaultCode::BadCharacters, |a| a.sender.clear()),
            ("alert.scope", FaultCode::MissingElement, |a| a.scope = None),
            ("alert.restriction", FaultCode::RestrictionMissing, |a| a.scope = Some(Scope::Restricted)),
            ("alert.addresses", FaultCode::AddressesMissing, |a| a.scope = Some(Scope::Private)),
            ("alert.addresses", FaultCode::AddressesMissing, |a| {
                (a.scope, a.addresses) = (Some(Scope::Private), Some(Group::parse(" ")));
            }),
            ("alert.references", FaultCode::ReferencesMissing, |a| a.msg_type = MessageType::Update),
            ("alert.references", FaultCode::ReferencesMissing, |a| a.msg_type = MessageType::Ack),
            ("alert.password", FaultCode::CodeOfOtherVersion, |a| a.password = Some("x".into())),
            ("alert.Signature[0]", FaultCode::BadSignature, |a| a.signatures = vec!["<x/>".into()]),
            ("alert.info[0].category", FaultCode::MissingElement, |a| a.infos[0].categories.clear()),
            ("alert.info[0].language", FaultCode::BadLanguage, |a| a.infos[0].language = Some("en_US".into())),
            ("alert.info[0].certainty", FaultCode::CodeOfOtherVersion, |a| {
                a.infos[0].certainty = Certainty::VeryLikely;
            }),
            ("alert.info[0].responseType[0]", FaultCode::CodeOfOtherVersion, |a| {
                (a.version, a.infos[0].response_types) = (CapVersion::V1_1, vec![ResponseType::AllClear]);
            }),
            ("alert.info[0].resource[0].mimeType", FaultCode::MissingElement, |a| {
                a.infos[0].resources = vec![Resource::default()];
            }),
            ("alert.info[0].area[0].ceiling", FaultCode::CeilingWithoutAltitude, |a| {
                a.infos[0].areas[0].ceiling = Decimal::parse("10");
            }),
            ("alert.info.headline", FaultCode::BadCharacters, |a| a.infos[0].headline = Some("a\u{1}".into())),
        ];
        check(cases, cap_valid);
    }

    #[test]
    fn cap_1_0_has_its_own_values() {
        let mut alert = fire();
        alert.version = CapVersion::V1_0;
        alert.infos[0].certainty = Certainty::VeryLikely;
        alert.scope = None;
        alert.infos[0].categories.clear();
        assert_eq!(cap_valid(&alert), []);
        alert.infos[0].certainty = Certainty::Observed;
        alert.status = Status::Draft;
        alert.infos[0].event_codes[0].value_name = "a=b".into();
        let codes: Vec<FaultCode> = cap_valid(&alert).iter().map(|fault| fault.code).collect();
        let other = FaultCode::CodeOfOtherVersion;
        assert_eq!(codes, [other, other, FaultCode::BadValuePair]);
    }

    #[test]
    fn bus_faults_have_path_and_code() {
        let cases: &[Case] = &[
            ("alert.scope", FaultCode::ScopeMissing, |a| a.scope = None),
            ("alert.references", FaultCode::ReferencesMissing, |a| a.msg_type = MessageType::Update),
            ("alert.references", FaultCode::TooLarge, |a| {
                let id = AlertId::new("s", "i", "t");
                a.references = Some(References::from_ids(&vec![id; REFERENCES_MAX + 1]));
            }),
            ("alert.note", FaultCode::NoteMissing, |a| a.status = Status::Exercise),
            ("alert.info", FaultCode::InfoMissing, |a| a.infos.clear()),
            ("alert.info[0].expires", FaultCode::ExpiresMissing, |a| a.infos[0].expires = None),
            ("alert.info[0].expires", FaultCode::ExpiresBeforeSent, |a| {
                a.infos[0].expires = Some(time("2026-11-22T08:00:00+08:00"));
            }),
            ("alert.info[0].expires", FaultCode::Expired, |a| {
                a.infos[0].expires = Some(time("2026-11-22T08:01:00+08:00"));
            }),
            ("alert.info[0].expires", FaultCode::ExpiresBeyondCeiling, |a| {
                a.infos[0].expires = Some(time("2026-11-23T08:00:01+08:00"));
            }),
            ("alert.sent", FaultCode::SentInFuture, |a| a.sent = time("2026-11-22T08:06:01+08:00")),
            ("alert.info[0].area", FaultCode::AreaMissing, |a| a.infos[0].areas.clear()),
            ("alert.info[0].area", FaultCode::AreaMissing, |a| a.infos[0].areas[0].circles.clear()),
            ("alert.info[0].eventCode[0]", FaultCode::UnknownEvent, |a| {
                a.infos[0].event_codes[0].value = "fyre".into()
            }),
            ("alert.info[0].parameter[0]", FaultCode::UnknownLevel, |a| a.infos[0].parameters[0].value = "6".into()),
            ("alert.info[0].parameter[1]", FaultCode::UnknownSignal, |a| {
                a.infos[0].parameters.push(ValuePair::new(SIGNAL, "WRAINB"));
            }),
            ("alert.info[0].parameter", FaultCode::SignalMissing, |a| {
                a.infos[0].event_codes[0].value = "weather-signal".into();
                a.infos[0].parameters.clear();
            }),
            ("alert.info[1].category", FaultCode::InfosDisagree, |a| {
                a.infos.push(a.infos[0].clone());
                a.infos[1].categories = vec![Category::Met];
            }),
            ("alert.info[1].parameter", FaultCode::InfosDisagree, |a| {
                a.infos.push(a.infos[0].clone());
                a.infos[1].parameters[0].value = "4".into();
            }),
        ];
        check(cases, of);
    }

    #[test]
    fn expires_exactly_at_the_ceiling_is_admitted() {
        let mut alert = fire();
        alert.infos[0].expires = Some(time("2026-11-23T08:00:00+08:00"));
        assert_eq!(of(&alert), []);
    }

    #[test]
    fn unclassified_message_is_admitted_under_its_own_ceiling() {
        let mut alert = fire();
        alert.infos[0].event_codes.clear();
        alert.infos[0].parameters.clear();
        alert.infos[0].expires = Some(time("2026-11-25T08:00:00+08:00"));
        assert_eq!(of(&alert), []);
        alert.infos[0].expires = Some(time("2026-11-25T08:00:01+08:00"));
        assert_eq!(of(&alert)[0].code, FaultCode::ExpiresBeyondCeiling);
    }

    #[test]
    fn cancel_ack_and_error_need_references_and_no_info() {
        let mut alert = fire();
        let cause = AlertId::new("s", "i", "2026-11-22T08:00:00+08:00");
        alert.references = Some(References::from_ids(&[cause]));
        alert.infos.clear();
        for msg_type in [MessageType::Cancel, MessageType::Ack] {
            alert.msg_type = msg_type;
            assert_eq!(of(&alert), [], "{msg_type}");
        }
        alert.msg_type = MessageType::Error;
        assert_eq!(of(&alert)[0].code, FaultCode::NoteMissing);
        alert.note = Some("signature does not verify".into());
        assert_eq!(of(&alert), []);
    }

    #[test]
    fn classification_must_be_known_and_must_not_contradict_the_message() {
        let alert = fire();
        let words = |event: &str| Classification { event: Some(event.into()), ..Classification::default() };
        let judge = |words: &Classification| bus_admissible(&alert, words, v1(), now());
        assert_eq!(judge(&words("flood"))[0].code, FaultCode::ClassificationDiffers);
        assert_eq!(judge(&words("fyre"))[0].code, FaultCode::UnknownEvent);
    }
}
