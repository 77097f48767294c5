//! Writes one warning as one CAP message in three languages.
//!
//! Everything that stands in the message comes from the warning's own facts and the vocabulary, so the same facts give
//! the same bytes and the same identifier, on every machine and after every restart.

use std::collections::BTreeMap;

use campanile_alert::message::References;
use campanile_alert::vocabulary::{EVENT_CODE, SIGNAL, Vocabulary};
use campanile_alert::{
    Alert, AlertId, Area, CapVersion, DateTime, Info, MessageType, Polygon, Scope, Status, Timestamp, Urgency,
    ValuePair,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::read::Language;
use super::signals::{Meaning, meaning};
use super::{Config, Text, Warning};

/// The event under which warnings go over the bus.
pub const EVENT: &str = "weather-signal";
/// `eventCode` name of the source's own code; the only one that a warning with an unknown code carries.
pub const HKO_CODE: &str = "hko:warning-code";
/// `parameter` name of the source's statement code.
pub const HKO_STATEMENT: &str = "hko:statement-code";
/// `parameter` name of the number of a renewal; absent from a message that says something new. A gateway may leave out
/// repeating to people what they have read.
pub const HKO_RENEWAL: &str = "hko:renewal";
/// Minutes from UTC in Hong Kong, the whole year.
const OFFSET_MINUTES: i32 = 480;
/// The longest headline copied from the text; a longer first paragraph stands in the description alone.
const HEADLINE_CHARS_MAX: usize = 160;

/// The land and waters of Hong Kong, generously: every point of the eighteen districts lies inside.
const HONG_KONG: &str = "22.1530,113.8350 22.2300,113.8350 22.4300,113.8700 22.4700,113.9200 22.4900,113.9800 \
    22.5200,114.0400 22.5500,114.1000 22.5620,114.1500 22.5620,114.4420 22.1530,114.4420 22.1530,113.8350";
/// `geocode` of Hong Kong.
const GEOCODE: (&str, &str) = ("ISO3166-2", "CN-HK");

/// One message to be made.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) statement: &'a str,
    pub(super) warning: &'a Warning,
    pub(super) kind: MessageType,
    pub(super) sent: Timestamp,
    /// Absent for a Cancel.
    pub(super) expires: Option<Timestamp>,
    pub(super) references: Vec<AlertId>,
    /// Zero for a message that says something new.
    pub(super) renewal: u32,
}

