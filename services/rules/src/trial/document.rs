//! The shape of a `*.tests.yaml`, as policy staff write it.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use crate::document::Cell;
use crate::short::ShortAlert;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SuiteDoc {
    pub(super) uses: Vec<String>,
    #[serde(default)]
    pub(super) clock: Option<ClockDoc>,
    /// Other files for the packs' data sets.
    #[serde(default)]
    pub(super) data: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) envelopes: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) cases: Vec<Spanned<CaseDoc>>,
    #[serde(default)]
    pub(super) coverage: CoverageDoc,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClockDoc {
    pub(super) start: String,
    /// Said for the reader; the pack names its calendar.
    #[serde(default)]
    #[allow(dead_code, reason = "a word for the reader of the file")]
    pub(super) calendar: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct CoverageDoc {
    #[serde(default)]
    pub(super) rules: Option<String>,
    #[serde(default)]
    pub(super) rows: Option<String>,
    #[serde(default)]
    pub(super) must_have_negative_test: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseDoc {
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) clock: Option<ClockDoc>,
    #[serde(default)]
    pub(super) envelopes: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) at: BTreeMap<String, OneOrMany<ActDoc>>,
    #[serde(default)]
    pub(super) expect: BTreeMap<String, ExpectDoc>,
    #[serde(default)]
    pub(super) never: Vec<MatchDoc>,
    #[serde(default)]
    pub(super) sent: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(super) why: OneOrMany<WhyDoc>,
    /// The announcement that the case is taken from.
    #[serde(default)]
    pub(super) source: Option<String>,
    /// Why the pack does not do what was announced, when it does not.
    #[serde(default)]
    pub(super) differs: Option<String>,
    /// A truth table instead of a story.
    #[serde(default)]
    pub(super) table: Option<String>,
    #[serde(default)]
    pub(super) given: Vec<String>,
    #[serde(default)]
    pub(super) rows: Vec<Spanned<Vec<Cell>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ActDoc {
    #[serde(default)]
    pub(super) alert: Option<ShortAlert>,
    #[serde(default)]
    pub(super) update: Option<ShortAlert>,
    #[serde(default)]
    pub(super) cancel: Option<String>,
    #[serde(default)]
    pub(super) approve: Option<AnswerDoc>,
    #[serde(default)]
    pub(super) reject: Option<AnswerDoc>,
    #[serde(default)]
    pub(super) pause: Option<String>,
    #[serde(default)]
    pub(super) resume: Option<String>,
    /// A department has told the public.
    #[serde(default)]
    pub(super) notice: Option<NoticeDoc>,
    /// A department is heard.
    #[serde(default)]
    pub(super) heard: Option<String>,
    /// An officer cancels an effect by hand.
    #[serde(default)]
    pub(super) officer_cancels: Option<MatchDoc>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnswerDoc {
    pub(super) rule: String,
    /// The role.
    pub(super) who: String,
    /// The person who holds it; the role's own name when it is not given.
    #[serde(default)]
    pub(super) person: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoticeDoc {
    pub(super) from: String,
    #[serde(default)]
    pub(super) point: Option<[f64; 2]>,
    #[serde(default)]
    pub(super) place: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectDoc {
    #[serde(default)]
    pub(super) live: OneOrMany<MatchDoc>,
    #[serde(default)]
    pub(super) none: OneOrMany<MatchDoc>,
    #[serde(default)]
    pub(super) pending: OneOrMany<MatchDoc>,
    /// The role that is asked as well by now.
    #[serde(default)]
    pub(super) escalated: Option<String>,
}

/// Which effects are meant; a word alone names the effect.
#[derive(Debug, Clone, Default)]
pub(super) struct MatchDoc {
    pub(super) fields: MatchFields,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MatchFields {
    #[serde(default)]
    pub(super) rule: Option<String>,
    #[serde(default)]
    pub(super) effect: Option<String>,
    #[serde(default)]
    pub(super) target: Option<String>,
    #[serde(default)]
    pub(super) targets: Vec<String>,
    #[serde(default)]
    pub(super) session: OneOrMany<String>,
    #[serde(default)]
    pub(super) kinds: Option<Vec<String>>,
    #[serde(default)]
    pub(super) severity: Option<String>,
    #[serde(default)]
    pub(super) status: Option<String>,
    /// Alerts by the ids of the case: exactly these stand behind it.
    #[serde(default)]
    pub(super) chain: Option<Vec<String>>,
    /// A part of the headline in either language.
    #[serde(default)]
    pub(super) headline: Option<String>,
    /// An effect that waits for a person to end or keep it.
    #[serde(default)]
    pub(super) review: Option<String>,
}

impl<'de> Deserialize<'de> for MatchDoc {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct WordOrFields;
        impl<'de> Visitor<'de> for WordOrFields {
            type Value = MatchDoc;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an effect, or fields such as {effect: …, target: …}")
            }

            fn visit_str<E: serde::de::Error>(self, effect: &str) -> Result<MatchDoc, E> {
                Ok(MatchDoc { fields: MatchFields { effect: Some(effect.into()), ..MatchFields::default() } })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MatchDoc, A::Error> {
                Ok(MatchDoc { fields: MatchFields::deserialize(MapAccessDeserializer::new(map))? })
            }
        }
        from.deserialize_any(WordOrFields)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhyDoc {
    pub(super) rule: String,
    /// A part of the sentence, in English or Chinese.
    pub(super) says: String,
}

/// One thing, or a list of them.
#[derive(Debug, Clone)]
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Both<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Both<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one thing or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Self::Value, E> {
                Ok(OneOrMany(vec![T::deserialize(StrDeserializer::new(word))?]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Ok(OneOrMany(vec![T::deserialize(MapAccessDeserializer::new(map))?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(OneOrMany(items))
            }
        }
        from.deserialize_any(Both(PhantomData))
    }
}
