use campanile_alert::DepartmentId;
use campanile_drill::transcript::{Asked, Record};
use ratatui::backend::TestBackend;

use ratatui::Terminal;

use super::*;

const SCENARIO: &str = r#"
drill: board
title: {en: A fire, zh-Hant: 火警}
objectives: {O1: {text: all of it}}
mode: {status: Exercise, exercise-id: HV26, marker: {en: EXERCISE, zh-Hant: 演習}}
clock: {start: 2026-10-13T10:00+08:00, seed: 7, end: T+100s}
cast: {nodes: {fsd: script, edb: {engine: [edb.yaml]}}}
injects: [{at: T+10s, id: i1, via: alert, from: fsd, title: {en: Smoke, zh-Hant: 濃煙}, alert: {event: fire, level: 3}}]
expect: [{id: once, by: end, objective: O1, count: {effect: fire, is: 1}}]
"#;

fn event(seq: u64, at_ms: i64, node: Option<&str>, what: What) -> Line {
    let node = node.map(|node| DepartmentId::try_new(node).unwrap());
    Line::Written(Event { seq, at: Offset::from_ms(at_ms), node, what }.line())
}

/// What a terminal of 120 columns and 12 lines shows.
fn seen(lines: &[Line]) -> Vec<String> {
    let (scenario, _) = Scenario::parse(SCENARIO).unwrap();
    let mut board = Board::new(&scenario);
    for line in lines {
        board.take(line);
    }
    let mut terminal = Terminal::new(TestBackend::new(120, 12)).unwrap();
    terminal.draw(|frame| board.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y: u16| (0..120).filter_map(|x| buffer.cell((x, y))).map(|cell| cell.symbol()).collect::<String>();
    (0..12).map(|y| row(y).trim_end().to_owned()).collect()
}

fn progress(at_ms: i64) -> Line {
    Line::Progress { now: Offset::from_ms(at_ms), end: Offset::from_ms(100_000), met: 1, failed: 2, open: 3 }
}

/// In which column of a row a sign stands, as a share of the row in percent.
fn place(rows: &[String], name: &str, sign: char) -> Option<usize> {
    let row = rows.iter().find(|row| row.starts_with(name)).unwrap();
    row.chars().position(|c| c == sign).map(|column| (column - 6) * 100 / (120 - 6))
}

#[test]
fn every_sign_stands_in_its_row_and_at_its_time() {
    let fire = Record { id: "a,b,c".into(), from: "fsd".into(), event: Some("fire".into()), ..Record::default() };
    let asked = Asked { rule: "edb.fire".into(), to: vec!["edb.duty-officer".into()], ..Asked::default() };
    let rows = seen(&[
        Line::Written(b"{\"drill\":\"board\"}\n".to_vec()),
        progress(0),
        event(1, 10_000, None, What::Inject { id: "i1".into() }),
        event(2, 10_000, Some("fsd"), What::Record(Box::new(fire))),
        event(3, 25_000, Some("edb"), What::Seen { id: "a,b,c".into() }),
        event(4, 50_000, Some("edb"), What::Asked(Box::new(asked))),
        event(5, 70_000, None, What::FaultBegan { fault: 1, what: "edb cut off".into() }),
        progress(80_000),
    ]);
    assert!(rows[0].starts_with("EXERCISE HV26  A fire  running"), "{rows:#?}");
    assert!(rows[1].starts_with("T+1m20s of T+1m40s: 1 met, 2 failed, 3 open"), "{rows:#?}");
    assert_eq!(place(&rows, "fsd", '●'), Some(9), "{rows:#?}");
    assert_eq!(place(&rows, "edb", '·'), Some(24));
    assert_eq!(place(&rows, "edb", '?'), Some(50));
    assert_eq!(place(&rows, "drill", '─'), Some(69), "the fault lasts");
    assert_eq!(place(&rows, "fsd", '│'), Some(79), "now");
    let said = rows.join("\n");
    for line in ["T+10s drill inject i1: Smoke / ", "T+10s fsd record fire", "T+50s edb asked edb.fire → "] {
        assert!(said.contains(line), "{line:?} is not in {rows:#?}");
    }
}

#[test]
fn of_several_signs_in_one_place_the_most_pressing_is_seen() {
    let refused = What::Refused { inject: None, why: "no".into() };
    let rows = seen(&[event(1, 50_000, Some("edb"), refused), event(2, 50_000, Some("edb"), What::Up)]);
    assert_eq!(place(&rows, "edb", '!'), Some(50), "{rows:#?}");
    assert_eq!(place(&rows, "edb", '·'), None);
}

#[test]
fn a_stop_fills_lines_of_its_own_in_both_languages() {
    let rows = seen(&[progress(0), Line::Frozen("REAL ALERT of fsd\u{1b}[2J".into())]);
    assert!(rows[0].ends_with("STOPPED"), "{rows:#?}");
    assert_eq!(rows[1], "REAL ALERT of fsd\u{fffd}[2J");
    assert_eq!(rows[2], "THE EXERCISE HAS STOPPED. THIS IS NOT A DRILL.");
    assert!(rows[3].replace(' ', "").starts_with("演習已停止"), "{rows:#?}");
}

#[test]
fn a_small_terminal_and_no_event_draw_without_harm() {
    let (scenario, _) = Scenario::parse(SCENARIO).unwrap();
    let mut board = Board::new(&scenario);
    (0..500).for_each(|n| _ = board.take(&Line::Said(format!("line {n}"))));
    assert_eq!(board.latest.len(), LATEST_MAX);
    for (columns, lines) in [(1, 1), (5, 3), (14, 6), (300, 60)] {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
        terminal.draw(|frame| board.draw(frame)).unwrap();
    }
}
