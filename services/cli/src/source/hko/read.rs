//! Reads the Observatory's open-data JSON: what one snapshot says, language by language.
//!
//! Reading is lenient where a fault touches one entry and strict where it touches the whole file. A file that is not
//! the JSON expected is an error, because an empty list and an unreadable one must never look the same. An entry with a
//! bad time or a strange shape is kept as far as it can be, and its fault is told, because a warning must not be
//! dropped for a typing error at its source. Free text is copied, never parsed.
//!
//! Source: HKO Open Data API documentation, `warnsum` and `warningInfo`.

use std::collections::BTreeMap;

use campanile_alert::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::source::chain;

/// The most warnings one snapshot may list. The Observatory has sixteen statement codes.
pub const WARNINGS_MAX: usize = 64;
/// The longest code, in characters.
const CODE_CHARS_MAX: usize = 32;
/// The longest line of text and the most lines of one warning; more is cut and told.
const LINE_CHARS_MAX: usize = 8_000;
const LINES_MAX: usize = 64;

/// Why a file of the source was refused. The whole file is unreadable, so nothing may be concluded from it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON.
    #[error("{place} is not JSON; check that the address answers with the Observatory's open data")]
    Json {
        /// The file or address.
        place: String,
        /// Where it broke.
        #[source]
        source: serde_json::Error,
    },
    /// JSON of another shape.
    #[error("{place} is not {expected}; check the dataType of the address or the name of the file")]
    Shape {
        /// The file or address.
        place: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// Too many warnings to be true.
    #[error("{place} lists {count} warnings, more than {WARNINGS_MAX}; check that it comes from the Observatory")]
    TooMany {
        /// The file or address.
        place: String,
        /// How many.
        count: usize,
    },
}

/// A language of the source, in the order in which texts stand in an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Language {
    /// English.
    #[serde(rename = "en")]
    En,
    /// Traditional Chinese.
    #[serde(rename = "tc")]
    ZhHant,
    /// Simplified Chinese.
    #[serde(rename = "sc")]
    ZhHans,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 3] = [Self::En, Self::ZhHant, Self::ZhHans];

    /// The language as the source's `lang` says it.
    pub fn api(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::ZhHant => "tc",
            Self::ZhHans => "sc",
        }
    }

    /// The language tag of a CAP `info`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::ZhHant => "zh-Hant",
            Self::ZhHans => "zh-Hans",
        }
    }
}

/// One entry of `warnsum`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SummaryEntry {
    /// `name`: the warning in words; empty when absent.
    pub name: String,
    /// `type`: its kind in words, for example `Amber`; empty when absent.
    pub kind: String,
    /// `code`, as the source spells it; the statement code when absent.
    pub code: String,
    /// `actionCode`; empty when absent.
    pub action: String,
    /// `issueTime`.
    pub issued: Option<Timestamp>,
    /// `updateTime`.
    pub updated: Option<Timestamp>,
    /// `expireTime`.
    pub expires: Option<Timestamp>,
}

/// One entry of `warningInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Detail {
    /// `warningStatementCode`.
    pub statement: String,
    /// `subtype`; empty when absent.
    pub subtype: String,
    /// `contents`: the text, paragraph by paragraph.
    pub lines: Vec<String>,
    /// `updateTime`.
    pub updated: Option<Timestamp>,
}

/// What one language of a snapshot says. `None` means that the file could not be had, which is not "no warnings".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// `warnsum`, by statement code.
    pub summary: Option<BTreeMap<String, SummaryEntry>>,
    /// `warningInfo`.
    pub details: Option<Vec<Detail>>,
}

/// What the source said at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// When it was taken.
    pub taken: Timestamp,
    /// By language; a language may be absent.
    pub languages: BTreeMap<Language, Reading>,
    /// What was wrong with it, one sentence each.
    pub faults: Vec<String>,
}

impl Snapshot {
    /// A snapshot that says nothing yet.
    pub fn new(taken: Timestamp) -> Self {
        Self { taken, languages: BTreeMap::new(), faults: Vec::new() }
    }

    /// Adds the bytes of a `warnsum` file. A file that cannot be read leaves its language without one, and its reason
    /// stands in `faults`. `place` is the file or address, for the messages.
    pub fn add_summary(&mut self, language: Language, place: &str, bytes: &[u8]) {
        match read_summary(place, bytes, &mut self.faults) {
            Ok(summary) => self.languages.entry(language).or_default().summary = Some(summary),
            Err(error) => self.faults.push(chain(&error)),
        }
    }