impl Message<'_> {
    /// The CAP message; its identifier is a digest of the facts and of everything in it.
    pub(super) fn alert(&self, config: &Config, vocabulary: &Vocabulary) -> Alert {
        let infos = Language::ALL.into_iter().map(|language| self.info(language, vocabulary)).collect();
        let mut alert = Alert {
            version: CapVersion::V1_2,
            identifier: String::new(),
            sender: config.sender.clone(),
            sent: DateTime::from_instant(self.sent, OFFSET_MINUTES),
            status: config.status,
            msg_type: self.kind,
            password: None,
            source: Some("Hong Kong Observatory open data".into()),
            scope: Some(Scope::Public),
            restriction: None,
            addresses: None,
            codes: vec![],
            note: self.note(config),
            references: (!self.references.is_empty()).then(|| References::from_ids(&self.references)),
            incidents: None,
            infos,
            signatures: vec![],
        };
        alert.identifier = self.identifier(&alert);
        alert
    }

    fn note(&self, config: &Config) -> Option<String> {
        (config.status == Status::Exercise).then(|| config.exercise.as_ref().map(ToString::to_string)).flatten()
    }

    fn identifier(&self, alert: &Alert) -> String {
        #[derive(Serialize)]
        struct Facts<'a> {
            statement: &'a str,
            code: &'a str,
            action: &'a str,
            issued: Timestamp,
            updated: Timestamp,
            renewal: u32,
            alert: &'a Alert,
        }
        let facts = Facts {
            statement: self.statement,
            code: &self.warning.code,
            action: &self.warning.action,
            issued: self.warning.issued,
            updated: self.warning.updated,
            renewal: self.renewal,
            alert,
        };
        let digest = Sha256::digest(serde_json::to_vec(&facts).unwrap_or_default());
        let word: String = self.warning.code.chars().filter(char::is_ascii_alphanumeric).collect();
        format!("hko-{}-{}", word.to_ascii_lowercase(), hex::encode(digest.get(..12).unwrap_or_default()))
    }

    fn info(&self, language: Language, vocabulary: &Vocabulary) -> Info {
        let code = &self.warning.code;
        let signal = vocabulary.signal(code);
        let Meaning { categories, urgency, severity, certainty, response } = meaning(code);
        let cancel = self.kind == MessageType::Cancel;
        let name = match signal {
            Some(signal) => signal.names.get(language.tag()).to_owned(),
            None => self.title(language),
        };
        let lines = self.lines(language);
        let first = lines.first().filter(|line| line.chars().count() <= HEADLINE_CHARS_MAX && !cancel);
        let mut event_codes = vec![ValuePair::new(HKO_CODE, code.clone())];
        let mut parameters = vec![ValuePair::new(HKO_STATEMENT, self.statement)];
        if signal.is_some() {
            event_codes.insert(0, ValuePair::new(EVENT_CODE, EVENT));
            parameters.insert(0, ValuePair::new(SIGNAL, code.clone()));
        }
        if self.renewal > 0 {
            parameters.push(ValuePair::new(HKO_RENEWAL, self.renewal.to_string()));
        }
        Info {
            language: Some(language.tag().into()),
            categories,
            headline: Some(
                first.cloned().unwrap_or_else(|| if cancel { ended(language, &name) } else { name.clone() }),
            ),
            event: name,
            response_types: if cancel { vec![] } else { vec![response] },
            urgency: if cancel { Urgency::Past } else { urgency },
            severity,
            certainty,
            audience: None,
            event_codes,
            effective: None,
            onset: None,
            expires: self.expires.map(|at| DateTime::from_instant(at, OFFSET_MINUTES)),
            sender_name: Some(sender_name(language).into()),
            description: (!lines.is_empty()).then(|| lines.join("\n")),
            instruction: None,
            web: Some("https://www.hko.gov.hk/".into()),
            contact: None,
            parameters,
            resources: vec![],
            areas: vec![area(language)],
        }
    }

    /// The paragraphs in that language, or in the nearest one with a mark before them that says which it is.
    fn lines(&self, language: Language) -> Vec<String> {
        let Some((found, text)) = nearest(language, &self.warning.texts, |text| !text.lines.is_empty()) else {
            return Vec::new();
        };
        let mark = (found != language).then(|| mark(language, found).to_owned());
        mark.into_iter().chain(text.lines.iter().cloned()).collect()
    }

    /// What the source calls a warning that the vocabulary does not have; its code when the source gives no name.
    fn title(&self, language: Language) -> String {
        match nearest(language, &self.warning.texts, |text| !text.title.is_empty()) {
            Some((found, text)) if found == language => text.title.clone(),
            Some((found, text)) => format!("{} {}", mark(language, found), text.title),
            None => self.warning.code.clone(),
        }
    }
}

/// The text in that language, or else in the one that its readers are likeliest to read.
fn nearest(
    language: Language,
    texts: &BTreeMap<Language, Text>,
    has: impl Fn(&Text) -> bool,
) -> Option<(Language, &Text)> {
    let order = match language {
        Language::En => [Language::En, Language::ZhHant, Language::ZhHans],
        Language::ZhHant => [Language::ZhHant, Language::ZhHans, Language::En],
        Language::ZhHans => [Language::ZhHans, Language::ZhHant, Language::En],
    };
    order.into_iter().find_map(|found| texts.get(&found).filter(|text| has(text)).map(|text| (found, text)))
}

/// The mark, in the reader's language, before a text in another language.
fn mark(reader: Language, text: Language) -> &'static str {
    match (reader, text) {
        (Language::En, _) => "[Chinese text only]",
        (Language::ZhHant, Language::En) => "［只有英文版］",
        (Language::ZhHant, _) => "［只有簡體中文版］",
        (Language::ZhHans, Language::En) => "［只有英文版］",
        (Language::ZhHans, _) => "［只有繁体中文版］",
    }
}

fn ended(language: Language, name: &str) -> String {
    match language {
        Language::En => format!("Cancelled: {name}"),
        Language::ZhHant | Language::ZhHans => format!("取消：{name}"),
    }
}

fn sender_name(language: Language) -> &'static str {
    match language {
        Language::En => "Hong Kong Observatory",
        Language::ZhHant => "香港天文台",
        Language::ZhHans => "香港天文台",
    }
}

/// Hong Kong as a CAP area: a closed ring and its code.
fn area(language: Language) -> Area {
    let description = if language == Language::En { "Hong Kong" } else { "香港" };
    Area {
        description: description.into(),
        // The ring is a constant, checked by a test.
        polygons: Polygon::parse(HONG_KONG).into_iter().collect(),
        geocodes: vec![ValuePair::new(GEOCODE.0, GEOCODE.1)],
        ..Area::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn area_is_a_closed_ring_and_a_code() {
        for language in Language::ALL {
            let area = area(language);
            assert_eq!((area.polygons.len(), area.geocodes.len()), (1, 1));
        }
    }
}
