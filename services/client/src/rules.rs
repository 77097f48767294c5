//! The calls of officers and policy staff: packs, activation, the graph of the federation, and why a rule did what it
//! did.

use campanile_alert::Timestamp;
use campanile_proto::convert;
use campanile_proto::convert::WantedAlert;
use campanile_proto::rules::v1 as wire;
use serde::Serialize;

use crate::admin::Pending;
use crate::client::Client;
use crate::error::Error;
use crate::values::Rule;

/// How many bytes of a data set go into one message.
const CHUNK_BYTES: usize = 512 << 10;

/// A pack as it is given to a node: its text, and its data sets' SHA-256 by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackFiles {
    /// The pack in YAML.
    pub text: String,
    /// Its data sets; the node must have them (see [`Client::put_data_set`]).
    pub data: Vec<(String, [u8; 32])>,
}

/// The packs of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Packs {
    /// Those in force.
    pub packs: Vec<PackState>,
    /// Those in shadow.
    pub shadows: Vec<ShadowState>,
    /// Those that wait for a second officer.
    pub waiting: Vec<WaitingPack>,
    /// The serial of the published manifest; absent before the first.
    pub serial: Option<u64>,
    /// Why the directory does not show that manifest, or what is wrong with it there; absent when all is well.
    pub directory_problem: Option<String>,
    /// Packs of the node's configuration that were not put in force, and why.
    pub configuration_problems: Vec<String>,
}

/// A pack in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PackState {
    /// Its name.
    pub pack: String,
    /// SHA-256 of it, in hexadecimal digits.
    pub digest: String,
    /// Its data sets, each with SHA-256 in hexadecimal digits.
    pub data_sets: Vec<(String, String)>,
    /// Since when; absent when the node did not say.
    pub since: Option<Timestamp>,
    /// The persons who agreed; empty when the node's configuration put it in force.
    pub persons: Vec<String>,
    /// The pack that a rollback would bring back; absent when it would leave none.
    pub fallback_digest: Option<String>,
}

/// A pack in shadow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShadowState {
    /// Its name.
    pub pack: String,
    /// SHA-256 of it, in hexadecimal digits.
    pub digest: String,
    /// Since when; absent when the node did not say.
    pub since: Option<Timestamp>,
    /// Who began it.
    pub person: String,
    /// How many messages it would have issued.
    pub issued: u64,
    /// How often it would have asked persons.
    pub asked: u64,
}

/// A pack that waits for a second officer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingPack {
    /// Its id.
    pub id: String,
    /// Its name.
    pub pack: String,
    /// SHA-256 of it, in hexadecimal digits.
    pub digest: String,
    /// Its data sets, each with SHA-256 in hexadecimal digits.
    pub data_sets: Vec<(String, String)>,
    /// Who agreed.
    pub person: String,
    /// Until when the second yes must come; absent when the node did not say.
    pub deadline: Option<Timestamp>,
}

/// How far an activation has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Activated {
    /// The id of what was agreed to.
    pub id: String,
    /// The pack's name.
    pub pack: String,
    /// SHA-256 of it, in hexadecimal digits.
    pub digest: String,
    /// It is in force.
    pub active: bool,
    /// The persons who have agreed.
    pub persons: Vec<String>,
    /// How many must.
    pub need: u32,
    /// What the checker remarks.
    pub warnings: Vec<String>,
    /// The serial of the manifest; absent while it waits.
    pub serial: Option<u64>,
}

/// What is in force after a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolledBack {
    /// SHA-256 of the pack in force; absent when none of its name is.
    pub digest: Option<String>,
    /// The serial of the manifest.
    pub serial: u64,
}

/// What can trigger what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Graph {
    /// The rules of all departments; those that only a rollback would bring back are marked.
    pub rules: Vec<GraphRule>,
    /// What is wrong between them.
    pub faults: Vec<String>,
}

/// A rule of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphRule {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub department: String,
    /// The pack it stands in.
    pub pack: String,
    /// The events that trigger it.
    pub cause_events: Vec<String>,
    /// The departments it trusts for them.
    pub cause_from: Vec<String>,
    /// The event it issues.
    pub effect_event: String,
    /// Only a rollback would bring it back.
    pub fallback: bool,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// SHA-256 of the header of the record whose evaluation this is.
    pub trigger: String,
    /// The rule that issued it; absent when no rule did.
    pub rule: Option<Rule>,
    /// CAP `identifier`s of its causes.
    pub causes: Vec<String>,
    /// One sentence for each rule.
    pub decisions: Vec<RuleDecision>,
}

