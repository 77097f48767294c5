//! The CAP element list, typed: alert, info, resource and the code values.
//!
//! Names follow CAP 1.2; where CAP's own name reads badly in Rust (`msgType`, `areaDesc`) the field says which element
//! it is. Every value keeps the text of its element, so writing the message out again gives the same tree. What the
//! bus adds (causes, rules, drills, approvals) lives in the record around the alert, never in here.
//!
//! Source: OASIS Common Alerting Protocol 1.2, §3.2; 1.1 and 1.0 where a comment says so.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::area::Area;
use crate::ids::AlertId;
use crate::time::DateTime;

macro_rules! code_values {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every value, in the order of the standard.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Reads the code value as CAP spells it; `None` for anything else.
            pub fn from_cap(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }

            /// The code value as CAP spells it.
            pub fn as_cap(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_cap())
            }
        }
    };
}

code_values! {
    /// The version of CAP a message was written in; it decides the namespace and the order of elements.
    CapVersion {
        /// `http://www.incident.com/cap/1.0`.
        V1_0 = "1.0",
        /// `urn:oasis:names:tc:emergency:cap:1.1`.
        V1_1 = "1.1",
        /// `urn:oasis:names:tc:emergency:cap:1.2`, the one the bus writes.
        V1_2 = "1.2",
    }
}

code_values! {
    /// Whether the message is real. There is no default: an omitted status must never read as Actual.
    Status {
        /// Actionable by all recipients.
        Actual = "Actual",
        /// Actionable only by the participants of an exercise.
        Exercise = "Exercise",
        /// For the network's own functions.
        System = "System",
        /// Technical testing; all recipients disregard it.
        Test = "Test",
        /// A preliminary text, not actionable.
        Draft = "Draft",
    }
}

code_values! {
    /// What the message does.
    MessageType {
        /// Initial information.
        Alert = "Alert",
        /// Updates and supersedes the messages in `references`.
        Update = "Update",
        /// Cancels the messages in `references`.
        Cancel = "Cancel",
        /// Acknowledges receipt and acceptance of the messages in `references`.
        Ack = "Ack",
        /// Rejects the messages in `references`; the reason is in `note`.
        Error = "Error",
    }
}

code_values! {
    /// For whom the message is.
    Scope {
        /// Everyone.
        Public = "Public",
        /// Those with the operational need that `restriction` describes.
        Restricted = "Restricted",
        /// Only the given `addresses`.
        Private = "Private",
    }
}

code_values! {
    /// The kind of hazard, broadly.
    Category {
        /// Geophysical, landslides included.
        Geo = "Geo",
        /// Meteorological, floods included.
        Met = "Met",
        /// General emergency and public safety.
        Safety = "Safety",
        /// Law enforcement, military, homeland and private security.
        Security = "Security",
        /// Rescue and recovery.
        Rescue = "Rescue",
        /// Fire suppression and rescue.
        Fire = "Fire",
        /// Medical and public health.
        Health = "Health",
        /// Pollution and other environmental.
        Env = "Env",
        /// Public and private transport.
        Transport = "Transport",
        /// Utility, telecommunication and other infrastructure.
        Infra = "Infra",
        /// Chemical, biological, radiological, nuclear or explosive.
        Cbrne = "CBRNE",
        /// Other.
        Other = "Other",
    }
}

code_values! {
    /// What the recipient should do.
    ResponseType {
        /// Take shelter in place.
        Shelter = "Shelter",
        /// Relocate.
        Evacuate = "Evacuate",
        /// Make preparations.
        Prepare = "Prepare",
        /// Carry out a planned activity.
        Execute = "Execute",
        /// Keep away (CAP 1.2).
        Avoid = "Avoid",
        /// Attend to the sources of information.
        Monitor = "Monitor",
        /// Evaluate; not for public use.
        Assess = "Assess",
        /// The subject no longer poses a threat (CAP 1.2).
        AllClear = "AllClear",
        /// Nothing is recommended.
        None = "None",
    }
}

code_values! {
    /// When to act.
    Urgency {
        /// Now.
        Immediate = "Immediate",
        /// Within the next hour.
        Expected = "Expected",
        /// In the near future.
        Future = "Future",
        /// No longer.
        Past = "Past",
        /// Not known.
        Unknown = "Unknown",
    }
}

code_values! {
    /// How bad it is; ordered from the worst.
    Severity {
        /// Extraordinary threat to life or property.
        Extreme = "Extreme",
        /// Significant threat.
        Severe = "Severe",
        /// Possible threat.
        Moderate = "Moderate",
        /// Minimal threat.
        Minor = "Minor",
        /// Not known.
        Unknown = "Unknown",
    }
}

