//! What a message says in the words of the vocabulary: its event, level, signal and sites.
//!
//! An alert made on the bus carries the words in its own codes ([`classify`]). A foreign alert keeps its bytes, and the
//! mapping table of its source finds the words ([`MappingTable`]). Either way the answer stands in the record beside the
//! alert. A message without a known event is *unclassified*: carried and shown, never matched by a rule.

use serde::{Deserialize, Serialize};

use crate::message::{Alert, Info};
use crate::vocabulary::{self, ALARM_LEVEL, EVENT_CODE, SIGNAL, SITE, Vocabulary};

/// The most rows a mapping table may have.
pub const ROWS_MAX: usize = 10_000;

/// The words found for one message. The default is unclassified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Classification {
    /// The event's code; absent means unclassified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The level on the event's scale; absent when none was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,
    /// The signal's code; absent when none was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The sites named by geocodes, in order of first mention, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<String>,
}

impl Classification {
    /// Whether no event was found.
    pub fn is_unclassified(&self) -> bool {
        self.event.is_none()
    }
}

/// Reads the bus's own codes from a message.
///
/// The infos must agree: one that names another event, level or signal, or leaves out what another names, makes the
/// message unclassified, and so does an event, level or signal that the vocabulary does not have. Sites are kept then.
pub fn classify(alert: &Alert, vocabulary: &Vocabulary) -> Classification {
    let words = agree(alert.infos.iter().map(|info| own_words(info, vocabulary)));
    Classification { sites: sites(alert), ..words.unwrap_or_default() }
}

/// The words of the first item, when all are equal and known.
fn agree(mut found: impl Iterator<Item = Option<Classification>>) -> Option<Classification> {
    let first = found.next()??;
    found.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

fn own_words(info: &Info, vocabulary: &Vocabulary) -> Option<Classification> {
    let event = single(info.event_codes.iter().filter(|pair| pair.value_name == EVENT_CODE).map(|pair| &pair.value))??;
    let level = single(info.parameters.iter().filter(|pair| pair.value_name == ALARM_LEVEL).map(|pair| &pair.value))?;
    let signal = single(info.parameters.iter().filter(|pair| pair.value_name == SIGNAL).map(|pair| &pair.value))?;
    let level = match level {
        Some(text) => Some(text.trim_ascii().parse::<u32>().ok()?),
        None => None,
    };
    let words = Classification {
        event: Some(event.trim_ascii().into()),
        level,
        signal: signal.map(|text| text.trim_ascii().into()),
        sites: Vec::new(),
    };
    known(&words, vocabulary).then_some(words)
}

/// Whether every word is in the vocabulary and the level is on the event's scale, or on its signal's.
fn known(words: &Classification, vocabulary: &Vocabulary) -> bool {
    let Some(event) = words.event.as_deref().and_then(|code| vocabulary.event(code)) else { return false };
    let signal = words.signal.as_deref().map(|code| vocabulary.signal(code));
    let signal = match signal {
        Some(None) => return false,
        Some(Some(signal)) if event.carries_signal => Some(signal),
        Some(Some(_)) => return false,
        None => None,
    };
    let scale = event.scale.as_deref().or(signal.and_then(|signal| signal.scale.as_deref()));
    words.level.is_none_or(|level| {
        let on_scale = scale.and_then(|id| vocabulary.scale(id)).is_some_and(|scale| scale.level(level).is_some());
        on_scale && signal.is_none_or(|signal| signal.level == Some(level))
    })
}

/// `Some(None)` for none, `Some(Some(_))` when all are the same, `None` for two that differ.
fn single<'a>(mut values: impl Iterator<Item = &'a String>) -> Option<Option<&'a String>> {
    let Some(first) = values.next() else { return Some(None) };
    values.all(|value| value == first).then_some(Some(first))
}

/// The sites that a message names by geocode, in order of first mention, each once.
fn sites(alert: &Alert) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    let areas = alert.infos.iter().flat_map(|info| &info.areas);
    let codes = areas.flat_map(|area| &area.geocodes).filter(|pair| pair.value_name == SITE);
    codes.map(|pair| pair.value.trim_ascii()).filter(|site| seen.insert(*site)).map(String::from).collect()
}

