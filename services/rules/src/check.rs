//! Reads a pack and checks it: every word against the vocabulary, every name against what it names, and that nothing
//! safety depends on is missing. All findings are given at once, each with its place.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{DepartmentId, MessageType, Timestamp, Vocabulary, vocabulary};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};
use sha2::{Digest, Sha256};

use crate::diagnostic::{Diagnostic, Gravity, Refusal, nearest, unreadable};
use crate::document::{PackDoc, PeriodDoc, RuleDoc, Word};
use crate::pack::RULES_MAX;
use crate::{DataRef, Pack, RowSpec};

mod effect;
mod rule;
mod table;
mod texts;
mod whole;

/// The bytes of files beside a pack, by the name that it gives them.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The longest pack, in bytes.
pub(crate) const BYTES_MAX: usize = 1 << 20;

/// The codes of an unknown field, and of a text that is no pack.
const UNREADABLE: [&str; 2] = ["E001", "E005"];

/// Hong Kong's offset from UTC, used when a pack gives none.
const UTC_OFFSET_MINUTES: i32 = 480;

impl Pack {
    /// Reads and checks a pack. Warnings alone do not refuse it; they come beside the pack.
    ///
    /// # Errors
    /// [`Refusal`] with everything that was found, when there is at least one error.
    pub fn parse(text: &str) -> Result<(Self, Vec<Diagnostic>), Refusal> {
        Self::parse_with(text, &Files::new())
    }

    /// Reads and checks a pack whose tables are in files beside it: their bytes, by the name that the pack gives.
    /// [`Pack::files_of`] says which are wanted.
    ///
    /// # Errors
    /// [`Refusal`] as [`Pack::parse`], also when a file is missing.
    pub fn parse_with(text: &str, files: &Files) -> Result<(Self, Vec<Diagnostic>), Refusal> {
        let mut check = Check { vocabulary: vocabulary::v1(), found: Vec::new(), text: text.into() };
        let pack = check.pack(text, files);
        check.found.sort();
        match pack {
            Some(pack) if check.found.iter().all(|found| found.gravity == Gravity::Warning) => Ok((pack, check.found)),
            _ => Err(Refusal(check.found)),
        }
    }
}

impl Pack {
    /// The table files that a pack names; empty also for a text that is no pack.
    pub fn files_of(text: &str) -> Vec<String> {
        let document: Result<PackDoc, _> = serde_saphyr::from_str(text);
        let rules = document.map(|document| document.rules).unwrap_or_default();
        rules.into_iter().filter_map(|rule| rule.table?.file).collect()
    }
}

/// The findings so far, and what words are checked against.
struct Check {
    vocabulary: &'static Vocabulary,
    found: Vec<Diagnostic>,
    /// The pack as it was written.
    text: String,
}

/// What the rules of a pack may refer to.
struct Scope<'a> {
    owner: Option<DepartmentId>,
    document: &'a PackDoc,
    offset_minutes: i32,
    files: &'a Files,
}

impl Check {
    fn pack(&mut self, text: &str, files: &Files) -> Option<Pack> {
        if text.len() > BYTES_MAX {
            self.report(Location::UNKNOWN, "E003", format!("the pack is longer than {BYTES_MAX} bytes"), None);
            return None;
        }
        let document: PackDoc = serde_saphyr::from_str(text).map_err(|error| self.unreadable(&error)).ok()?;
        let raw: Value = serde_saphyr::from_str(text).map_err(|error| self.unreadable(&error)).ok()?;
        let owner = self.department(&document.owner);
        if document.vocabulary.value != self.vocabulary.version() {
            let help = format!("this release has {}", self.vocabulary.version());
            self.word(&document.vocabulary, "E002", "there is no such vocabulary", Some(help));
        }
        if document.rules.len() > RULES_MAX {
            self.word(&document.pack, "E003", format!("a pack has at most {RULES_MAX} rules"), None);
            return None;
        }
        let offset_minutes = document.utc_offset.as_ref().map_or(UTC_OFFSET_MINUTES, |word| self.offset(word));
        let data: BTreeMap<String, DataRef> =
            document.data.iter().map(|(name, data)| (name.clone(), data_ref(data))).collect();
        for (name, data) in document.data.iter().filter(|(_, data)| crate::Format::of_file(&data.file.value).is_none())
        {
            let message = format!("data set {name} is in a file of unknown format");
            self.word(&data.file, "E003", message, Some("use .json, .csv or .geojson".into()));
        }
        let schedule = self.schedule(&document);
        let areas = document.areas.iter();
        let areas = areas.filter_map(|(name, area)| Some((name.clone(), self.area(area)?))).collect();
        let scope = Scope { owner: owner.clone(), document: &document, offset_minutes, files };
        let mut seen = BTreeSet::new();
        let (mut rules, mut suppressions) = (Vec::new(), Vec::new());
        for (index, rule) in document.rules.iter().enumerate() {
            if !seen.insert(rule.rule.value.as_str()) {
                self.word(&rule.rule, "E012", format!("rule {} stands twice", rule.rule.value), None);
            }
            match &rule.suppress {
                Some(suppress) => {
                    self.identity(rule, &scope);
                    suppressions.extend(self.suppression(rule, suppress, &scope));
                }
                None => {
                    let digest = rule_digest(&raw, index, rule, files);
                    rules.extend(self.rule(rule, &scope, digest));
                }
            }
        }
        self.together(&rules, &suppressions, &document);
        let mut hash = Sha256::new();
        hash.update(canonical(&raw));
        for file in document.rules.iter().filter_map(|rule| files.get(rule.table.as_ref()?.file.as_ref()?)) {
            hash.update(Sha256::digest(file));
        }
        let digest = hash.finalize().into();
        Some(Pack {
            name: document.pack.value.clone(),
            owner: owner?,
            digest,
            data,
            utc_offset_minutes: offset_minutes,
            schedule,
            kinds: table::kinds(&document),
            areas,
            params: document.params.clone(),
            rules,
            suppressions,
        })
    }

