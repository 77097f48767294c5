//! The rules alone, without nodes: what an alert costs beside many rules, and how long ten years of warnings take.
//!
//! Every department's engine sees every alert that reaches it, so what counts is that the cost grows with the rules that
//! match and not with those that are there, and that a site is found by an index.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use campanile_alert::classify::classify;
use campanile_alert::{Alert, Clock as _, Timestamp, World, vocabulary};
use campanile_discovery::SystemClock;
use campanile_rules::history::{self, Change};
use campanile_rules::{DataSet, DataSets, Engine, Format, Input, InputKind, Options, Pack};
use serde_json::json;

use super::Args;
use super::fires::Fires;
use super::stats::Sample;

/// How many alerts are measured against one set of rules.
const ALERTS: u32 = 50;
/// Rules of one pack: as many as a pack may have.
const PACK_RULES: usize = 1_000;
/// Changes of warnings in ten years, more than the Observatory has made.
const CHANGES: usize = 20_000;

const WEATHER: &str = include_str!("../../../rules/packs/edb-weather.rules.yaml");
const FREE_DAYS: &str = include_str!("../../../rules/packs/hk-free-days-2026.csv");

const HEAD: &str = r#"owner: edb
vocabulary: alert-v1
data:
  edb.schools: {file: schools.json, key: {field: "no", first: 10}, name: {en: en, zh-Hant: zh}, position: {lat: lat, lon: lon}}
texts:
  t:
    zh-Hant: {headline: "{target.name}停課", instruction: 請勿上學。, retract: "{target.name}復課"}
    en: {headline: "{target.name} is closed", instruction: Do not go to school., retract: "{target.name} is open"}
rules:
"#;

/// What one rule of the bench waits for.
struct Wanted {
    event: &'static str,
    from: &'static str,
    metres: usize,
}

/// A rule that closes schools beside a fire.
const FIRE: Wanted = Wanted { event: "fire", from: "fsd", metres: 500 };
/// A rule that no fire concerns.
const OTHER: Wanted = Wanted { event: "flood", from: "dsd", metres: 500 };

/// Measures; the figures go under `rules`.
///
/// # Errors
/// When the packs of the bench are refused, or an alert does not lead to what it must.
pub(super) fn measure(args: &Args) -> Result<serde_json::Value> {
    let mut fires = Fires::new(args, SystemClock.now())?;
    let figures = |sample: &Sample| json!({"p50_us": sample.p50_us().round(), "p99_us": sample.p99_us().round()});

    // Each has a distance of its own, so that each asks the index: an alert near no school.
    let each: Vec<Wanted> = (1..=PACK_RULES).map(|metres| Wanted { metres, ..FIRE }).collect();
    let joins = alerts(&mut engine(&each, &fires.schools)?, fires.quiet_many(ALERTS)?, 0)?;

    let mut there = serde_json::Map::new();
    for rules in [100, 1_000, 10_000] {
        let wanted: Vec<Wanted> = (0..rules).map(|index| if index < 10 { FIRE } else { OTHER }).collect();
        let sample = alerts(&mut engine(&wanted, &fires.schools)?, fires.near_schools(ALERTS)?, 10)?;
        there.insert(rules.to_string(), figures(&sample));
    }
    let mut matching = serde_json::Map::new();
    for matches in [1, 10, 100] {
        let wanted: Vec<Wanted> = (0..1_000).map(|index| if index < matches { FIRE } else { OTHER }).collect();
        let sample = alerts(&mut engine(&wanted, &fires.schools)?, fires.near_schools(ALERTS)?, matches)?;
        matching.insert(matches.to_string(), figures(&sample));
    }
    let (backtest_s, messages) = backtest()?;
    Ok(json!({
        "joins_of_1000_rules": figures(&joins),
        "ten_match_of_rules": there,
        "matching_of_1000_rules": matching,
        "backtest_changes": CHANGES,
        "backtest_messages": messages,
        "backtest_s": backtest_s,
    }))
}