/// What was decided about a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleDecision {
    /// The rule's id.
    pub rule: String,
    /// `actual` or `exercise:ID`.
    pub world: String,
    /// The engine's word, for example `issued` or `not-matched`.
    pub verdict: String,
    /// Why, in English.
    pub why_en: String,
    /// Why, in Traditional Chinese.
    pub why_zh_hant: String,
}

/// An alert that nobody has published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Supposed {
    /// The message in CAP 1.2 XML.
    pub cap_xml: Vec<u8>,
    /// Who would publish it; empty means the node's department.
    pub department: String,
    /// The mapping table of a foreign alert; empty means its own codes.
    pub source: String,
    /// The exercise it would belong to.
    pub exercise_id: Option<String>,
}

/// What it would lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// One sentence for each rule.
    pub decisions: Vec<RuleDecision>,
    /// What would be issued at once.
    pub effects: Vec<ProposedEffect>,
    /// What would wait for persons.
    pub pending: Vec<Pending>,
}

/// A message that would be issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProposedEffect {
    /// The rule's id.
    pub rule: String,
    /// The event.
    pub effect_event: String,
    /// The target's key.
    pub target: String,
    /// CAP `msgType`.
    pub message_type: String,
    /// The headline in English.
    pub text_en: String,
    /// The headline in Traditional Chinese.
    pub text_zh_hant: String,
}

/// What came of a decision made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    /// The same bytes.
    pub same: bool,
    /// SHA-256 of the body in the log.
    pub stored_hash: String,
    /// SHA-256 of the body decided again; absent when nothing was.
    pub replayed_hash: Option<String>,
    /// The rule that decided.
    pub rule: Option<Rule>,
    /// SHA-256 of the header of the record that led to it; absent when nothing did.
    pub trigger: Option<String>,
    /// How many records were evaluated again.
    pub records: u64,
    /// What differs; absent when nothing does.
    pub difference: Option<String>,
}

impl Client {
    /// The packs in force, in shadow and waiting. Role read, approve or administer.
    ///
    /// # Errors
    /// [`Error`] when it is refused or not answered.
    pub async fn packs(&self) -> Result<Packs, Error> {
        let (answer, _) = self
            .repeat("packs", || {
                let (mut rules, request) = (self.rules.clone(), self.request(wire::ListPacksRequest {}));
                async move { rules.list_packs(request).await }
            })
            .await?;
        let state = |pack: wire::PackState| PackState {
            pack: pack.pack,
            digest: hex::encode(&pack.digest),
            data_sets: sets(pack.data_sets),
            since: time(pack.since),
            persons: pack.persons,
            fallback_digest: digest(&pack.fallback_digest),
        };
        let shadow = |shadow: wire::ShadowState| ShadowState {
            pack: shadow.pack,
            digest: hex::encode(&shadow.digest),
            since: time(shadow.since),
            person: shadow.person,
            issued: shadow.issued,
            asked: shadow.asked,
        };
        let waiting = |waiting: wire::WaitingActivation| WaitingPack {
            id: waiting.id,
            pack: waiting.pack,
            digest: hex::encode(&waiting.digest),
            data_sets: sets(waiting.data_sets),
            person: waiting.person,
            deadline: time(waiting.deadline),
        };
        Ok(Packs {
            packs: answer.packs.into_iter().map(state).collect(),
            shadows: answer.shadows.into_iter().map(shadow).collect(),
            waiting: answer.waiting.into_iter().map(waiting).collect(),
            serial: answer.manifest.map(|manifest| manifest.serial),
            directory_problem: given(answer.directory_problem),
            configuration_problems: answer.configuration_problems,
        })
    }

