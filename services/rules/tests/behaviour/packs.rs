//! The shipped packs are accepted, and what is wrong with a pack is said with its place and a remedy.

use campanile_rules::{DataSet, Format, Gravity, Pack, check_federation, lint};

const FIRE: &str = include_str!("../../packs/edb-fire.rules.yaml");
const SHELTER: &str = include_str!("../../packs/had-shelter.rules.yaml");
const VENUE: &str = include_str!("../../packs/lcsd-venue.rules.yaml");

fn refused(from: &str, to: &str) -> Vec<(&'static str, u64, String)> {
    assert!(FIRE.contains(from), "{from:?} is not in the pack");
    let text = FIRE.replacen(from, to, 1);
    let refusal = Pack::parse(&text).expect_err(to);
    for found in &refusal.0 {
        assert!(found.render("p.yaml", &text).contains(found.code));
    }
    refusal
        .0
        .into_iter()
        .map(|found| (found.code, found.line, found.message + " | " + &found.help.unwrap_or_default()))
        .collect()
}

#[test]
fn the_shipped_packs_are_accepted_without_a_warning_and_end_together() {
    let packs = [FIRE, SHELTER, VENUE].map(|text| {
        let (pack, warnings) = Pack::parse(text).unwrap_or_else(|refusal| panic!("{refusal}"));
        assert_eq!(warnings, []);
        pack
    });
    let manifests = packs.each_ref().map(Pack::manifest);
    assert_eq!(check_federation(&manifests), []);
    for pack in &packs {
        for (name, data) in &pack.data {
            let path = format!("{}/packs/{}", env!("CARGO_MANIFEST_DIR"), data.file);
            let set = DataSet::parse(name, Format::of_file(&path).unwrap(), &std::fs::read(path).unwrap(), &data.rows);
            let set = set.unwrap();
            for site in set.sites() {
                assert!(!site.name("en").is_empty() && site.name("zh-Hant") != site.key, "{}", site.key);
                for point in &site.points {
                    assert!((22.15..22.56).contains(&point.lat) && (113.83..114.44).contains(&point.lon));
                }
            }
        }
    }
}

#[test]
fn layout_and_comments_do_not_change_a_digest_and_words_do() {
    let (pack, _) = Pack::parse(FIRE).unwrap();
    let (same, _) = Pack::parse(&format!("# another comment\n{}", FIRE.replace("hold: 0s", "hold:   0s"))).unwrap();
    assert_eq!((pack.digest, pack.rules[0].digest), (same.digest, same.rules[0].digest));
    for (from, to) in
        [("min_alarm: 3", "min_alarm: 4"), ("恢復上課", "復課"), ("need: 2, by: [edb.duty", "need: 3, by: [edb.duty")]
    {
        let (other, _) = Pack::parse(&FIRE.replace(from, to)).unwrap();
        assert_ne!(pack.digest, other.digest, "{to}");
        assert_ne!(pack.rules[0].digest, other.rules[0].digest, "{to}");
    }
}

#[test]
fn an_unknown_field_is_an_error_with_its_place_and_a_suggestion() {
    let found = refused("  hold: 0s", "  hold: 0s\n  surpress: {}");
    assert_eq!(found[0].0, "E001");
    assert_eq!(found[0].1, 1 + FIRE.lines().position(|line| line == "  hold: 0s").unwrap() as u64 + 1);
    assert!(refused("  hold: 0s", "  holt: 0s")[0].2.contains("did you mean `hold`?"));
}

#[test]
fn a_field_given_twice_is_an_error() {
    assert_eq!(refused("  hold: 0s", "  hold: 0s\n  hold: 5m")[0].0, "E005");
}

#[test]
fn each_static_check_finds_its_fault() {
    for (from, to, code, says) in [
        ("event: fire,", "event: fyre,", "E002", "did you mean `fire`?"),
        ("scale: fire-alarm", "scale: rainstorm", "E002", "is not the scale"),
        ("at-least: params.min_alarm", "at-least: params.min_alrm", "E004", "min_alarm"),
        ("at-least: params.min_alarm", "at-least: 7", "E002", "no level 7"),
        (
            "certainty: [Observed], level: {scale",
            "certainty: [Obserfed], level: {scale",
            "E002",
            "did you mean `Observed`?",
        ),
        (
            "level: {scale: fire-alarm, at-least: params.min_alarm}",
            "signal: [WRAINX]",
            "E002",
            "did you mean `WRAINA`?",
        ),
        ("issue: class-suspension", "issue: class-suspensoin", "E002", "did you mean `class-suspension`?"),
        ("issue: class-suspension", "issue: shelter-open", "E010", "belongs to had"),
        ("issue: class-suspension", "issue: fire", "E010", "not something that rules issue"),
        ("owner: edb", "owner: had", "E012", "does not belong"),
        ("rule: edb.school", "rule: had.school", "E012", "does not belong"),
        ("targets: edb.schools", "targets: edb.school", "E004", "edb.schools"),
        ("within: 500m", "within: 500", "E003", "500m or 1.5km"),
        ("hold: 0s", "hold: soon", "E003", "length of time"),
        ("text: edb.fire-closure", "text: edb.fire", "E004", "edb.fire-closure"),
        (", max: 24h", "", "E070", "has no end"),
        (", max: 24h", ", max: 90h", "E070", "at most 48 h"),
        ("if-silent: escalate", "if-silent: issue", "E071", "because"),
        (", retract: \"{target.name} is open again.\"", "", "E091", "retract in en"),
        ("    en: {", "    zh-Hant-x: {", "E001", "zh-Hant"),
        ("{target.name} closed", "{target.nam} closed", "E004", "{target.nam}"),
        ("headline: \"{target.name} closed", "headline: \"School closed", "E091", "does not say where"),
        ("area: target.site", "area: hk-all", "E003", "target.site"),
        ("severity: Severe", "severity: Bad", "E002", "severity"),
        ("alert-v1", "alert-v2", "E002", "alert-v1"),
        ("end: all-causes-ended", "end: first-cause-ended", "E003", "all-causes-ended"),
    ] {
        let found = refused(from, to);
        assert!(found.iter().any(|f| f.0 == code && f.2.contains(says) && f.1 > 0), "{to}: {found:?}");
    }
}

#[test]
fn a_rule_without_source_approval_or_end_is_refused() {
    let without = |start: &str| -> Vec<&'static str> {
        let mut skipping = false;
        let lines = FIRE.lines().filter(|line| {
            if line.starts_with("  ") && !line.starts_with("   ") {
                skipping = line.trim_start().starts_with(start);
            }
            !skipping
        });
        let text: Vec<&str> = lines.collect();
        Pack::parse(&text.join("\n")).expect_err(start).0.iter().map(|found| found.code).collect()
    };
    assert_eq!(without("source:"), ["E060"]);
    assert_eq!(without("until:"), ["E070"]);
    assert!(without("approve:").contains(&"E072"));
}

#[test]
fn an_issuer_that_may_not_issue_the_cause_is_read_with_a_warning_and_refused_by_lint() {
    let (_, warnings) = Pack::parse(&FIRE.replacen("from: [fsd]", "from: [fsd, lcsd]", 1)).unwrap();
    assert!(matches!(&warnings[..], [w] if w.code == "E011" && w.gravity == Gravity::Warning), "{warnings:?}");
    assert!(lint::strictly(warnings).iter().all(|one| one.gravity == Gravity::Error));
}