code_values! {
    /// How sure the sender is.
    Certainty {
        /// It has happened or goes on.
        Observed = "Observed",
        /// CAP 1.0 only; deprecated there in favour of Likely, and read as Likely by rules.
        VeryLikely = "Very Likely",
        /// Probability above one half.
        Likely = "Likely",
        /// Probability of one half or less.
        Possible = "Possible",
        /// Not expected.
        Unlikely = "Unlikely",
        /// Not known.
        Unknown = "Unknown",
    }
}

/// A named value: `eventCode`, `parameter` or `geocode`. Order and repetition matter and are kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValuePair {
    /// Whose code it is, for example `campanile:event`.
    pub value_name: String,
    /// The code.
    pub value: String,
}

impl ValuePair {
    /// Joins a name and a value.
    pub fn new(value_name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { value_name: value_name.into(), value: value.into() }
    }
}

/// A white-space separated list in one element (`addresses`, `incidents`): its text, and the members in it.
///
/// Members that hold white space stand in double quotes. Source: CAP 1.2 §3.2.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Group {
    items: Vec<String>,
    text: String,
}

impl Group {
    /// Reads the text of the element. Any text is a list; an unclosed quote runs to the end.
    pub fn parse(text: &str) -> Self {
        let mut items = Vec::new();
        let mut item = String::new();
        let (mut quoted, mut started) = (false, false);
        for c in text.chars() {
            match c {
                '"' => (quoted, started) = (!quoted, true),
                c if c.is_ascii_whitespace() && !quoted => {
                    if started {
                        items.push(std::mem::take(&mut item));
                    }
                    started = false;
                }
                c => {
                    item.push(c);
                    started = true;
                }
            }
        }
        if started {
            items.push(item);
        }
        Self { items, text: text.into() }
    }

    /// Writes the members as one text, quoting those that need it; double quotes inside a member are dropped, since CAP
    /// has no way to write them.
    pub fn from_items<S: AsRef<str>>(items: &[S]) -> Self {
        let quote = |item: &str| {
            let item = item.replace('"', "");
            let plain = !item.is_empty() && !item.contains(|c: char| c.is_ascii_whitespace());
            if plain { item } else { format!("\"{item}\"") }
        };
        let texts: Vec<String> = items.iter().map(|item| quote(item.as_ref())).collect();
        Self::parse(&texts.join(" "))
    }

    /// The members, without their quotes.
    pub fn items(&self) -> &[String] {
        &self.items
    }

    /// The text of the element.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl From<String> for Group {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

impl From<Group> for String {
    fn from(group: Group) -> Self {
        group.text
    }
}

/// CAP `references`: the earlier messages this one is about, and the text they were read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct References {
    ids: Vec<AlertId>,
    text: String,
}

impl References {
    /// Reads white-space separated `sender,identifier,sent` triples; none is allowed here and judged later.
    ///
    /// # Errors
    /// [`crate::ids::Error`] when a part is not a triple.
    pub fn parse(text: &str) -> Result<Self, crate::ids::Error> {
        let ids = text.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { ids, text: text.into() })
    }

    /// Writes the triples with one space between.
    pub fn from_ids(ids: &[AlertId]) -> Self {
        let texts: Vec<String> = ids.iter().map(AlertId::to_string).collect();
        Self { ids: ids.to_vec(), text: texts.join(" ") }
    }

    /// The messages referred to, in order.
    pub fn ids(&self) -> &[AlertId] {
        &self.ids
    }

    /// The text of the element.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for References {
    type Error = crate::ids::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<References> for String {
    fn from(references: References) -> Self {
        references.text
    }
}

/// A decimal number and the text it was read from (`altitude`, `ceiling`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Decimal {
    value: f64,
    text: String,
}

impl Decimal {
    /// Reads an XML `decimal`: an optional sign, digits, and at most one full stop; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let trimmed = text.trim_ascii();
        let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.');
        let value = trimmed.parse::<f64>().ok().filter(|value| value.is_finite())?;
        trimmed.bytes().all(plain).then(|| Self { value, text: text.into() })
    }

    /// The number.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The text of the element.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for Decimal {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is not a decimal number"))
    }
}

impl From<Decimal> for String {
    fn from(number: Decimal) -> Self {
        number.text
    }
}

/// A whole number of bytes and the text it was read from (`size`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size {
    bytes: u64,
    text: String,
}

impl Size {
    /// Reads an XML `integer` that is zero or more; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let trimmed = text.trim_ascii();
        let digits = trimmed.strip_prefix('+').unwrap_or(trimmed);
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let bytes = digits.parse().ok()?;
        plain.then(|| Self { bytes, text: text.into() })
    }

    /// The size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The text of the element.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is not a number of bytes"))
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.text
    }
}

