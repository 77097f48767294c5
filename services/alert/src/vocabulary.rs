//! The closed lists of the bus: events, scales and signals, with their names in three languages.
//!
//! The lists live in `proto/vocabulary/alert-v1.yaml` and are compiled in, so two nodes of one release never disagree
//! about a word. [`v1`] gives them; [`Vocabulary::parse`] reads another file and refuses one that contradicts itself.
//! What a message says in these words is found by `classify`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use jiff::SignedDuration;
use serde::Deserialize;

use crate::ids::DepartmentId;
use crate::message::Category;

/// `eventCode` name under which an alert made on the bus carries its event.
pub const EVENT_CODE: &str = "campanile:event";
/// `parameter` name of the level on the event's scale, a whole number.
pub const ALARM_LEVEL: &str = "campanile:alarm-level";
/// `parameter` name of the signal, spelt as its owner spells it.
pub const SIGNAL: &str = "campanile:signal";
/// `geocode` name of a site, for example the first ten digits of a school's number.
pub const SITE: &str = "campanile:site";

const V1: &str = include_str!("../../../proto/vocabulary/alert-v1.yaml");

/// The vocabulary of this release.
pub fn v1() -> &'static Vocabulary {
    static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
        // The text is a constant of the program and a unit test parses it, so this cannot fail in a build that passed.
        // There is no honest fallback: with an empty vocabulary every alert would read as unclassified.
        #[allow(clippy::expect_used)]
        Vocabulary::parse(V1).expect("the compiled-in vocabulary is checked by a test")
    });
    &VOCABULARY
}

/// Why a vocabulary was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not YAML of the right shape.
    #[error("the vocabulary cannot be read")]
    Shape(#[source] Box<serde_saphyr::Error>),
    /// A duration that is not one.
    #[error("{code}: {text:?} is not a duration; write for example 24h")]
    Duration {
        /// Where it stands.
        code: String,
        /// The refused text.
        text: String,
    },
    /// A department id that breaks the rule of names.
    #[error("{code}: an owner is not a department")]
    Owner {
        /// The event that names it.
        code: String,
        /// The rule that it breaks.
        source: crate::ids::Error,
    },
    /// One code twice.
    #[error("{0:?} is listed twice; a code has one meaning")]
    Twice(String),
    /// A word that no list has.
    #[error("{code} names {missing:?}, which no list has")]
    Missing {
        /// Where it stands.
        code: String,
        /// The word.
        missing: String,
    },
    /// An antonym in one direction only.
    #[error("{a} calls {b} its antonym and {b} does not; write it on both")]
    OneSided {
        /// The event that names the other.
        a: String,
        /// The other.
        b: String,
    },
    /// A ceiling of zero or less, a scale out of order, or a signal with half a level.
    #[error("{code}: {reason}")]
    Wrong {
        /// Where it stands.
        code: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
}

/// A name in the three written languages of the bus.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// English.
    pub en: String,
    /// Traditional Chinese.
    #[serde(rename = "zh-Hant")]
    pub zh_hant: String,
    /// Simplified Chinese.
    #[serde(rename = "zh-Hans")]
    pub zh_hans: String,
}

impl Names {
    /// The name in the language of a CAP `language` tag; English for any other language.
    ///
    /// `zh-HK`, `zh-TW` and `zh-MO` are read as traditional, `zh`, `zh-CN` and `zh-SG` as simplified, `yue` as
    /// traditional. Letter case does not matter.
    pub fn get(&self, language: &str) -> &str {
        let tag = language.to_ascii_lowercase();
        let mut parts = tag.split('-');
        let (primary, rest) = (parts.next().unwrap_or_default(), parts.collect::<Vec<_>>());
        let traditional = rest.iter().any(|part| matches!(*part, "hant" | "hk" | "tw" | "mo"));
        let simplified = rest.contains(&"hans");
        match primary {
            "zh" | "yue" if simplified => &self.zh_hans,
            "yue" => &self.zh_hant,
            "zh" if traditional => &self.zh_hant,
            "zh" => &self.zh_hans,
            _ => &self.en,
        }
    }
}