    fn report(&mut self, at: Location, code: &'static str, message: impl Into<String>, help: Option<String>) {
        // The roster may give a department the right to a cause that the vocabulary gives to others, so a pack is read with
        // E011; the linter refuses it.
        let warns = code.starts_with('W') || code == "E011";
        let gravity = if warns { Gravity::Warning } else { Gravity::Error };
        let message = message.into();
        self.found.push(Diagnostic { line: at.line(), column: at.column(), code, gravity, message, help });
    }

    fn word<T>(&mut self, word: &Spanned<T>, code: &'static str, message: impl Into<String>, help: Option<String>) {
        self.report(word.referenced, code, message, help);
    }

    /// A finding at a column of a word that stands in one line; from 1, and 0 is about the whole word.
    fn inside(&mut self, word: &Word, column: usize, code: &'static str, message: String, help: Option<String>) {
        let at = word.referenced;
        self.report(at, code, message, help);
        let index = usize::try_from(at.line().saturating_sub(1)).unwrap_or(usize::MAX);
        let line = self.text.lines().nth(index).unwrap_or_default();
        let begins = usize::try_from(at.column().saturating_sub(1)).unwrap_or(usize::MAX);
        let quoted = line.chars().nth(begins).is_some_and(|c| c == '"' || c == '\'');
        // A word with escapes or folded over lines is longer on paper than it is.
        if column > 0
            && line.contains(&word.value)
            && let Some(found) = self.found.last_mut()
        {
            found.column += u64::try_from(column - 1).unwrap_or(0) + u64::from(quoted);
        }
    }

    fn unreadable(&mut self, error: &serde_saphyr::Error) {
        self.found.push(unreadable(error, &UNREADABLE));
    }