fn engine(wanted: &[Wanted], schools: &[u8]) -> Result<Engine> {
    let (mut packs, mut data) = (Vec::new(), DataSets::new());
    for (number, chunk) in wanted.chunks(PACK_RULES).enumerate() {
        let mut text = format!("pack: bench-{number}\n{HEAD}");
        for (index, Wanted { event, from, metres }) in chunk.iter().enumerate() {
            // Writing into a String cannot fail.
            let _written = write!(
                text,
                "- rule: edb.r{}\n  title: {{en: R, zh-Hant: 規}}\n  source: [{{text: bench}}]\n  \
                 cause: {{event: {event}, from: [{from}]}}\n  pick: {{targets: edb.schools, within: {metres}m}}\n  \
                 then: {{issue: class-suspension, per: target, severity: Minor, area: target.site, text: t}}\n  \
                 approve: {{need: 0, reason: bench}}\n  until: {{cause: ends, linger: 1h, then: cancel, max: 24h}}\n",
                number * PACK_RULES + index
            );
        }
        let (pack, _) = Pack::parse(&text).context("a pack of the bench is refused")?;
        for (name, reference) in &pack.data {
            if data.contains_key(name) {
                continue;
            }
            let set = DataSet::parse(name, Format::Json, schools, &reference.rows).context("the schools file")?;
            data.insert(name.clone(), set);
        }
        packs.push(pack);
    }
    Ok(Engine::new("edb".parse()?, packs, data, Options { sender: "edb@bench.test".into() })?)
}

/// Times each alert through the engine, and checks that it leads to so many effects.
fn alerts(engine: &mut Engine, alerts: Vec<Alert>, effects: usize) -> Result<Sample> {
    let mut latencies = Vec::new();
    let all = Instant::now();
    for (number, alert) in alerts.iter().enumerate() {
        let classification = classify(alert, vocabulary::v1());
        let time = alert.sent.instant();
        let input = Input {
            hash: campanile_log::Hash::of(&number.to_be_bytes()).0,
            origin: "fsd/node-1".parse()?,
            department: "fsd".parse()?,
            world: World::Actual,
            status: alert.status,
            time,
            received: time,
            previous_time: None,
            depth: 0,
            rules: Vec::new(),
            author: None,
            kind: InputKind::Alert { alert, classification: &classification },
        };
        let begun = Instant::now();
        let outcome = engine.apply(&input);
        latencies.push(begun.elapsed());
        ensure!(outcome.effects.len() == effects, "{} effects instead of {effects}", outcome.effects.len());
    }
    Ok(Sample::new(latencies, all.elapsed()))
}

/// Plays ten years of rainstorm warnings through the shipped pack; gives seconds and messages.
fn backtest() -> Result<(f64, usize)> {
    let (pack, _) = Pack::parse(WEATHER)?;
    let mut sets = DataSets::new();
    for (name, reference) in &pack.data {
        sets.insert(name.clone(), DataSet::parse(name, Format::Csv, FREE_DAYS.as_bytes(), &reference.rows)?);
    }
    let start: Timestamp = "2015-01-01T00:00:00+08:00".parse()?;
    let changes: Vec<Change> = (0..CHANGES)
        .map(|number| {
            let issues = number.is_multiple_of(2);
            let code = ["WRAINA", "WRAINR", "WRAINB"].get(number / 2 % 3).filter(|_| issues);
            let minutes = i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(263);
            Change {
                statement: "WRAIN".into(),
                code: code.map(|code| (*code).into()),
                action_code: if issues { "ISSUE" } else { "CANCEL" }.into(),
                issue_time: start + jiff::SignedDuration::from_mins(minutes),
                from: None,
                event: None,
                level: None,
                point: None,
            }
        })
        .collect();
    let data = BTreeMap::from([(pack.owner.clone(), sets)]);
    let begun = Instant::now();
    let played = history::backtest(&[pack], &data, &changes).map_err(anyhow::Error::msg)?;
    Ok((begun.elapsed().as_secs_f64(), played.sent.len()))
}