    /// Gives the node a data set; its SHA-256 comes back. Role approve or administer.
    ///
    /// # Errors
    /// [`Error`] when it is refused or not answered; it is asked once, and the same bytes again do no harm.
    pub async fn put_data_set(&self, bytes: Vec<u8>) -> Result<[u8; 32], Error> {
        let pieces: Vec<wire::PutDataSetRequest> =
            bytes.chunks(CHUNK_BYTES).map(|chunk| wire::PutDataSetRequest { chunk: chunk.to_vec() }).collect();
        let mut rules = self.rules.clone();
        let request = self.request(futures::stream::iter(pieces));
        let answer = self.once("put data set", rules.put_data_set(request)).await?;
        answer.digest.try_into().map_err(|_| {
            Error::answer(vec![convert::Fault { path: "digest".into(), reason: "it is no SHA-256".into() }])
        })
    }

    /// Agrees that a pack be activated; the second person's yes puts it in force. Role approve.
    ///
    /// # Errors
    /// [`Error`] that says what stands in the way; it is asked once.
    pub async fn activate(&self, files: &PackFiles, no_way_back: bool) -> Result<Activated, Error> {
        let what = wire::activate_request::What::Files(to_wire(files));
        self.agree(wire::ActivateRequest { what: Some(what), no_way_back }).await
    }

    /// Agrees to the pack that waits under an id. Role approve.
    ///
    /// # Errors
    /// [`Error`] that says what stands in the way; it is asked once.
    pub async fn approve_pack(&self, id: &str) -> Result<Activated, Error> {
        let what = wire::activate_request::What::WaitingId(id.into());
        self.agree(wire::ActivateRequest { what: Some(what), no_way_back: false }).await
    }

    async fn agree(&self, request: wire::ActivateRequest) -> Result<Activated, Error> {
        let mut rules = self.rules.clone();
        let answer = self.once("activate", rules.activate(self.request(request))).await?;
        Ok(Activated {
            id: answer.id,
            pack: answer.pack,
            digest: hex::encode(&answer.digest),
            active: answer.active,
            persons: answer.persons,
            need: answer.need,
            warnings: answer.warnings,
            serial: Some(answer.serial).filter(|_| answer.active),
        })
    }

    /// Puts the pack before it in force again. Role approve or administer.
    ///
    /// # Errors
    /// [`Error`] that says what stands in the way; it is asked once.
    pub async fn roll_back(&self, pack: &str, reason: &str) -> Result<RolledBack, Error> {
        let request = wire::RollbackRequest { pack: pack.into(), reason: reason.into() };
        let mut rules = self.rules.clone();
        let answer = self.once("roll back", rules.rollback(self.request(request))).await?;
        Ok(RolledBack { digest: digest(&answer.digest), serial: answer.serial })
    }

    /// Evaluates a pack in shadow; its name and digest come back. Role approve or administer.
    ///
    /// # Errors
    /// [`Error`] that says what stands in the way; it is asked once.
    pub async fn shadow(&self, files: &PackFiles) -> Result<(String, String), Error> {
        let what = Some(wire::shadow_request::What::Files(to_wire(files)));
        let mut rules = self.rules.clone();
        let answer = self.once("shadow", rules.shadow(self.request(wire::ShadowRequest { what }))).await?;
        Ok((answer.pack, hex::encode(&answer.digest)))
    }

    /// Evaluates a pack in shadow no longer. Role approve or administer.
    ///
    /// # Errors
    /// [`Error`] that says what stands in the way; it is asked once.
    pub async fn end_shadow(&self, pack: &str) -> Result<(), Error> {
        let what = Some(wire::shadow_request::What::End(pack.into()));
        let mut rules = self.rules.clone();
        self.once("end shadow", rules.shadow(self.request(wire::ShadowRequest { what }))).await.map(drop)
    }

    /// The rules of the whole federation as the node has verified them. Role read, approve or administer.
    ///
    /// # Errors
    /// [`Error`] when it is refused or not answered.
    pub async fn graph(&self) -> Result<Graph, Error> {
        let (answer, _) = self
            .repeat("graph", || {
                let (mut rules, request) = (self.rules.clone(), self.request(wire::GraphRequest {}));
                async move { rules.graph(request).await }
            })
            .await?;
        let mut rules = Vec::new();
        for manifest in answer.manifests {
            for pack in manifest.packs {
                rules.extend(pack.rules.into_iter().map(|rule| GraphRule {
                    id: rule.id,
                    department: manifest.department.clone(),
                    pack: pack.pack.clone(),
                    cause_events: rule.cause_events,
                    cause_from: rule.cause_from,
                    effect_event: rule.effect_event,
                    fallback: pack.fallback,
                }));
            }
        }
        Ok(Graph { rules, faults: answer.faults })
    }

