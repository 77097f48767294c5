//! AdminService.

use campanile_proto::convert::timestamp_to_wire;
use campanile_proto::rules::v1::Pause;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_to_the_node_that_make_no_sense_are_refused_for_their_reason_and_nothing_is_stored() {
    let node = Node::start(&[]).await;
    let (held, mut judge) = (node.held().await, Judge::default());
    let mut admin = node.admin(OFFICER);
    let now = crate::setting::now();
    let past = timestamp_to_wire(now - jiff::SignedDuration::from_hours(1));
    let later = timestamp_to_wire(now + jiff::SignedDuration::from_hours(1));
    let (mut no_nanos, mut no_year) = (later, later);
    no_nanos.nanos = -5;
    no_year.seconds = i64::MAX;

    judge.field("pause", "no pause", admin.pause_rule(wire::PauseRuleRequest::default())).await;
    let pause = Pause { rule: fires::RULE.into(), paused: true, reason: "a drill".into(), ..Pause::default() };
    let huge = "\u{1F525}".repeat(12_000);
    for rule in ["", "no.such.rule", "../../etc", &huge] {
        let request = wire::PauseRuleRequest { pause: Some(Pause { rule: rule.into(), ..pause.clone() }) };
        judge.refused(format!("pause {rule:.20}"), admin.pause_rule(request), Code::NotFound, "NO_RULE").await;
        let request = wire::SignEnvelopeRequest { rule: rule.into(), valid_from: None, valid_to: Some(later) };
        judge.refused(format!("sign {rule:.20}"), admin.sign_envelope(request), Code::NotFound, "NO_RULE").await;
    }
    for reason in ["", " \t\n", &"x".repeat(1_001)] {
        let request = wire::PauseRuleRequest { pause: Some(Pause { reason: reason.into(), ..pause.clone() }) };
        judge.field("reason", format!("paused for {} bytes", reason.len()), admin.pause_rule(request)).await;
    }
    for (case, until) in [("past", past), ("no nanos", no_nanos), ("no year", no_year)] {
        let request = wire::PauseRuleRequest { pause: Some(Pause { until: Some(until), ..pause.clone() }) };
        judge.field("until", format!("until {case}"), admin.pause_rule(request)).await;
        let request = wire::SignEnvelopeRequest { rule: fires::RULE.into(), valid_from: None, valid_to: Some(until) };
        judge.field("valid_to", format!("valid to {case}"), admin.sign_envelope(request)).await;
    }
    judge.field("valid_to", "an empty envelope", admin.sign_envelope(wire::SignEnvelopeRequest::default())).await;
    for (case, valid_from) in [("its own end", later), ("no nanos", no_nanos), ("no year", no_year)] {
        let request =
            wire::SignEnvelopeRequest { rule: fires::RULE.into(), valid_from: Some(valid_from), valid_to: Some(later) };
        judge.field("valid_from", format!("valid from {case}"), admin.sign_envelope(request)).await;
    }
    for origin in ["edb", "!!!/node-1", "edb/node-1/x", &huge] {
        let request = wire::ReadLogRequest { origin: origin.into(), lane: 0, ..wire::ReadLogRequest::default() };
        judge.field("origin", format!("the log of {origin:.20}"), admin.read_log(request)).await;
    }
    for lane in [99, -1] {
        let request = wire::ReadLogRequest { lane, ..wire::ReadLogRequest::default() };
        judge.field("lane", format!("lane {lane}"), admin.read_log(request)).await;
    }
    let request = wire::ReadLogRequest { origin: "x".repeat(3 << 20), lane: 0, ..wire::ReadLogRequest::default() };
    judge.refused("3 MiB", admin.read_log(request), Code::OutOfRange, "").await;
    judge.end();

    let rules = admin.list_rules(wire::ListRulesRequest {}).await.unwrap().into_inner().rules;
    assert!(!rules.is_empty() && rules.iter().all(|rule| !rule.paused), "a refused pause stopped a rule: {rules:?}");
    node.is_unharmed(held).await;
    // What makes sense is done.
    admin.pause_rule(wire::PauseRuleRequest { pause: Some(pause) }).await.unwrap();
    let rules = admin.list_rules(wire::ListRulesRequest {}).await.unwrap().into_inner().rules;
    assert!(rules.iter().any(|rule| rule.paused && rule.pause_reason == "a drill"), "{rules:?}");
}
