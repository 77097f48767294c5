//! The shape of a pack's YAML, field by field as people write it. Unknown fields and fields given twice are errors.
//!
//! Words and numbers keep the place they were read from, so `check` can point at them. What safety depends on (`until`,
//! `approve`, `source`, texts) is optional here only so that `check` can say in words why it is required.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

pub(crate) type Word = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PackDoc {
    pub(crate) pack: Word,
    pub(crate) owner: Word,
    pub(crate) vocabulary: Word,
    #[serde(default)]
    pub(crate) utc_offset: Option<Word>,
    #[serde(default)]
    pub(crate) data: BTreeMap<String, DataDoc>,
    #[serde(default)]
    pub(crate) params: BTreeMap<String, u32>,
    /// The data set whose keys are the days on which no session is held.
    #[serde(default)]
    pub(crate) calendar: Option<Word>,
    #[serde(default)]
    pub(crate) sessions: BTreeMap<String, Spanned<SessionDoc>>,
    /// What a table's last column may name, with its words in both languages.
    #[serde(default)]
    pub(crate) kinds: BTreeMap<String, TitleDoc>,
    /// Areas that effects without sites are issued for.
    #[serde(default)]
    pub(crate) areas: BTreeMap<String, AreaDoc>,
    #[serde(default)]
    pub(crate) texts: BTreeMap<String, Spanned<TextsDoc>>,
    pub(crate) rules: Vec<RuleDoc>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataDoc {
    pub(crate) file: Word,
    pub(crate) key: KeyDoc,
    #[serde(default)]
    pub(crate) name: BTreeMap<String, String>,
    /// Absent for a list that has no place, such as a calendar.
    #[serde(default)]
    pub(crate) position: Option<PositionDoc>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyDoc {
    pub(crate) field: String,
    #[serde(default)]
    pub(crate) first: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PositionDoc {
    pub(crate) lat: String,
    pub(crate) lon: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct SessionDoc {
    #[serde(default)]
    pub(crate) name: Option<TitleDoc>,
    pub(crate) opens: Word,
    pub(crate) starts: Word,
    pub(crate) ends: Word,
    #[serde(default)]
    pub(crate) resume_by: Option<Word>,
    #[serde(default)]
    pub(crate) days: Vec<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AreaDoc {
    pub(crate) name: TitleDoc,
    /// Points "lat,lon" separated by spaces, the last equal to the first, as in CAP.
    pub(crate) polygon: Word,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextsDoc {
    #[serde(default, rename = "zh-Hant")]
    pub(crate) zh_hant: Option<TextDoc>,
    #[serde(default, rename = "zh-Hans")]
    pub(crate) zh_hans: Option<TextDoc>,
    #[serde(default)]
    pub(crate) en: Option<TextDoc>,
    /// What is spoken, by language tag.
    #[serde(default)]
    pub(crate) speech: BTreeMap<String, Word>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextDoc {
    #[serde(default)]
    pub(crate) headline: Option<Word>,
    #[serde(default)]
    pub(crate) instruction: Option<Word>,
    #[serde(default)]
    pub(crate) description: Option<Word>,
    #[serde(default)]
    pub(crate) retract: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RuleDoc {
    pub(crate) rule: Word,
    pub(crate) title: TitleDoc,
    #[serde(default)]
    pub(crate) source: Vec<SourceDoc>,
    #[serde(default)]
    pub(crate) effective: Option<PeriodDoc>,
    #[serde(default)]
    pub(crate) cause: Option<CauseDoc>,
    #[serde(default)]
    pub(crate) hold: Option<Word>,
    #[serde(default)]
    pub(crate) absent: Option<AbsentDoc>,
    #[serde(default)]
    pub(crate) table: Option<TableDoc>,
    #[serde(default)]
    pub(crate) pick: Option<PickDoc>,
    #[serde(default)]
    pub(crate) only_if: Option<Word>,
    #[serde(default)]
    pub(crate) then: Option<ThenDoc>,
    #[serde(default)]
    pub(crate) suppress: Option<SuppressDoc>,
    #[serde(default)]
    pub(crate) on_suppress: Option<Word>,
    #[serde(default)]
    pub(crate) envelope: Option<EnvelopeDoc>,
    #[serde(default)]
    pub(crate) approve: Option<ApproveDoc>,
    #[serde(default)]
    pub(crate) conflict: Option<ConflictDoc>,
    #[serde(default)]
    pub(crate) until: Option<UntilDoc>,
    #[serde(default)]
    pub(crate) merge: Option<MergeDoc>,
    #[serde(default)]
    pub(crate) limit: Option<LimitDoc>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TitleDoc {
    pub(crate) en: String,
    #[serde(rename = "zh-Hant")]
    pub(crate) zh_hant: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceDoc {
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) url: Option<String>,
    /// A copy of the text beside the pack, and its SHA-256 when the rule was written.
    #[serde(default)]
    pub(crate) file: Option<String>,
    #[serde(default)]
    pub(crate) sha256: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeriodDoc {
    #[serde(default)]
    pub(crate) from: Option<Word>,
    #[serde(default)]
    pub(crate) to: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CauseDoc {
    pub(crate) event: Word,
    pub(crate) from: Vec<Word>,
    #[serde(default)]
    pub(crate) certainty: Option<Vec<Word>>,
    #[serde(default)]
    pub(crate) level: Option<LevelDoc>,
    #[serde(default)]
    pub(crate) urgency: Option<Vec<Word>>,
    #[serde(default)]
    pub(crate) signal: Option<Vec<Word>>,
    #[serde(default)]
    pub(crate) msg: Option<Vec<Word>>,
    #[serde(default)]
    pub(crate) chain: Option<ChainDoc>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct LevelDoc {
    /// Required in `cause`, where the numbers get their meaning; left out in `envelope`, which uses the same one.
    #[serde(default)]
    pub(crate) scale: Option<Word>,
    pub(crate) at_least: Word,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ChainDoc {
    pub(crate) depth_at_most: Spanned<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PickDoc {
    pub(crate) targets: Word,
    #[serde(default)]
    pub(crate) within: Option<Word>,
    #[serde(default, rename = "where")]
    pub(crate) columns: BTreeMap<String, Word>,
    #[serde(default, rename = "at-most")]
    pub(crate) at_most: Option<Spanned<usize>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ThenDoc {
    /// What is issued; a table's rows say it themselves.
    #[serde(default)]
    pub(crate) issue: Option<Word>,
    #[serde(default)]
    pub(crate) per: Option<Word>,
    /// Draft only: the effect is put to officers and is not for the public.
    #[serde(default)]
    pub(crate) status: Option<Word>,
    /// The roles a draft is put to.
    #[serde(default)]
    pub(crate) to: Vec<Word>,
    /// Who is told of a draft next.
    #[serde(default)]
    pub(crate) next: Option<NextDoc>,
    pub(crate) severity: Word,
    #[serde(default)]
    pub(crate) urgency: Option<Word>,
    #[serde(default)]
    pub(crate) certainty: Option<Word>,
    #[serde(default)]
    pub(crate) response: Vec<Word>,
    pub(crate) area: Word,
    #[serde(default)]
    pub(crate) text: Option<Word>,
    /// A table's texts, by what its rows issue.
    #[serde(default)]
    pub(crate) texts: BTreeMap<String, Word>,
    #[serde(default)]
    pub(crate) not_after: Option<Word>,
    #[serde(default)]
    pub(crate) valid_while: Option<Word>,
    #[serde(default)]
    pub(crate) repeat_every: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NextDoc {
    pub(crate) after: Word,
    pub(crate) to: Vec<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AbsentDoc {
    pub(crate) record: Word,
    pub(crate) from: Vec<Word>,
    #[serde(default)]
    pub(crate) area: Option<Word>,
    #[serde(default)]
    pub(crate) reached: Option<Word>,
    pub(crate) within: Word,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SuppressDoc {
    pub(crate) effect: Word,
    #[serde(rename = "while")]
    pub(crate) during: DuringDoc,
    pub(crate) same: Vec<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DuringDoc {
    pub(crate) effect: Word,
    #[serde(default)]
    pub(crate) kinds: Vec<Word>,
}

/// A decision table: written out, or the name of a CSV file that has it.
#[derive(Debug, Default)]
pub(crate) struct TableDoc {
    pub(crate) file: Option<String>,
    pub(crate) hit: Option<Word>,
    pub(crate) per: Option<Word>,
    pub(crate) columns: Option<Pairs>,
    pub(crate) rows: Vec<Vec<Spanned<Cell>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFields {
    #[serde(default)]
    file: Option<String>,
    #[serde(default)]
    hit: Option<Word>,
    #[serde(default)]
    per: Option<Word>,
    #[serde(default)]
    columns: Option<Pairs>,
    #[serde(default)]
    rows: Vec<Vec<Spanned<Cell>>>,
}

impl<'de> Deserialize<'de> for TableDoc {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Both;
        impl<'de> Visitor<'de> for Both {
            type Value = TableDoc;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table, or the name of a CSV file")
            }

            fn visit_str<E: serde::de::Error>(self, file: &str) -> Result<TableDoc, E> {
                Ok(TableDoc { file: Some(file.into()), ..TableDoc::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TableDoc, A::Error> {
                let fields = TableFields::deserialize(MapAccessDeserializer::new(map))?;
                let TableFields { file, hit, per, columns, rows } = fields;
                Ok(TableDoc { file, hit, per, columns, rows })
            }
        }
        from.deserialize_any(Both)
    }
}

/// A map whose order counts.
#[derive(Debug, Default)]
pub(crate) struct Pairs(pub(crate) Vec<(Word, Word)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_map(InOrder)
    }
}

/// One word of a table, or a list of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Cell;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word, a number, or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Cell, E> {
                Ok(Cell(vec![word.into()]))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Cell, E> {
                Ok(Cell(vec![number.to_string()]))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Cell, E> {
                Ok(Cell(vec![number.to_string()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Cell, A::Error> {
                let mut words = Vec::new();
                while let Some(Cell(more)) = seq.next_element()? {
                    words.extend(more);
                }
                Ok(Cell(words))
            }
        }
        from.deserialize_any(OneOrMore)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct EnvelopeDoc {
    pub(crate) when: WhenDoc,
    pub(crate) valid: PeriodDoc,
    pub(crate) signed_by: SignedByDoc,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhenDoc {
    #[serde(default)]
    pub(crate) certainty: Option<Vec<Word>>,
    #[serde(default)]
    pub(crate) level: Option<LevelDoc>,
    #[serde(default)]
    pub(crate) sites: Option<SitesDoc>,
    #[serde(default)]
    pub(crate) conflict: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct SitesDoc {
    pub(crate) at_most: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignedByDoc {
    pub(crate) need: Spanned<usize>,
    pub(crate) by: Vec<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ApproveDoc {
    pub(crate) need: Spanned<usize>,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) by: Vec<Word>,
    #[serde(default)]
    pub(crate) apart_from: Vec<Word>,
    #[serde(default)]
    pub(crate) within: Option<Word>,
    #[serde(default)]
    pub(crate) if_silent: Option<Word>,
    #[serde(default)]
    pub(crate) because: Option<String>,
    #[serde(default, rename = "else")]
    pub(crate) otherwise: Option<ElseDoc>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ElseDoc {
    pub(crate) notify: Vec<Word>,
    #[serde(default)]
    pub(crate) within: Option<Word>,
    #[serde(default)]
    pub(crate) if_silent: Option<Word>,
    #[serde(default)]
    pub(crate) because: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConflictDoc {
    pub(crate) with: Word,
    pub(crate) ask: Word,
    #[serde(default)]
    pub(crate) meanwhile: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UntilDoc {
    pub(crate) cause: Word,
    #[serde(default)]
    pub(crate) linger: Option<Word>,
    #[serde(default)]
    pub(crate) then: Option<Word>,
    #[serde(default)]
    pub(crate) latch: Option<LatchDoc>,
    #[serde(default)]
    pub(crate) max: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LatchDoc {
    pub(crate) after: Word,
    pub(crate) to: Word,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MergeDoc {
    #[serde(default)]
    pub(crate) key: Vec<Word>,
    #[serde(default)]
    pub(crate) severity: Option<Word>,
    #[serde(default)]
    pub(crate) area: Option<Word>,
    pub(crate) end: Word,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct LimitDoc {
    pub(crate) per: Word,
    pub(crate) at_most: Word,
    pub(crate) over: Word,
}