/// A whole CAP message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// The version it was written in.
    pub version: CapVersion,
    /// Unique for the sender; no spaces, commas, `<` or `&`.
    pub identifier: String,
    /// Who issued it, unique in the world; the same rule of characters.
    pub sender: String,
    /// When it was issued; its text is part of the identity.
    pub sent: DateTime,
    /// Whether it is real.
    pub status: Status,
    /// CAP `msgType`.
    pub msg_type: MessageType,
    /// CAP 1.0 `password`; kept, never used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The operator or device that is the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// For whom it is; absent only in CAP 1.0 messages, and never admissible on the bus then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The rule of distribution when the scope is Restricted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restriction: Option<String>,
    /// The recipients when the scope is Private.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Group>,
    /// CAP `code`: marks for special handling.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<String>,
    /// A text about the message: the exercise's name, or the reason of an Error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The earlier messages it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<References>,
    /// Names of incidents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incidents: Option<Group>,
    /// CAP `info`, one for each language or for each different part; may be empty for Cancel, Ack and Error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub infos: Vec<Info>,
    /// Elements of the XML-DSig namespace at the end of the message, each as XML text that stands by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<String>,
}

impl Alert {
    /// The identity of the message: sender, identifier and the text of `sent`.
    pub fn id(&self) -> AlertId {
        AlertId::new(self.sender.as_str(), self.identifier.as_str(), self.sent.text())
    }

    /// The messages it refers to; empty when there is no `references`.
    pub fn referenced(&self) -> &[AlertId] {
        self.references.as_ref().map_or(&[], |references| references.ids())
    }

    /// The worst severity of its infos; `None` when it has no info.
    pub fn severity(&self) -> Option<Severity> {
        self.infos.iter().map(|info| info.severity).min()
    }

    /// The last instant at which any of its infos expires; `None` when none says so.
    pub fn expires(&self) -> Option<crate::time::Timestamp> {
        self.infos.iter().filter_map(|info| info.expires.as_ref()).map(DateTime::instant).max()
    }
}

/// One `info` block: the message in one language.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// RFC 3066 language; absent means `en-US`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// At least one, except in CAP 1.0 where it may be absent.
    #[serde(rename = "category")]
    pub categories: Vec<Category>,
    /// The kind of event in words; not stable, so rules use the event code.
    pub event: String,
    /// CAP `responseType`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_types: Vec<ResponseType>,
    /// When to act.
    pub urgency: Urgency,
    /// How bad it is.
    pub severity: Severity,
    /// How sure the sender is.
    pub certainty: Certainty,
    /// The intended audience in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// CAP `eventCode`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_codes: Vec<ValuePair>,
    /// From when it holds; absent means from `sent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<DateTime>,
    /// When the event is expected to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onset: Option<DateTime>,
    /// Until when it holds; absent is CAP-valid and not admissible on the bus in an Alert or Update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<DateTime>,
    /// The sender in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_name: Option<String>,
    /// A short headline; 160 characters is a useful target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<String>,
    /// What happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// An absolute URI with more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<String>,
    /// Whom to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// CAP `parameter`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<ValuePair>,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// Where it applies: the union of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub areas: Vec<Area>,
}

impl Info {
    /// The language, with CAP's default when none is given.
    pub fn language(&self) -> &str {
        self.language.as_deref().unwrap_or("en-US")
    }

    /// The first event code of that name.
    pub fn event_code(&self, value_name: &str) -> Option<&str> {
        first(&self.event_codes, value_name)
    }

    /// The first parameter of that name.
    pub fn parameter(&self, value_name: &str) -> Option<&str> {
        first(&self.parameters, value_name)
    }
}

fn first<'a>(pairs: &'a [ValuePair], value_name: &str) -> Option<&'a str> {
    pairs.iter().find(|pair| pair.value_name == value_name).map(|pair| pair.value.as_str())
}

/// One `resource` block: a file that goes with the info.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// CAP `resourceDesc`.
    pub description: String,
    /// Required since CAP 1.2; may be absent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// The size of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Where the file is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The file itself in base64, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deref_uri: Option<String>,
    /// SHA-1 by definition: a hint of integrity, not security.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_reads_quotes_and_keeps_its_text() {
        let text = "Drought  \"Infectious Disease\" \"\" Wild";
        let group = Group::parse(text);
        assert_eq!(group.items(), ["Drought", "Infectious Disease", "", "Wild"]);
        assert_eq!(group.text(), text);
        assert_eq!(Group::from_items(&["a", "b c"]).text(), "a \"b c\"");
    }

    #[test]
    fn severity_orders_from_the_worst() {
        assert!(Severity::Extreme < Severity::Minor);
    }

    #[test]
    fn decimal_refuses_what_is_no_xml_decimal() {
        assert!(Decimal::parse("-3.50").is_some());
        for bad in ["", "1e3", "inf", "NaN", "1,5", "0x10"] {
            assert!(Decimal::parse(bad).is_none(), "{bad}");
        }
    }
}
