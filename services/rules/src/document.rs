//! The shape of a pack's YAML, field by field as people write it. Unknown fields and fields given twice are errors.
//!
//! Words and numbers keep the place they were read from, so `check` can point at them. What safety depends on (`until`,
//! `approve`, `source`, texts) is optional here only so that `check` can say in words why it is required.

use std::collections::BTreeMap;

use serde::Deserialize;
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
    pub(crate) position: PositionDoc,
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
#[serde(deny_unknown_fields)]
pub(crate) struct TextsDoc {
    #[serde(default, rename = "zh-Hant")]
    pub(crate) zh_hant: Option<TextDoc>,
    #[serde(default, rename = "zh-Hans")]
    pub(crate) zh_hans: Option<TextDoc>,
    #[serde(default)]
    pub(crate) en: Option<TextDoc>,
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
    pub(crate) cause: CauseDoc,
    #[serde(default)]
    pub(crate) hold: Option<Word>,
    #[serde(default)]
    pub(crate) pick: Option<PickDoc>,
    pub(crate) then: ThenDoc,
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
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ThenDoc {
    pub(crate) issue: Word,
    #[serde(default)]
    pub(crate) per: Option<Word>,
    pub(crate) severity: Word,
    #[serde(default)]
    pub(crate) urgency: Option<Word>,
    #[serde(default)]
    pub(crate) certainty: Option<Word>,
    #[serde(default)]
    pub(crate) response: Vec<Word>,
    pub(crate) area: Word,
    pub(crate) text: Word,
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
    pub(crate) max: Option<Word>,
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