    /// Why an alert or effect led to something, or the first condition that stopped each rule. Role read, approve or
    /// administer.
    ///
    /// # Errors
    /// [`Error`] when it is refused or not answered; it is asked once, since the node goes through its whole log.
    pub async fn explain(&self, wanted: &WantedAlert, rule: &str, not: bool) -> Result<Explained, Error> {
        let (sender, identifier, sent) = parts(wanted);
        let request = wire::ExplainRequest { sender, identifier, sent, rule: rule.into(), not };
        let mut rules = self.rules.clone();
        let answer = self.once("explain", rules.explain(self.request(request))).await?;
        Ok(Explained {
            trigger: hex::encode(&answer.trigger),
            rule: answer.rule.map(Rule::from),
            causes: answer.causes,
            decisions: answer.decisions.into_iter().map(RuleDecision::from).collect(),
        })
    }

    /// What an alert would lead to; nothing is stored or sent. Role read, approve or administer.
    ///
    /// # Errors
    /// [`Error`] when it is refused, as publishing would be, or not answered.
    pub async fn what_if(&self, supposed: &Supposed) -> Result<Outcome, Error> {
        let request = wire::WhatIfRequest {
            cap_xml: supposed.cap_xml.clone(),
            department: supposed.department.clone(),
            source: supposed.source.clone(),
            exercise_id: supposed.exercise_id.clone(),
        };
        let (answer, _) = self
            .repeat("what if", || {
                let (mut rules, request) = (self.rules.clone(), self.request(request.clone()));
                async move { rules.what_if(request).await }
            })
            .await?;
        let effect = |effect: wire::ProposedEffect| ProposedEffect {
            rule: effect.rule.map(|rule| rule.id).unwrap_or_default(),
            effect_event: effect.effect_event,
            target: effect.target,
            message_type: effect.message_type,
            text_en: effect.text_en,
            text_zh_hant: effect.text_zh_hant,
        };
        Ok(Outcome {
            decisions: answer.decisions.into_iter().map(RuleDecision::from).collect(),
            effects: answer.effects.into_iter().map(effect).collect(),
            pending: answer.pending.into_iter().map(Pending::from).collect(),
        })
    }

    /// Decides again what an effect's record says was decided. Role read, approve or administer.
    ///
    /// # Errors
    /// [`Error`] when it is refused or not answered; it is asked once, since the node goes through its whole log.
    pub async fn replay(&self, wanted: &WantedAlert) -> Result<Replayed, Error> {
        let (sender, identifier, sent) = parts(wanted);
        let mut rules = self.rules.clone();
        let request = self.request(wire::ReplayRequest { sender, identifier, sent });
        let answer = self.once("replay", rules.replay(request)).await?;
        Ok(Replayed {
            same: answer.same,
            stored_hash: hex::encode(&answer.stored_hash),
            replayed_hash: digest(&answer.replayed_hash),
            rule: answer.rule.map(Rule::from),
            trigger: digest(&answer.trigger),
            records: answer.records,
            difference: given(answer.difference),
        })
    }
}

impl From<wire::RuleDecision> for RuleDecision {
    fn from(decision: wire::RuleDecision) -> Self {
        Self {
            rule: decision.rule,
            world: decision.world,
            verdict: decision.verdict,
            why_en: decision.why_en,
            why_zh_hant: decision.why_zh_hant,
        }
    }
}

fn to_wire(files: &PackFiles) -> wire::PackFiles {
    let set = |(name, digest): &(String, [u8; 32])| wire::DataSetRef { name: name.clone(), digest: digest.to_vec() };
    wire::PackFiles { text: files.text.clone(), data_sets: files.data.iter().map(set).collect() }
}

fn sets(sets: Vec<wire::DataSetRef>) -> Vec<(String, String)> {
    sets.into_iter().map(|set| (set.name, hex::encode(&set.digest))).collect()
}

fn digest(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| hex::encode(bytes))
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn time(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    convert::timestamp_from_wire(time.as_ref(), "time").ok()
}

fn parts(wanted: &WantedAlert) -> (String, String, String) {
    (wanted.sender.clone().unwrap_or_default(), wanted.identifier.clone(), wanted.sent.clone().unwrap_or_default())
}
