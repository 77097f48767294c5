//! Effects as drafts of the department's own log.

use std::sync::Arc;

use campanile_alert::{AlertId, Scope, Status};
use campanile_bus::bus::is_urgent;
use campanile_bus::record::{Audience, Body, Content, Draft};
use campanile_proto::bus::v1 as wire;
use campanile_proto::rules::v1 as rules_wire;
use campanile_rules::{Effect, Issued};

/// The draft of an effect; `trigger` is the body of the record that led to it.
pub(super) fn draft(effect: Effect, trigger: &Body) -> Draft {
    let cause = |cause: &campanile_rules::Cause| wire::Cause {
        record_hash: bytes::Bytes::copy_from_slice(&cause.hash),
        origin: cause.origin.to_string(),
        sender: cause.alert.sender().to_string(),
        identifier: cause.alert.identifier().to_string(),
        sent: cause.alert.sent().to_string(),
    };
    let root = effect.causes.first().map(|cause| &cause.alert);
    let status = effect.alert.status;
    // A Draft goes to persons only.
    let scope = if status == Status::Draft { Scope::Private } else { effect.alert.scope.unwrap_or(Scope::Public) };
    Draft {
        status,
        exercise: effect.key.world.exercise().cloned(),
        urgent: is_urgent(&effect.alert),
        audience: Audience { scope, departments: Vec::new() },
        body: Body {
            classification: effect.classification,
            causes: effect.causes.iter().map(cause).collect(),
            cause_count: u32::try_from(effect.cause_count).unwrap_or(u32::MAX),
            rule: Some(rule_to_wire(&effect.rule)),
            depth: effect.depth,
            rule_chain: effect.rules,
            traceparent: traceparent(trigger, root, &effect.alert.identifier),
            content: Content::Alert { alert: Arc::new(effect.alert), original: None, media_type: None },
        },
    }
}

/// The trace of the record that led to the effect, with a span of the effect's own; a tick has none, so the trace of
/// the root cause is made again from its identity.
fn traceparent(trigger: &Body, root: Option<&AlertId>, identifier: &str) -> String {
    let span = campanile_log::Hash::of(identifier.as_bytes()).to_string();
    let span = span.get(..16).unwrap_or_default();
    let trace = match trigger.traceparent.split('-').nth(1) {
        Some(trace) if trace.len() == 32 => trace.to_owned(),
        _ => {
            let root = root.map(ToString::to_string).unwrap_or_default();
            campanile_log::Hash::of(root.as_bytes()).to_string().chars().take(32).collect()
        }
    };
    format!("00-{trace}-{span}-01")
}

/// A rule reference on the wire.
pub fn rule_to_wire(rule: &campanile_rules::RuleRef) -> rules_wire::RuleRef {
    rules_wire::RuleRef {
        id: rule.id.clone(),
        pack: rule.pack.clone(),
        pack_digest: rule.digest.to_vec(),
        data_sets: rule
            .data
            .iter()
            .map(|(name, digest)| rules_wire::DataSetRef { name: name.clone(), digest: digest.to_vec() })
            .collect(),
    }
}

/// The headline of a message in a language; empty when it has none.
pub fn headline(alert: &campanile_alert::Alert, language: &str) -> String {
    let info = alert.infos.iter().find(|info| info.language.as_deref() == Some(language));
    info.and_then(|info| info.headline.clone()).unwrap_or_default()
}

/// What a record of ours says of the rule behind it; nothing when a person or system published it.
pub(super) fn issued(body: &Body) -> Option<Issued> {
    let cause = |cause: &wire::Cause| {
        Some(campanile_rules::Cause {
            alert: AlertId::new(cause.sender.as_str(), cause.identifier.as_str(), cause.sent.as_str()),
            origin: cause.origin.parse().ok()?,
            hash: cause.record_hash.as_ref().try_into().ok()?,
        })
    };
    let rule = body.rule.as_ref()?.id.clone();
    Some(Issued { rule, causes: body.causes.iter().filter_map(cause).collect() })
}
