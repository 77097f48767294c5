//! Bad scenarios: each is refused with its place and a remedy, and nothing is played.

use campanile_drill::Scenario;

use crate::shipped;

/// The harbour-view drill with one passage put in another's place.
fn altered(from: &str, to: &str) -> String {
    let text = String::from_utf8(shipped::read("harbour-view.drill.yaml").unwrap()).unwrap();
    assert!(text.contains(from), "{from} is not in the drill any more");
    text.replacen(from, to, 1)
}

/// What is found, as people see it.
fn findings(text: &str) -> String {
    let refusal = Scenario::parse(text).expect_err("the scenario should be refused");
    refusal.0.iter().map(|found| found.render("d.yaml", text)).collect()
}

#[track_caller]
fn refused(from: &str, to: &str, says: &[&str]) {
    let found = findings(&altered(from, to));
    for part in says {
        assert!(found.contains(part), "{part:?} is not in\n{found}");
    }
    assert!(found.contains("^"), "there is no caret in\n{found}");
}

#[test]
fn an_unknown_field_is_named_with_the_nearest_one() {
    refused(
        "  seed: 20261013",
        "  sede: 20261013",
        &["error[D001]: there is no field `sede` here", "did you mean `seed`?"],
    );
}

#[test]
fn an_impossible_time_is_refused_where_it_stands() {
    refused("{at: T+4m,  id: i2", "{at: T-4m,  id: i2", &["D002", "\"T-4m\" is not a time of the drill", "T+0m"]);
    refused("{at: T+9m,  id: i3", "{at: T+1m,  id: i3", &["error[D011]: it comes at T+1m, before i2 at T+4m"]);
    refused("{at: T+22m, for: 30s", "{at: T+22m, for: -30s", &["error[D011]: a fault lasts longer than nothing"]);
    refused("{at: T+25m, repeat", "{at: T+5m, repeat", &["i3 comes at T+9m, so nothing can be repeated at T+5m"]);
    let end =
        "  seed: 20261013                              # all jitter and ids derive from it: the same bytes every run";
    refused(end, "  end: T+50m", &["the inject comes after the drill has ended at T+50m", "T+3h5m is after the end"]);
}

#[test]
fn an_objective_that_nobody_judges_is_an_error() {
    let more = "objectives:\n  O9: {text: Nobody looks at this}";
    let text = altered("objectives:", more);
    let found = findings(&text);
    assert!(found.contains("error[D012]: nobody judges objective O9: no expectation names it"), "{found}");
    assert!(found.contains("O9: {text"), "the line is shown: {found}");
    refused("objective: O3, node: edb, stale", "objective: O4, node: edb, stale", &["there is no objective `O4`"]);
}

#[test]
fn a_player_a_node_an_observer_or_a_controller_who_does_not_exist_is_an_error() {
    refused(
        "person: edb.duty-officer, acks",
        "person: edb.duty-oficer, acks",
        &["error[D014]: there is no player `edb.duty-oficer`", "did you mean `edb.duty-officer`?"],
    );
    refused("from: fsd, updates: i2", "from: fds, updates: i2", &["error[D013]: there is no node `fds`"]);
    refused("judged-by: obs.edb", "judged-by: obs.had", &["there is no observer `obs.had`"]);
    refused("by: [ctl.lead], within: 5s", "by: [ctl.boss], within: 5s", &["there is no controller `ctl.boss`"]);
    refused("cut: [edb], from: [hko", "cut: [edc], from: [hko", &["there is no node `edc`", "did you mean `edb`?"]);
}

#[test]
fn an_inject_that_names_another_one_that_is_not_there_is_an_error() {
    refused("cancels: i2", "cancels: i22", &["error[D015]: there is no inject `i22`", "did you mean `i2`?"]);
    refused("duplicate: i3", "duplicate: j9", &["there is no inject `j9`"]);
    refused("drop-inject: i3", "drop-inject: i33", &["there is no inject `i33`"]);
    refused("id: i5, via: person", "id: i4, via: person", &["error[D004]: two injects are named i4"]);
}

#[test]
fn a_word_that_no_vocabulary_has_is_an_error() {
    refused("event: fire, level: 1", "event: fyre, level: 1", &["there is no event `fyre`", "did you mean `fire`?"]);
    refused("signal: WRAINR", "signal: WRAINX", &["error[D017]: there is no signal `WRAINX`"]);
    refused("certainty: Observed", "certainty: Sure", &["there is no certainty Sure"]);
}

#[test]
fn an_expectation_has_one_moment_one_claim_and_an_objective() {
    refused(
        "{by: T+1m,  objective: O1, node: edb, live",
        "{objective: O1, node: edb, live",
        &["an expectation has one moment"],
    );
    refused("- {by: end,  objective: O3, same", "- {by: end, objective: O3, frozen: true, same", &["one claim, not 2"]);
    refused("- {by: T+10m, objective: O3, ", "- {by: T+10m, ", &["the expectation belongs to no objective"]);
}

#[test]
fn only_an_exercise_is_played_and_its_guards_are_those_of_a_drill() {
    refused("status: Exercise, exercise-id", "status: Actual, exercise-id", &["error[D005]", "write Exercise"]);
    refused("bound-to: sink", "bound-to: sms", &["`sms` is not what a drill may be guarded by", "write sink"]);
    refused("exercise-key: HV26", "exercise-key: HV25", &["write HV26"]);
}

#[test]
fn a_variant_that_changes_or_fails_nothing_is_an_error() {
    refused("change: {drop-inject: i3}", "change: {}", &["error[D018]: the variant changes nothing"]);
    refused("verdict: {fails: [O1, O3]}", "verdict: {fails: []}", &["a variant that nothing fails proves nothing"]);
    refused("verdict: {fails: [O1, O3]}", "verdict: {fails: [O7]}", &["there is no objective `O7`"]);
}

#[test]
fn a_rule_that_no_pack_has_and_a_pack_that_is_not_there_are_errors() {
    let text = altered("pending: {rule: edb.school-closure.fire", "pending: {rule: edb.school-closure.fyre");
    let (scenario, _) = Scenario::parse(&text).unwrap();
    let found = scenario.against(&text, &shipped::bench(&scenario));
    let shown: String = found.iter().map(|found| found.render("d.yaml", &text)).collect();
    assert!(shown.contains("error[D031]: there is no rule `edb.school-closure.fyre`"), "{shown}");
    assert!(shown.contains("did you mean `edb.school-closure.fire`?"), "{shown}");
    let (scenario, _) = Scenario::parse(&altered("edb-fire.rules.yaml", "edb-fyre.rules.yaml")).unwrap();
    let wrong = campanile_drill::Bench::load(&scenario.cast.nodes, &shipped::read).unwrap_err();
    assert!(wrong[0].contains("there is no pack ../../services/rules/packs/edb-fyre.rules.yaml"), "{wrong:?}");
}