    /// The word if the list has it; otherwise a finding that suggests the nearest.
    fn known<'a>(&mut self, word: &Word, what: &str, words: impl Iterator<Item = &'a str> + Clone) -> bool {
        if words.clone().any(|known| known == word.value) {
            return true;
        }
        let help = nearest(&word.value, words.clone()).map_or_else(
            || {
                let all: Vec<&str> = words.take(30).collect();
                format!("known are {}", all.join(", "))
            },
            |near| format!("did you mean `{near}`?"),
        );
        self.word(word, "E002", format!("there is no {what} `{}`", word.value), Some(help));
        false
    }

    fn event(&mut self, word: &Word) -> bool {
        let events: Vec<&str> = self.vocabulary.events().map(|event| event.code.as_str()).collect();
        self.known(word, "event", events.iter().copied())
    }

    fn department(&mut self, word: &Word) -> Option<DepartmentId> {
        match DepartmentId::try_new(word.value.as_str()) {
            Ok(department) => Some(department),
            Err(error) => {
                self.word(word, "E012", error.to_string(), None);
                None
            }
        }
    }

    /// A CAP code value.
    fn code<T: Copy>(&mut self, word: &Word, what: &str, all: &[T], text: fn(T) -> &'static str) -> Option<T> {
        let texts: Vec<&str> = all.iter().map(|value| text(*value)).collect();
        if !self.known(word, what, texts.iter().copied()) {
            return None;
        }
        all.iter().copied().find(|value| text(*value) == word.value)
    }

    /// One of a few fixed words; the others of the language are not in this release.
    fn fixed(&mut self, word: &Word, field: &str, allowed: &[&str]) -> bool {
        let fits = allowed.contains(&word.value.as_str());
        if !fits {
            let help = format!("write one of: {}", allowed.join(", "));
            self.word(word, "E003", format!("`{field}` may not be `{}`", word.value), Some(help));
        }
        fits
    }

    fn seconds(&mut self, word: &Word) -> Option<i64> {
        let parsed = word.value.parse::<jiff::SignedDuration>().ok().filter(|d| !d.is_negative());
        let seconds = parsed.map(|duration| duration.as_secs()).filter(|seconds| *seconds <= 366 * 24 * 3600);
        if seconds.is_none() {
            let message = format!("`{}` is not a length of time of at most a year", word.value);
            self.word(word, "E003", message, Some("write for example 90s, 10m, 2h".into()));
        }
        seconds
    }

    fn metres(&mut self, word: &Word) -> Option<f64> {
        let text = word.value.trim();
        let (number, factor) = match (text.strip_suffix("km"), text.strip_suffix('m')) {
            (Some(number), _) => (number, 1000.0),
            (None, Some(number)) => (number, 1.0),
            (None, None) => ("", 1.0),
        };
        let metres = number.trim().parse::<f64>().ok().map(|number| number * factor);
        let metres = metres.filter(|metres| metres.is_finite() && (0.0..=200_000.0).contains(metres));
        if metres.is_none() {
            let message = format!("`{}` is not a distance from 0 to 200 km", word.value);
            self.word(word, "E003", message, Some("write for example 500m or 1.5km".into()));
        }
        metres
    }

    fn offset(&mut self, word: &Word) -> i32 {
        let text = &word.value;
        let sign = if text.starts_with('-') { -1 } else { 1 };
        let parts = text.trim_start_matches(['+', '-']).split_once(':');
        let minutes = parts.and_then(|(h, m)| Some(h.parse::<i32>().ok()? * 60 + m.parse::<i32>().ok()?));
        match minutes.filter(|minutes| *minutes <= 14 * 60) {
            Some(minutes) => sign * minutes,
            None => {
                self.word(
                    word,
                    "E003",
                    format!("`{text}` is not an offset"),
                    Some("write for example \"+08:00\"".into()),
                );
                UTC_OFFSET_MINUTES
            }
        }
    }

    /// The midnight that a date begins with, in the pack's offset.
    fn midnight(&mut self, word: &Word, offset_minutes: i32) -> Option<Timestamp> {
        let date = word.value.parse::<jiff::civil::Date>().ok();
        let zone = jiff::tz::Offset::from_seconds(offset_minutes * 60).unwrap_or(jiff::tz::Offset::UTC);
        let at = date.and_then(|date| zone.to_timestamp(date.at(0, 0, 0, 0)).ok());
        if at.is_none() {
            self.word(word, "E003", format!("`{}` is not a date", word.value), Some("write YYYY-MM-DD".into()));
        }
        at
    }

    /// A period of dates; `to` is its last day.
    fn period(&mut self, period: &PeriodDoc, offset_minutes: i32) -> (Option<Timestamp>, Option<Timestamp>) {
        let from = period.from.as_ref().and_then(|word| self.midnight(word, offset_minutes));
        let to = period.to.as_ref().and_then(|word| self.midnight(word, offset_minutes));
        let next_day = |at: Timestamp| at.checked_add(jiff::SignedDuration::from_hours(24)).unwrap_or(Timestamp::MAX);
        (from, to.map(next_day))
    }
}

fn data_ref(data: &crate::document::DataDoc) -> DataRef {
    DataRef {
        file: data.file.value.clone(),
        rows: RowSpec {
            key_field: data.key.field.clone(),
            key_first: data.key.first,
            names: data.name.iter().map(|(tag, column)| (tag.clone(), column.clone())).collect(),
            position: data.position.as_ref().map(|position| (position.lat.clone(), position.lon.clone())),
        },
    }
}

/// JSON with sorted keys and no white space, whatever map the JSON library was built with.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let sorted: BTreeMap<&String, &Value> = object.iter().collect();
            let members: Vec<String> = sorted
                .iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// See [`crate::Rule::digest`].
fn rule_digest(raw: &Value, index: usize, rule: &RuleDoc, files: &Files) -> [u8; 32] {
    let part = |name: &str| raw.get(name).cloned().unwrap_or(Value::Null);
    let written = raw.get("rules").and_then(|rules| rules.get(index)).cloned().unwrap_or(Value::Null);
    let text = |name: &str| raw.get("texts").and_then(|texts| texts.get(name)).cloned().unwrap_or(Value::Null);
    let then = rule.then.as_ref();
    let named = then.and_then(|then| then.text.as_ref()).map_or(Value::Null, |word| text(&word.value));
    let mut parts = vec![part("pack"), part("owner"), part("vocabulary"), part("params"), named, written];
    if let Some(table) = &rule.table {
        let texts = then.into_iter().flat_map(|then| then.texts.values()).map(|word| text(&word.value));
        parts.push(Value::Array(texts.collect()));
        parts.extend(["sessions", "kinds", "areas", "calendar"].map(part));
        let file = table.file.as_ref().and_then(|file| files.get(file));
        parts.extend(file.map(|bytes| Value::from(hex::encode(Sha256::digest(bytes)))));
    }
    Sha256::digest(canonical(&Value::Array(parts))).into()
}

/// The message types that may be a cause.
fn message_type(text: &str) -> Option<MessageType> {
    MessageType::from_cap(text).filter(|message| matches!(message, MessageType::Alert | MessageType::Update))
}

/// A place in the file for what is missing from a rule.
fn place(rule: &RuleDoc) -> Location {
    rule.rule.referenced
}
