//! Checks what people read and hear: every effect says what, where, what to do, and how it ends, in both languages.

use std::collections::BTreeMap;

use serde_saphyr::Spanned;

use super::Check;
use crate::Text;
use crate::document::{TextDoc, TextsDoc, Word};
use crate::engine::PLACEHOLDERS;

/// What a cell broadcast message holds, in UCS-2 characters.
const BROADCAST_MAX: usize = 615;

impl Check {
    /// The texts of a rule; both official languages are required, and each says what, where, what to do, and how it ends.
    pub(super) fn texts(&mut self, texts: &Spanned<TextsDoc>, per_target: bool, kinds: bool) -> Vec<(String, Text)> {
        let languages = [
            ("zh-Hant", &texts.value.zh_hant, true),
            ("zh-Hans", &texts.value.zh_hans, false),
            ("en", &texts.value.en, true),
        ];
        for word in texts.value.speech.values() {
            self.placeholders(word, "speech");
        }
        let mut out = Vec::new();
        for (language, text, required) in languages {
            match text {
                Some(text) => {
                    let speech = spoken(&texts.value, language);
                    out.extend(
                        self.text(texts, language, text, per_target, kinds, speech).map(|t| (language.into(), t)),
                    );
                }
                None if required => self.word(texts, "E091", format!("the text in {language} is missing"), None),
                None => {}
            }
        }
        out
    }

    fn text(
        &mut self,
        at: &Spanned<TextsDoc>,
        language: &str,
        text: &TextDoc,
        per_target: bool,
        kinds: bool,
        speech: BTreeMap<String, String>,
    ) -> Option<Text> {
        let fields = [("headline", &text.headline), ("instruction", &text.instruction), ("retract", &text.retract)];
        for (field, word) in fields {
            match word {
                Some(word) if !word.value.trim().is_empty() => self.placeholders(word, field),
                _ => self.word(at, "E091", format!("the {field} in {language} is missing"), None),
            }
        }
        if let Some(word) = &text.description {
            self.placeholders(word, "description");
        }
        if let Some(word) = text.headline.as_ref().filter(|word| per_target && !word.value.contains("{target.name}")) {
            let help = "write {target.name} where the name belongs".to_string();
            self.word(word, "E091", format!("the headline in {language} does not say where"), Some(help));
        }
        if let Some(word) = text.headline.as_ref().filter(|word| kinds && !word.value.contains("{kinds}")) {
            let help = "write {kinds} where the kinds of schools belong".to_string();
            self.word(word, "E091", format!("the headline in {language} does not say whom it concerns"), Some(help));
        }
        let both = [&text.headline, &text.instruction];
        let length = both.iter().filter_map(|word| word.as_ref());
        let length: usize = length.map(|word| word.value.encode_utf16().count()).sum();
        if length > BROADCAST_MAX {
            let message = format!(
                "headline and instruction in {language} have {length} characters, cell broadcast {BROADCAST_MAX}"
            );
            let help = Some("say less, or put the rest into `description`".into());
            match &text.instruction {
                Some(word) => self.word(word, "W091", message, help),
                None => self.word(at, "W091", message, help),
            }
        }
        Some(Text {
            headline: text.headline.as_ref()?.value.clone(),
            instruction: text.instruction.as_ref()?.value.clone(),
            description: text.description.as_ref().map(|word| word.value.clone()),
            retract: text.retract.as_ref()?.value.clone(),
            speech,
        })
    }

    fn placeholders(&mut self, word: &Word, field: &str) {
        for part in word.value.split('{').skip(1) {
            let name = part.split_once('}').map(|(name, _)| format!("{{{name}}}"));
            let fits = |name: &String| {
                // When a message is retracted its causes may be forgotten, so only the target can be named.
                PLACEHOLDERS.contains(&name.as_str())
                    && (field != "retract" || ["{target.", "{session."].iter().any(|own| name.starts_with(own)))
            };
            if !name.as_ref().is_some_and(fits) {
                let help = format!("known are {}", PLACEHOLDERS.join(", "));
                let shown = name.unwrap_or_else(|| "{".into());
                self.word(word, "E004", format!("the {field} cannot fill in `{shown}`"), Some(help));
            }
        }
    }
}

/// The spoken texts that go with a written language: Cantonese with Traditional Chinese, each other with its own.
fn spoken(texts: &TextsDoc, language: &str) -> BTreeMap<String, String> {
    let written = |tag: &str| match tag.split('-').next() {
        Some("yue") => "zh-Hant",
        Some("cmn") => "zh-Hans",
        _ if tag.starts_with("en") => "en",
        _ => "zh-Hant",
    };
    let own = texts.speech.iter().filter(|(tag, _)| written(tag) == language);
    own.map(|(tag, word)| (tag.clone(), word.value.clone())).collect()
}