    /// Adds the bytes of a `warningInfo` file, in the same way.
    pub fn add_details(&mut self, language: Language, place: &str, bytes: &[u8]) {
        match read_details(place, bytes, &mut self.faults) {
            Ok(details) => self.languages.entry(language).or_default().details = Some(details),
            Err(error) => self.faults.push(chain(&error)),
        }
    }

    /// Whether a list of warnings could be read in at least one language.
    pub fn has_summary(&self) -> bool {
        self.languages.values().any(|reading| reading.summary.is_some())
    }

    /// Whether texts could be read in at least one language.
    pub fn has_details(&self) -> bool {
        self.languages.values().any(|reading| reading.details.is_some())
    }
}

/// Reads a `warnsum` file. An empty object, and the empty list that some servers write for it, mean no warnings.
///
/// # Errors
/// [`Error`] when the bytes are not JSON, not an object, or list more than [`WARNINGS_MAX`] warnings.
pub(super) fn read_summary(
    place: &str,
    bytes: &[u8],
    faults: &mut Vec<String>,
) -> Result<BTreeMap<String, SummaryEntry>, Error> {
    const EXPECTED: &str = "a warning summary (an object keyed by statement code)";
    let object = match json(place, bytes)? {
        Value::Object(object) => object,
        Value::Array(list) if list.is_empty() => return Ok(BTreeMap::new()),
        _ => return Err(Error::Shape { place: place.into(), expected: EXPECTED }),
    };
    if object.len() > WARNINGS_MAX {
        return Err(Error::TooMany { place: place.into(), count: object.len() });
    }
    let mut summary = BTreeMap::new();
    for (statement, value) in &object {
        let Value::Object(fields) = value else {
            return Err(Error::Shape { place: place.into(), expected: EXPECTED });
        };
        let statement = code(statement);
        let mut at = Place { place, entry: &statement, faults };
        let own = text(fields, "code");
        let entry = SummaryEntry {
            name: text(fields, "name"),
            kind: text(fields, "type"),
            code: if own.is_empty() { statement.clone() } else { code(&own) },
            action: code(&text(fields, "actionCode")),
            issued: at.time(fields, "issueTime"),
            updated: at.time(fields, "updateTime"),
            expires: at.time(fields, "expireTime"),
        };
        summary.insert(statement, entry);
    }
    Ok(summary)
}

/// Reads a `warningInfo` file. An object without `details` means no texts.
///
/// # Errors
/// [`Error`] when the bytes are not JSON, `details` is not a list of objects, or is longer than [`WARNINGS_MAX`].
pub(super) fn read_details(place: &str, bytes: &[u8], faults: &mut Vec<String>) -> Result<Vec<Detail>, Error> {
    let shape = || Error::Shape { place: place.into(), expected: "a list of warning texts (an object with `details`)" };
    let list = match json(place, bytes)? {
        Value::Array(list) if list.is_empty() => return Ok(Vec::new()),
        Value::Object(mut object) => match object.remove("details") {
            Some(Value::Array(list)) => list,
            // Another file of the same service, such as a summary, has members but no `details`.
            None if object.is_empty() => return Ok(Vec::new()),
            _ => return Err(shape()),
        },
        _ => return Err(shape()),
    };
    if list.len() > WARNINGS_MAX {
        return Err(Error::TooMany { place: place.into(), count: list.len() });
    }
    let mut details = Vec::new();
    for value in &list {
        let Value::Object(fields) = value else { return Err(shape()) };
        let statement = code(&text(fields, "warningStatementCode"));
        if statement.is_empty() {
            faults.push(format!("{place}: a text names no warningStatementCode and was left out"));
            continue;
        }
        let mut at = Place { place, entry: &statement, faults };
        let lines = at.lines(fields);
        let updated = at.time(fields, "updateTime");
        details.push(Detail { subtype: code(&text(fields, "subtype")), lines, updated, statement });
    }
    Ok(details)
}

fn json(place: &str, bytes: &[u8]) -> Result<Value, Error> {
    // Some servers put a byte order mark first, which JSON does not allow.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes).map_err(|source| Error::Json { place: place.into(), source })
}

fn text(fields: &Map<String, Value>, name: &str) -> String {
    fields.get(name).and_then(Value::as_str).map(clean).unwrap_or_default()
}

/// A code as the source spells it, cut to a length that no code has.
fn code(text: &str) -> String {
    clean(text).chars().filter(|c| !c.is_whitespace()).take(CODE_CHARS_MAX).collect()
}

/// The text without white space around it and without characters that XML 1.0 cannot carry.
fn clean(text: &str) -> String {
    let carried = |c: &char| {
        matches!(c, '\t' | '\n' | ' '..='\u{FFFD}' | '\u{10000}'..) && !c.is_ascii_control() || matches!(c, '\t' | '\n')
    };
    text.trim().chars().filter(carried).collect()
}