/// A kind of event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The code, for example `class-suspension`.
    pub code: String,
    /// What people call it.
    pub names: Names,
    /// The CAP category that an alert made on the bus carries.
    pub category: Category,
    /// The departments that issue it by default; what a department may issue is decided by the roster.
    pub owners: Vec<DepartmentId>,
    /// The id of its scale; absent when it has no levels.
    pub scale: Option<String>,
    /// Whether its alerts name a signal, as `weather-signal` does.
    pub carries_signal: bool,
    /// Whether rules issue it; false for what comes from the world.
    pub effect: bool,
    /// Events that contradict it when both hold for one target.
    pub antonyms: Vec<String>,
    /// The longest time from `sent` to `expires` that the bus admits; more than zero.
    pub expires_max: SignedDuration,
}

/// An ordered scale.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The id, for example `fire-alarm`.
    pub id: String,
    /// What people call it.
    pub names: Names,
    /// Its levels, from the least to the worst; values grow and may leave gaps.
    pub levels: Vec<Level>,
}

impl Scale {
    /// The level of that value; `None` when the scale has none, for example a tropical cyclone signal No. 2.
    pub fn level(&self, value: u32) -> Option<&Level> {
        self.levels.iter().find(|level| level.value == value)
    }
}

/// One level of a scale.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// The number it is written as; a greater one is worse.
    pub value: u32,
    /// What people call it.
    pub names: Names,
}

/// A signal that one owner defines, for example `WRAINB`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// The code as its owner spells it.
    pub code: String,
    /// The owner's statement code that it belongs to, for example `WRAIN`; only one signal of a statement is up at once.
    pub statement: String,
    /// The CAP category of its alerts.
    pub category: Category,
    /// Its scale; absent when it stands alone.
    #[serde(default)]
    pub scale: Option<String>,
    /// Its value on the scale; present exactly when `scale` is.
    #[serde(default)]
    pub level: Option<u32>,
    /// What people call it.
    pub names: Names,
}

/// A word for several signals.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalGroup {
    /// The code, for example `TC8`.
    pub code: String,
    /// The signals it stands for.
    pub members: Vec<String>,
    /// What people call it.
    pub names: Names,
}

/// The lists, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    version: String,
    unclassified_expires_max: SignedDuration,
    events: BTreeMap<String, Event>,
    scales: BTreeMap<String, Scale>,
    signals: BTreeMap<String, Signal>,
    groups: BTreeMap<String, SignalGroup>,
}

impl Vocabulary {
    /// Reads a vocabulary file.
    ///
    /// # Errors
    /// [`Error`] when it is not YAML of the right shape, or when its lists contradict each other.
    pub fn parse(yaml: &str) -> Result<Self, Error> {
        let file: File = serde_saphyr::from_str(yaml).map_err(|error| Error::Shape(Box::new(error)))?;
        let vocabulary = Self {
            unclassified_expires_max: duration("unclassified-expires-max", &file.unclassified_expires_max)?,
            version: file.version,
            scales: index(file.scales, |scale| &scale.id)?,
            signals: index(file.signals, |signal| &signal.code)?,
            groups: index(file.groups, |group| &group.code)?,
            events: index(file.events.into_iter().map(Event::try_from).collect::<Result<_, _>>()?, |event| {
                &event.code
            })?,
        };
        vocabulary.check()?;
        Ok(vocabulary)
    }

    /// The version, for example `alert-v1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The event of that code.
    pub fn event(&self, code: &str) -> Option<&Event> {
        self.events.get(code)
    }

