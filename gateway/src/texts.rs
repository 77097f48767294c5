//! The words of a notice in one language.
//!
//! The texts are the sender's own where it wrote in the language asked for. Where it did not, the event's name comes
//! from the vocabulary in that language and the rest stays in the language it was written in, which is named: a gateway
//! never translates.

use campanile_alert::{Info, vocabulary};
use serde::{Deserialize, Serialize};

use crate::incoming::Incoming;

/// The languages that every channel offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Language {
    /// English.
    #[serde(rename = "en")]
    En,
    /// Traditional Chinese.
    #[serde(rename = "zh-Hant")]
    ZhHant,
    /// Simplified Chinese.
    #[serde(rename = "zh-Hans")]
    ZhHans,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::En, Self::ZhHant, Self::ZhHans];

    /// The BCP 47 tag.
    pub fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::ZhHant => "zh-Hant",
            Self::ZhHans => "zh-Hans",
        }
    }

    /// Reads a tag as it stands in an address; letter case does not matter.
    pub fn from_tag(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.tag().eq_ignore_ascii_case(tag))
    }

    /// The language of a CAP `language` element, when it is one of ours.
    fn of_cap(tag: &str) -> Option<Self> {
        let tag = tag.to_ascii_lowercase();
        let mut parts = tag.split('-');
        let primary = parts.next().unwrap_or_default();
        let rest: Vec<&str> = parts.collect();
        let traditional = rest.iter().any(|part| matches!(*part, "hant" | "hk" | "tw" | "mo"));
        match primary {
            "en" => Some(Self::En),
            "zh" | "yue" if rest.contains(&"hans") => Some(Self::ZhHans),
            "yue" => Some(Self::ZhHant),
            "zh" if traditional => Some(Self::ZhHant),
            "zh" => Some(Self::ZhHans),
            _ => None,
        }
    }

    /// What stands before every text of a drill.
    pub fn drill_mark(self) -> &'static str {
        match self {
            Self::En => "EXERCISE EXERCISE EXERCISE",
            Self::ZhHant => "演習 演習 演習",
            Self::ZhHans => "演习 演习 演习",
        }
    }

    /// What stands before the headline of a message that ended another.
    pub fn cancelled_mark(self) -> &'static str {
        match self {
            Self::En => "Cancelled: ",
            Self::ZhHant => "已取消：",
            Self::ZhHans => "已取消：",
        }
    }

    /// What stands before the headline of an alert that an all-clear ended.
    pub fn all_clear_mark(self) -> &'static str {
        match self {
            Self::En => "All clear: ",
            Self::ZhHant => "警報解除：",
            Self::ZhHans => "警报解除：",
        }
    }

    /// The order in which the infos of a message are tried.
    fn preference(self) -> [Self; 3] {
        match self {
            Self::En => [Self::En, Self::ZhHant, Self::ZhHans],
            Self::ZhHant => [Self::ZhHant, Self::ZhHans, Self::En],
            Self::ZhHans => [Self::ZhHans, Self::ZhHant, Self::En],
        }
    }
}

/// The words of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Texts {
    /// The language the sender's words are in: a CAP `language` tag, and not always the one asked for.
    pub language: String,
    /// The kind of event.
    pub event: String,
    /// One line; made of the event when the sender wrote none.
    pub headline: String,
    /// What happens; absent when the sender wrote none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What to do; absent when the sender wrote none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Where, in words; empty when the message names no area.
    pub area: String,
    /// Who says so.
    pub sender_name: String,
}

impl Texts {
    /// The texts of an alert, in the language asked for or the nearest it has.
    pub fn of(incoming: &Incoming, language: Language) -> Self {
        let infos = &incoming.alert.infos;
        let wanted = language.preference();
        let info = wanted
            .iter()
            .find_map(|want| infos.iter().find(|info| Language::of_cap(info.language()) == Some(*want)))
            .or_else(|| infos.first());
        let known = incoming.classification.event.as_deref().and_then(|code| vocabulary::v1().event(code));
        let is_own = info.is_some_and(|info| Language::of_cap(info.language()) == Some(language));
        let event = match (known, info) {
            (Some(event), Some(_)) if !is_own => event.names.get(language.tag()).to_owned(),
            (_, Some(info)) => info.event.clone(),
            (Some(event), None) => event.names.get(language.tag()).to_owned(),
            (None, None) => incoming.alert.msg_type.as_cap().to_owned(),
        };
        let headline = info.and_then(|info| info.headline.clone()).unwrap_or_else(|| event.clone());
        Self {
            language: info.map_or_else(|| language.tag().to_owned(), |info| info.language().to_owned()),
            headline,
            description: info.and_then(|info| info.description.clone()),
            instruction: info.and_then(|info| info.instruction.clone()),
            area: info.map(area_text).unwrap_or_default(),
            sender_name: info
                .and_then(|info| info.sender_name.clone())
                .unwrap_or_else(|| incoming.department.as_str().to_uppercase()),
            event,
        }
    }

    /// The same texts, each with a mark before it.
    pub(crate) fn marked(self, mark: &str) -> Self {
        let with = |text: String| format!("{mark} {text}");
        Self {
            language: self.language,
            event: with(self.event),
            headline: with(self.headline),
            description: self.description.map(with),
            instruction: self.instruction.map(with),
            area: with(self.area),
            sender_name: with(self.sender_name),
        }
    }
}

fn area_text(info: &Info) -> String {
    let names: Vec<&str> = info.areas.iter().map(|area| area.description.trim()).filter(|t| !t.is_empty()).collect();
    names.join("; ")
}

/// Escapes text for HTML and XML, attributes included, and leaves out characters that XML 1.0 has no place for.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::testing::fire;

    #[test]
    fn a_language_the_sender_did_not_write_has_the_event_of_the_vocabulary_and_names_the_rest() {
        let texts = Texts::of(&fire("f1"), Language::ZhHans);
        assert_eq!((texts.event.as_str(), texts.language.as_str()), ("火警", "zh-HK"));
        assert_eq!(Texts::of(&fire("f1"), Language::ZhHant).headline, "大埔三級火警");
        assert_eq!(Texts::of(&fire("f1"), Language::En).headline, "No. 3 alarm fire in Tai Po");
    }

    #[test]
    fn escaping_leaves_no_markup_and_no_control_characters() {
        assert_eq!(escape("<a href='x'>&\u{0}\u{b}\"é火"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;é火");
    }
}