struct Place<'a> {
    place: &'a str,
    entry: &'a str,
    faults: &'a mut Vec<String>,
}

impl Place<'_> {
    fn fault(&mut self, what: &str) {
        self.faults.push(format!("{}: {}: {what}", self.place, self.entry));
    }

    fn time(&mut self, fields: &Map<String, Value>, name: &str) -> Option<Timestamp> {
        let text = fields.get(name)?.as_str().filter(|text| !text.is_empty())?;
        let time = text.parse::<Timestamp>().ok();
        if time.is_none() {
            let shown: String = text.chars().take(40).collect();
            self.fault(&format!("{name} {shown:?} is not a time with an offset and was left out"));
        }
        time
    }

    fn lines(&mut self, fields: &Map<String, Value>) -> Vec<String> {
        let lines = match fields.get("contents") {
            Some(Value::Array(lines)) => lines.iter().filter_map(Value::as_str).map(clean).collect::<Vec<_>>(),
            Some(Value::String(line)) => vec![clean(line)],
            _ => Vec::new(),
        };
        let mut lines: Vec<String> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        if lines.len() > LINES_MAX || lines.iter().any(|line| line.chars().count() > LINE_CHARS_MAX) {
            self.fault("its text is longer than can be carried and was cut");
            lines.truncate(LINES_MAX);
            for line in &mut lines {
                if let Some((end, _)) = line.char_indices().nth(LINE_CHARS_MAX) {
                    line.truncate(end);
                    line.push('…');
                }
            }
        }
        lines
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn no_warnings_and_no_answer_are_told_apart() {
        let mut faults = Vec::new();
        for none in ["{}", "[]", "\u{feff}{}"] {
            assert!(read_summary("f", none.as_bytes(), &mut faults).expect(none).is_empty());
            assert!(read_details("f", none.as_bytes(), &mut faults).expect(none).is_empty());
        }
        for bad in ["", "<html>down</html>", "null", "\"x\"", "[1]", "{\"WTS\":3}", "{\"WTS\":"] {
            let error = read_summary("warnsum.en.json", bad.as_bytes(), &mut faults).expect_err(bad).to_string();
            assert!(error.contains("warnsum.en.json") && error.contains("check"), "{bad}: {error}");
        }
        for bad in ["", "null", "[1]", "{\"details\":{}}", "{\"details\":[3]}", "{\"WTS\":{\"code\":\"WTS\"}}"] {
            assert!(read_details("f", bad.as_bytes(), &mut faults).is_err(), "{bad}");
        }
        assert!(faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn one_bad_time_costs_the_time_and_not_the_warning() {
        let mut faults = Vec::new();
        let json = r#"{"WTS":{"name":"Thunderstorm Warning","code":"WTS","actionCode":"ISSUE","issueTime":"yesterday",
            "updateTime":"2026-08-01T10:20:00+08:00","expireTime":"2026-08-01T13:00:00"}}"#;
        let summary = read_summary("f", json.as_bytes(), &mut faults).expect("a summary");
        let entry = &summary["WTS"];
        assert_eq!((entry.issued, entry.expires), (None, None));
        assert_eq!(entry.updated, Some("2026-08-01T02:20:00Z".parse().unwrap()));
        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    #[test]
    fn too_many_warnings_are_no_summary() {
        let entries: Vec<String> = (0..=WARNINGS_MAX).map(|i| format!("\"W{i}\":{{}}")).collect();
        let json = format!("{{{}}}", entries.join(","));
        assert!(matches!(read_summary("f", json.as_bytes(), &mut Vec::new()), Err(Error::TooMany { .. })));
    }

    #[test]
    fn text_is_copied_without_what_xml_cannot_carry_and_cut_when_endless() {
        let mut faults = Vec::new();
        let long = "雨".repeat(LINE_CHARS_MAX + 1);
        let json = serde_json::json!({"details": [
            {"warningStatementCode": "WL", "contents": ["a\u{0}b\u{b}c\u{fffe} <d>", "", long]},
            {"contents": ["nameless"]},
        ]});
        let details = read_details("f", json.to_string().as_bytes(), &mut faults).expect("details");
        assert_eq!(details.len(), 1);
        assert_eq!(details[0].lines[0], "abc <d>");
        assert_eq!(details[0].lines[1].chars().count(), LINE_CHARS_MAX + 1);
        assert_eq!(faults.len(), 2, "{faults:?}");
    }
}