    /// All events, by code.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.values()
    }

    /// The scale of that id.
    pub fn scale(&self, id: &str) -> Option<&Scale> {
        self.scales.get(id)
    }

    /// All scales, by id.
    pub fn scales(&self) -> impl Iterator<Item = &Scale> {
        self.scales.values()
    }

    /// The signal of that code; a group is not a signal.
    pub fn signal(&self, code: &str) -> Option<&Signal> {
        self.signals.get(code)
    }

    /// All signals, by code.
    pub fn signals(&self) -> impl Iterator<Item = &Signal> {
        self.signals.values()
    }

    /// All groups of signals, by code.
    pub fn groups(&self) -> impl Iterator<Item = &SignalGroup> {
        self.groups.values()
    }

    /// The members of a group of signals, or the signal itself; empty for a word that is neither.
    pub fn expand(&self, code: &str) -> Vec<&str> {
        match (self.groups.get(code), self.signals.get(code)) {
            (Some(group), _) => group.members.iter().map(String::as_str).collect(),
            (None, Some(signal)) => vec![signal.code.as_str()],
            (None, None) => Vec::new(),
        }
    }

    /// Whether two events contradict each other on one target.
    pub fn antonyms(&self, a: &str, b: &str) -> bool {
        self.event(a).is_some_and(|event| event.antonyms.iter().any(|antonym| antonym == b))
    }

    /// The longest time from `sent` to `expires` for an event, or for an unclassified message when the event is absent
    /// or unknown.
    pub fn expires_max(&self, event: Option<&str>) -> SignedDuration {
        event.and_then(|code| self.event(code)).map_or(self.unclassified_expires_max, |event| event.expires_max)
    }

    fn check(&self) -> Result<(), Error> {
        for scale in self.scales.values() {
            if scale.levels.is_empty() || !scale.levels.is_sorted_by(|a, b| a.value < b.value) {
                return Err(wrong(&scale.id, "a scale needs levels whose values grow"));
            }
        }
        for signal in self.signals.values() {
            match (&signal.scale, signal.level) {
                (None, None) => {}
                (Some(scale), Some(level)) if self.scale(scale).is_some_and(|scale| scale.level(level).is_some()) => {}
                (Some(scale), Some(_)) if self.scale(scale).is_none() => return Err(missing(&signal.code, scale)),
                _ => return Err(wrong(&signal.code, "a signal needs a scale and a level on it, or neither")),
            }
        }
        for group in self.groups.values() {
            if self.signals.contains_key(&group.code) {
                return Err(Error::Twice(group.code.clone()));
            }
            if let Some(member) = group.members.iter().find(|member| self.signal(member).is_none()) {
                return Err(missing(&group.code, member));
            }
        }
        self.events.values().try_for_each(|event| self.check_event(event))
    }

    fn check_event(&self, event: &Event) -> Result<(), Error> {
        if let Some(scale) = event.scale.as_ref().filter(|scale| self.scale(scale).is_none()) {
            return Err(missing(&event.code, scale));
        }
        let mut seen = BTreeSet::new();
        for antonym in &event.antonyms {
            if self.event(antonym).is_none() {
                return Err(missing(&event.code, antonym));
            }
            if !self.antonyms(antonym, &event.code) {
                return Err(Error::OneSided { a: event.code.clone(), b: antonym.clone() });
            }
            if !seen.insert(antonym) || *antonym == event.code {
                return Err(wrong(&event.code, "an antonym is another event, named once"));
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    version: String,
    unclassified_expires_max: String,
    scales: Vec<Scale>,
    signals: Vec<Signal>,
    groups: Vec<SignalGroup>,
    events: Vec<EventRow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct EventRow {
    code: String,
    names: Names,
    category: Category,
    owners: Vec<String>,
    #[serde(default)]
    scale: Option<String>,
    #[serde(default)]
    carries_signal: bool,
    #[serde(default)]
    effect: bool,
    #[serde(default)]
    antonyms: Vec<String>,
    expires_max: String,
}

impl TryFrom<EventRow> for Event {
    type Error = Error;

    fn try_from(row: EventRow) -> Result<Self, Error> {
        let owner =
            |text| DepartmentId::try_new(text).map_err(|source| Error::Owner { code: row.code.clone(), source });
        Ok(Self {
            owners: row.owners.into_iter().map(owner).collect::<Result<_, _>>()?,
            expires_max: duration(&row.code, &row.expires_max)?,
            code: row.code,
            names: row.names,
            category: row.category,
            scale: row.scale,
            carries_signal: row.carries_signal,
            effect: row.effect,
            antonyms: row.antonyms,
        })
    }
}

fn duration(code: &str, text: &str) -> Result<SignedDuration, Error> {
    let duration: SignedDuration =
        text.parse().map_err(|_| Error::Duration { code: code.into(), text: text.chars().take(64).collect() })?;
    if duration.is_positive() { Ok(duration) } else { Err(wrong(code, "a ceiling of expires is more than zero")) }
}

fn index<T>(rows: Vec<T>, key: impl Fn(&T) -> &String) -> Result<BTreeMap<String, T>, Error> {
    let mut map = BTreeMap::new();
    for row in rows {
        let code = key(&row).clone();
        if map.insert(code.clone(), row).is_some() {
            return Err(Error::Twice(code));
        }
    }
    Ok(map)
}

fn wrong(code: &str, reason: &'static str) -> Error {
    Error::Wrong { code: code.into(), reason }
}

fn missing(code: &str, missing: &str) -> Error {
    Error::Missing { code: code.into(), missing: missing.into() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn compiled_in_vocabulary_parses_and_has_the_words_of_the_bus() {
        let vocabulary = Vocabulary::parse(V1).expect("the shipped vocabulary");
        assert_eq!(vocabulary.version(), "alert-v1");
        assert_eq!(v1(), &vocabulary);
        for code in ["fire", "weather-signal", "class-suspension", "stay-in-school", "shelter-open", "venue-closed"] {
            assert!(vocabulary.event(code).is_some(), "{code} is missing");
        }
        for code in "TC1 TC3 TC8NE TC8SE TC8NW TC8SW TC9 TC10 WTCPRE8 WRAINA WRAINR WRAINB WTS WL WFNTSA WMSGNL WFROST \
                     WHOT WCOLD WFIREY WFIRER WTMW"
            .split_ascii_whitespace()
        {
            assert!(vocabulary.signal(code).is_some(), "{code} is missing");
        }
    }

    #[test]
    fn group_tc8_stands_for_the_four_quarters_and_a_signal_for_itself() {
        assert_eq!(v1().expand("TC8"), ["TC8NE", "TC8SE", "TC8NW", "TC8SW"]);
        assert_eq!(v1().expand("WRAINB"), ["WRAINB"]);
        assert!(v1().expand("TC2").is_empty());
        assert!(v1().signal("TC8").is_none(), "no message carries a group");
    }

    #[test]
    fn antonyms_hold_both_ways() {
        assert!(v1().antonyms("class-suspension", "stay-in-school"));
        assert!(v1().antonyms("stay-in-school", "class-suspension"));
        assert!(!v1().antonyms("class-suspension", "fire"));
    }

    #[test]
    fn names_follow_the_language_tag() {
        let names = &v1().event("class-suspension").unwrap().names;
        for (tag, want) in [("en-GB", "Class suspension"), ("zh-Hant", "停課"), ("zh-HK", "停課"), ("ZH-cn", "停课")]
        {
            assert_eq!(names.get(tag), want, "{tag}");
        }
        assert_eq!(names.get("ur"), "Class suspension");
    }

    #[test]
    fn contradictions_are_refused() {
        for (from, to, want) in [
            ("scale: fire-alarm, expires", "scale: none-such, expires", "no list has"),
            ("effect: true, antonyms: [class-suspension, evacuation]", "effect: true", "is not"),
            ("code: landslip", "code: flood", "twice"),
            ("expires-max: 72h", "expires-max: soon", "not a duration"),
            ("expires-max: 72h", "expires-max: -1h", "more than zero"),
            ("level: 9,", "level: 7,", "a level on it"),
            ("owners: [edb]", "owners: [EDB]", "not a department"),
            ("code: flood", "kode: flood", "cannot be read"),
        ] {
            assert!(V1.contains(from), "{from}");
            let want = if want == "is not" { "does not" } else { want };
            let error = Vocabulary::parse(&V1.replacen(from, to, 1)).expect_err(to).to_string();
            assert!(error.contains(want), "{to}: {error}");
        }
    }
}
