//! What is played in a drill, and what goes wrong on the way.

use campanile_rules::short::ShortAlert;
use serde::{Deserialize, Serialize};

use super::{Act, Match, PendingClaim, Percent, TextOrWords};
use crate::han::spaced;
use crate::time::{Length, Offset};

/// One event that the controllers bring about.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Inject {
    /// When; absent: kept in reserve until a player or controller plays it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Offset>,
    /// Its name.
    pub id: String,
    /// How it comes.
    pub via: Via,
    /// The department that publishes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What is published; of an update, what changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<ShortAlert>,
    /// The inject that it updates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updates: Option<String>,
    /// The inject that it cancels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancels: Option<String>,
    /// How many alerts it is, each with an identifier of its own; absent: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Over which time they are spread; absent: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Length>,
    /// The role that a message goes to, or that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What the person is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub say: Option<String>,
    /// The rule that an approval is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What the role answers, for `via: approval`: approve or reject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Act>,
    /// It is left out unless this holds at its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_if: Option<Condition>,
    /// What it is, for the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<TextOrWords>,
    /// What the player should do, for the controllers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The controller who brings it about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// The objective that it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<String>,
}

/// How an inject comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// A department publishes it.
    #[default]
    Alert,
    /// A person is told.
    Person,
    /// A role answers what waits.
    Approval,
}

/// Something that goes wrong. Beside the times it has one field that says what.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fault {
    /// When it begins.
    pub at: Offset,
    /// How long it lasts; absent: to the end.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Length>,
    /// How many times it is repeated, for `duplicate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u32>,
    /// Over which time the repetitions are spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Length>,
    /// Nodes that others cannot reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// Everything between these nodes takes longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// A share of all transfers is lost and tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Share>,
    /// Transfers overtake each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reorder: Option<Share>,
    /// An inject whose sender is stuck and sends it again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<String>,
    /// A clock goes wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew: Option<Skew>,
    /// A node dies, and starts again from its log when the fault ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<String>,
    /// A node's disk is full: it publishes nothing and goes on serving reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_full: Option<String>,
    /// What is wrong with the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdFault>,
}

impl Fault {
    /// What is so while it lasts, in words.
    pub fn in_words(&self) -> String {
        let mut parts = Vec::new();
        if let Some(cut) = &self.partition {
            let from = if cut.from.is_empty() { "everybody".into() } else { cut.from.join(", ") };
            let way = cut.one_way.map(|way| format!(", one way: {way:?}").to_lowercase()).unwrap_or_default();
            parts.push(format!("{} cut off from {from}{way}", cut.cut.join(", ")));
        }
        let whom = |nodes: &[String]| if nodes.is_empty() { "all".into() } else { nodes.join(", ") };
        parts.extend(
            self.delay.iter().map(|delay| format!("transfers of {} take {} longer", whom(&delay.nodes), delay.by)),
        );
        parts.extend(
            self.loss.iter().map(|loss| format!("{} of the transfers of {} are lost", loss.share, whom(&loss.nodes))),
        );
        let turned =
            |share: &Share| format!("{} of the transfers of {} are turned round", share.share, whom(&share.nodes));
        parts.extend(self.reorder.iter().map(turned));
        parts.extend(self.duplicate.iter().map(|id| format!("{id} is sent {} times more", self.repeat.unwrap_or(1))));
        parts.extend(self.clock_skew.iter().map(|skew| format!("the clock of {} is wrong by {}", skew.node, skew.by)));
        parts.extend(self.crash.iter().map(|node| format!("{node}'s node crashes")));
        parts.extend(self.disk_full.iter().map(|node| format!("{node}'s disk is full")));
        parts.extend(self.etcd.map(|etcd| match etcd {
            EtcdFault::LeaderLoss => "the directory has no leader".into(),
            EtcdFault::Outage => "the directory is away".to_string(),
        }));
        parts.join("; ")
    }

    /// The same in Traditional Chinese.
    pub fn in_words_zh(&self) -> String {
        let whom = |nodes: &[String]| if nodes.is_empty() { "所有節點".into() } else { nodes.join("、") };
        let mut parts = Vec::new();
        if let Some(cut) = &self.partition {
            let way = match cut.one_way {
                Some(OneWay::Deaf) => "（單向：收不到）",
                Some(OneWay::Mute) => "（單向：發不出）",
                None => "",
            };
            parts.push(format!("{}與{}之間中斷{way}", cut.cut.join("、"), whom(&cut.from)));
        }
        parts.extend(self.delay.iter().map(|delay| format!("{}的傳送延遲{}", whom(&delay.nodes), delay.by)));
        parts.extend(self.loss.iter().map(|loss| format!("{}的傳送遺失{}", whom(&loss.nodes), loss.share)));
        let turned = |share: &Share| format!("{}的傳送有{}次序顛倒", whom(&share.nodes), share.share);
        parts.extend(self.reorder.iter().map(turned));
        parts.extend(self.duplicate.iter().map(|id| format!("{id}重複發送{}次", self.repeat.unwrap_or(1))));
        parts.extend(self.clock_skew.iter().map(|skew| format!("{}的時鐘偏差{}", skew.node, skew.by)));
        parts.extend(self.crash.iter().map(|node| format!("{node}的節點當機")));
        parts.extend(self.disk_full.iter().map(|node| format!("{node}的磁碟已滿")));
        parts.extend(self.etcd.map(|etcd| match etcd {
            EtcdFault::LeaderLoss => "名錄沒有主節點".to_owned(),
            EtcdFault::Outage => "名錄無法使用".to_owned(),
        }));
        spaced(&parts.join("；"))
    }
}

/// Who is cut off from whom.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Partition {
    /// One side.
    pub cut: Vec<String>,
    /// The other; `etcd` is the directory. Absent: everybody else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// Whether only one way is cut: the `cut` nodes do not hear, or are not heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_way: Option<OneWay>,
}

/// Which way is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OneWay {
    /// They hear nothing, and are heard.
    Deaf,
    /// They are not heard, and hear.
    Mute,
}

/// How much longer transfers take.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Delay {
    /// The nodes that it concerns; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// By how much.
    pub by: Length,
    /// Up to how much more, by the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Length>,
}

/// A share of what passes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Share {
    /// The nodes that it concerns; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// How much of it: `20%`.
    pub share: Percent,
}

/// A clock that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Skew {
    /// Whose.
    pub node: String,
    /// By how much; ahead is positive.
    pub by: Length,
}

/// What is wrong with the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EtcdFault {
    /// It has no leader: it can be read and not written.
    LeaderLoss,
    /// It is not there.
    Outage,
}

/// A condition for an inject. It has one field.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Condition {
    /// It is not so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<Condition>>,
    /// An alert or effect is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Match>,
    /// Somebody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingClaim>,
    /// A person has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acked: Option<AckedBy>,
}

/// An answer that a condition asks about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AckedBy {
    /// The role.
    pub person: String,
    /// What it was asked or told about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The message that it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<String>,
}