/// Why a mapping table was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not YAML of the right shape.
    #[error("the mapping table cannot be read")]
    Shape(#[source] Box<serde_saphyr::Error>),
    /// More rows than [`ROWS_MAX`].
    #[error("the mapping table has {0} rows; it may have {ROWS_MAX}")]
    TooLong(usize),
    /// A row without a condition would match everything.
    #[error("row {0} has no condition; give an event code, an event text or a sender")]
    Unconditional(usize),
    /// A row that gives a word the vocabulary does not have.
    #[error("row {0} gives an event, level or signal that the vocabulary does not have, or that do not go together")]
    Unknown(usize),
}

/// How the words of one foreign source translate.
///
/// ```
/// use campanile_alert::classify::MappingTable;
/// let table = MappingTable::parse("
/// source: nsw-rfs
/// rows:
/// - {when: {event-code: {value: bushFire}}, gives: {event: fire}}
/// - {when: {event: {starts: Grass}, sender: webmaster@rfs.nsw.gov.au}, gives: {event: fire, level: 1}}
/// ").expect("a good table");
/// assert_eq!(table.source(), "nsw-rfs");
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingTable {
    source: String,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    when: When,
    gives: Gives,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct When {
    #[serde(default)]
    event_code: Option<Code>,
    #[serde(default)]
    event: Option<Text>,
    #[serde(default)]
    sender: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Code {
    #[serde(default)]
    name: Option<String>,
    value: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Text {
    Is(String),
    Starts(String),
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gives {
    event: String,
    #[serde(default)]
    level: Option<u32>,
    #[serde(default)]
    signal: Option<String>,
}

impl MappingTable {
    /// Reads a table in the words of [`vocabulary::v1`]. Conditions of one row must all hold; the first row that matches an info gives its words.
    ///
    /// # Errors
    /// [`Error`] when it is not YAML of the right shape, is too long, or a row has no condition or unknown words.
    pub fn parse(yaml: &str) -> Result<Self, Error> {
        let table: Self = serde_saphyr::from_str(yaml).map_err(|error| Error::Shape(Box::new(error)))?;
        if table.rows.len() > ROWS_MAX {
            return Err(Error::TooLong(table.rows.len()));
        }
        for (at, row) in table.rows.iter().enumerate() {
            if row.when.event_code.is_none() && row.when.event.is_none() && row.when.sender.is_none() {
                return Err(Error::Unconditional(at + 1));
            }
            if !known(&row.gives.words(), vocabulary::v1()) {
                return Err(Error::Unknown(at + 1));
            }
        }
        Ok(table)
    }

    /// The name of the source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Finds the words of a foreign message. Its infos must agree, otherwise it is unclassified.
    pub fn classify(&self, alert: &Alert) -> Classification {
        let words = agree(alert.infos.iter().map(|info| self.words(alert, info)));
        Classification { sites: sites(alert), ..words.unwrap_or_default() }
    }

    fn words(&self, alert: &Alert, info: &Info) -> Option<Classification> {
        self.rows.iter().find(|row| row.when.matches(alert, info)).map(|row| row.gives.words())
    }
}

impl When {
    fn matches(&self, alert: &Alert, info: &Info) -> bool {
        let code = self.event_code.as_ref().is_none_or(|code| {
            info.event_codes.iter().any(|pair| {
                code.name.as_ref().is_none_or(|name| *name == pair.value_name) && pair.value.trim_ascii() == code.value
            })
        });
        let event = self.event.as_ref().is_none_or(|text| match text {
            Text::Is(want) => info.event.trim_ascii() == want,
            Text::Starts(want) => info.event.trim_ascii().starts_with(want.as_str()),
        });
        code && event && self.sender.as_ref().is_none_or(|sender| *sender == alert.sender)
    }
}

impl Gives {
    fn words(&self) -> Classification {
        Classification {
            event: Some(self.event.clone()),
            level: self.level,
            signal: self.signal.clone(),
            sites: Vec::new(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::message::ValuePair;
    use crate::testing::fire;
    use crate::vocabulary::v1;

    #[test]
    fn own_codes_are_read() {
        let words = classify(&fire(), v1());
        assert_eq!(words.event.as_deref(), Some("fire"));
        assert_eq!(words.level, Some(3));
        assert_eq!(words.signal, None);
    }

    #[test]
    fn sites_are_read_once_each() {
        let mut alert = fire();
        alert.infos[0].areas[0].geocodes = vec![ValuePair::new(SITE, "1"), ValuePair::new(SITE, "2")];
        alert.infos.push(alert.infos[0].clone());
        assert_eq!(classify(&alert, v1()).sites, ["1", "2"]);
    }

    #[test]
    fn infos_that_disagree_are_unclassified() {
        for change in [
            |info: &mut Info| info.event_codes[0].value = "flood".into(),
            |info: &mut Info| info.event_codes.clear(),
            |info: &mut Info| info.parameters[0].value = "4".into(),
            |info: &mut Info| info.event_codes.push(ValuePair::new(EVENT_CODE, "flood")),
        ] {
            let mut alert = fire();
            let mut other = alert.infos[0].clone();
            change(&mut other);
            alert.infos.push(other);
            assert!(classify(&alert, v1()).is_unclassified());
        }
    }

    #[test]
    fn unknown_words_are_unclassified() {
        for change in [
            |info: &mut Info| info.event_codes[0].value = "fir".into(),
            |info: &mut Info| info.parameters[0].value = "6".into(),
            |info: &mut Info| info.parameters[0].value = "three".into(),
            |info: &mut Info| info.parameters.push(ValuePair::new(SIGNAL, "WRAINB")),
        ] {
            let mut alert = fire();
            change(&mut alert.infos[0]);
            assert!(classify(&alert, v1()).is_unclassified());
        }
    }

    #[test]
    fn mapping_table_matches_code_text_and_sender() {
        let table = "
source: nsw-rfs
rows:
- {when: {event-code: {name: AU, value: bushFire}, sender: rfs}, gives: {event: fire}}
- {when: {event: {starts: Grass}}, gives: {event: fire, level: 1}}
- {when: {event: {is: Flood}}, gives: {event: flood}}
";
        let table = MappingTable::parse(table).expect("a good table");
        let mut alert = fire();
        let mut look = |name: &str, value: &str, event: &str, sender: &str| {
            alert.infos[0].event_codes = vec![ValuePair::new(name, value)];
            alert.infos[0].event = event.into();
            alert.sender = sender.into();
            let words = table.classify(&alert);
            (words.event, words.level)
        };
        assert_eq!(look("AU", "bushFire", "", "rfs"), (Some("fire".into()), None));
        assert_eq!(look("AU", "bushFire", "", "other"), (None, None));
        assert_eq!(look("US", "bushFire", "", "rfs"), (None, None));
        assert_eq!(look("AU", "x", "Grass Fire", "rfs"), (Some("fire".into()), Some(1)));
        assert_eq!(look("AU", "x", "Flood", "rfs"), (Some("flood".into()), None));
        assert_eq!(look("AU", "x", "Flooding", "rfs"), (None, None));
    }

    #[test]
    fn mapping_table_refuses_a_row_without_condition_and_unknown_words() {
        let parse = |rows: &str| MappingTable::parse(&format!("source: s\nrows:\n{rows}\n"));
        assert!(matches!(parse("- {when: {}, gives: {event: fire}}"), Err(Error::Unconditional(1))));
        assert!(matches!(parse("- {when: {sender: a}, gives: {event: fyre}}"), Err(Error::Unknown(1))));
        assert!(matches!(parse("- {when: {sender: a}, gives: {event: fire, level: 6}}"), Err(Error::Unknown(1))));
        assert!(matches!(parse("- {wen: {sender: a}, gives: {event: fire}}"), Err(Error::Shape(_))));
    }
}
