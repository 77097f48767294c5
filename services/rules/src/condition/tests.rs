use proptest::prelude::*;

use super::*;

fn parse(source: &str) -> Result<Condition, Refused> {
    Condition::parse(source, &["least".to_string()].into())
}

fn facts() -> Facts {
    let map = |pairs: Vec<(&str, Datum)>| Datum::Map(pairs.into_iter().map(|(k, v)| (k.to_string(), v)).collect());
    [
        (
            "cause",
            map(vec![
                ("event", Datum::text("fire")),
                ("issuer", Datum::text("fsd")),
                ("signal", Datum::text("")),
                ("level", Datum::Int(4)),
                ("depth", Datum::Int(0)),
                ("severity", Datum::text("Severe")),
                ("urgency", Datum::text("Immediate")),
                ("certainty", Datum::text("Observed")),
                ("sites", Datum::texts(["a", "b"])),
                ("places", Datum::texts(["Harbour View"])),
            ]),
        ),
        (
            "target",
            map(vec![
                ("key", Datum::text("111")),
                ("name", Datum::text("School A")),
                ("sessions_today", Datum::Int(2)),
                ("columns", map(vec![("level", Datum::texts(["PRIMARY"]))])),
            ]),
        ),
        ("session", map(vec![("name", Datum::text("am")), ("phase", Datum::text("in"))])),
        (
            "clock",
            map(vec![
                ("hour", Datum::Int(6)),
                ("minute", Datum::Int(0)),
                ("weekday", Datum::Int(1)),
                ("date", Datum::text("2026-09-14")),
                ("free_day", Datum::Bool(false)),
            ]),
        ),
        ("params", map(vec![("least", Datum::Int(3))])),
    ]
    .into()
}

#[test]
fn a_condition_holds_or_names_its_first_part_that_does_not() {
    let decide = |source: &str| parse(source).unwrap_or_else(|e| panic!("{source}: {e:?}")).decide(&facts()).unwrap();
    for source in [
        "target.sessions_today > 0",
        "cause.level >= params.least && 'PRIMARY' in target.columns['level']",
        "cause.sites.exists(s, s == 'b') && !clock.free_day",
        "cause.sites.all(s, size(s) == 1) && size(cause.sites.filter(s, s != 'a')) == 1",
        "cause.places.exists(p, p.contains('View')) && (cause.level > 3 ? true : false)",
        "cause.sites.map(s, s + 'x') == ['ax', 'bx']",
        "cause.sites.exists_one(s, s == 'a')",
    ] {
        assert_eq!(decide(source), Answer::Holds, "{source}");
    }
    let stops = |source: &str| match decide(source) {
        Answer::Stops(part) => part,
        Answer::Holds => panic!("{source} holds"),
    };
    assert_eq!(stops("cause.level >= 3 && target.sessions_today > 5"), "target.sessions_today > 5");
    assert_eq!(stops("cause.sites.exists(s, s == 'z')"), "cause.sites.exists(s, s == 'z')");
    assert_eq!(stops("'SECONDARY' in target.columns['level']"), "'SECONDARY' in target.columns['level']");
}

#[test]
fn every_mistake_is_found_before_it_runs_with_its_place_and_a_remedy() {
    for (source, code, column, says) in [
        ("cause.evnt == 'fire'", "E001", 6, "did you mean `event`?"),
        ("cuase.level > 1", "E001", 1, "did you mean `cause`?"),
        ("cause.level >= '3'", "E003", 13, "take the quotes off"),
        ("cause.sites.exists(s, s == 4)", "E003", 25, "a text and a number"),
        ("wthin(cause, 300)", "E003", 0, ""),
        ("starsWith(cause.event)", "E006", 10, "did you mean `startsWith`?"),
        ("cause.level", "E003", 6, "must be yes/no"),
        ("cause.level && true", "E003", 13, "join yes/no"),
        ("target.columns[cause.event] == []", "E003", 0, "target.columns['level']"),
        ("cause.level / 2 == 1", "E003", 13, "multiply"),
        ("params.leest > 1", "E001", 7, "did you mean `least`?"),
        ("cause.level >=", "E080", 0, "does not parse"),
        ("has(cause.level)", "E003", 0, "`has` is not used here"),
        ("1.5 > 1.0", "E003", 0, "whole numbers"),
        ("cause.sites.exists(cause, true)", "E003", 0, "already has a meaning"),
    ] {
        let found = parse(source).expect_err(source);
        let text = format!("{} | {}", found.message, found.help.clone().unwrap_or_default());
        if source.starts_with("wthin") {
            assert!(found.message.contains("wthin"), "{text}");
            continue;
        }
        assert_eq!(found.code, code, "{source}: {text}");
        assert!(text.contains(says), "{source}: {text}");
        if column > 0 {
            assert_eq!(found.column, column, "{source}: {text}");
        }
    }
}

#[test]
fn a_hostile_expression_gets_an_error_and_neither_crashes_nor_stalls() {
    let nested = |n: usize| format!("{}true{}", "(".repeat(n), ")".repeat(n));
    let loops = "cause.sites.exists(a, cause.sites.exists(b, cause.sites.exists(c, a == b && b == c)))";
    for hostile in [
        "1+".repeat(499) + "1 == 1",
        "1+".repeat(2_000) + "1 == 1",
        nested(96),
        nested(400),
        "!".repeat(999),
        format!("cause{} == 1", ".a".repeat(480)),
        format!("{}1 == 1", "-".repeat(900)),
        "true && ".repeat(120) + "true",
        "[".repeat(500),
        "'".repeat(999),
        "true ? ".repeat(140) + "true",
        loops.to_string(),
        "\u{0}".into(),
        "a".repeat(1_001),
    ] {
        let found = parse(&hostile).expect_err(&hostile);
        assert!(["E080", "E001", "E003"].contains(&found.code), "{hostile}: {found:?}");
    }
    assert_eq!(parse(loops).unwrap_err().code, "E080");
    // The longest that is admitted is parsed on a stack as small as a test's.
    assert!(parse(&("true && ".repeat(60) + "true")).is_ok());
}

/// An expression of each type, over what a rule knows.
fn expression(of: Type, depth: u32) -> BoxedStrategy<String> {
    let leaf = match of {
        Type::Int => prop_oneof![
            (0_i64..9).prop_map(|n| n.to_string()),
            Just("cause.level".to_string()),
            Just("target.sessions_today".into()),
            Just("clock.hour".into()),
            Just("params.least".into()),
        ]
        .boxed(),
        Type::Text => prop_oneof![
            "[a-c]{0,2}".prop_map(|text| format!("'{text}'")),
            Just("cause.event".to_string()),
            Just("target.name".into()),
            Just("session.phase".into()),
        ]
        .boxed(),
        Type::Bool => prop_oneof![Just("true".to_string()), Just("clock.free_day".into())].boxed(),
        _ => prop_oneof![Just("cause.sites".to_string()), Just("target.columns['level']".into()), Just("['a']".into())]
            .boxed(),
    };
    if depth == 0 {
        return leaf;
    }
    let sub = move |of: Type| expression(of, depth - 1);
    let texts = || Type::List(Some(Box::new(Type::Text)));
    let joined = |a: BoxedStrategy<String>, op: &'static str, b: BoxedStrategy<String>| {
        (a, b).prop_map(move |(a, b)| format!("({a} {op} {b})"))
    };
    match of {
        Type::Int => prop_oneof![
            leaf,
            joined(sub(Type::Int), "+", sub(Type::Int)),
            joined(sub(Type::Int), "*", sub(Type::Int)),
            sub(texts()).prop_map(|list| format!("size({list})")),
        ]
        .boxed(),
        Type::Text => prop_oneof![leaf, joined(sub(Type::Text), "+", sub(Type::Text))].boxed(),
        Type::Bool => prop_oneof![
            leaf,
            joined(sub(Type::Int), ">=", sub(Type::Int)),
            joined(sub(Type::Text), "==", sub(Type::Text)),
            joined(sub(Type::Text), "<", sub(Type::Text)),
            joined(sub(Type::Bool), "&&", sub(Type::Bool)),
            joined(sub(Type::Bool), "||", sub(Type::Bool)),
            joined(sub(Type::Text), "in", sub(texts())),
            sub(Type::Bool).prop_map(|inner| format!("!({inner})")),
            (sub(texts()), sub(Type::Text)).prop_map(|(list, text)| format!("{list}.exists(x, x == {text})")),
            (sub(Type::Text), sub(Type::Text)).prop_map(|(a, b)| format!("{a}.contains({b})")),
        ]
        .boxed(),
        _ => prop_oneof![
            leaf,
            sub(texts()).prop_map(|list| format!("{list}.filter(y, y != 'a')")),
            sub(texts()).prop_map(|list| format!("{list}.map(z, z + 'q')")),
        ]
        .boxed(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// The checker's type and the interpreter agree: what is accepted always has a yes or no.
    #[test]
    fn what_the_checker_accepts_the_interpreter_decides(source in expression(Type::Bool, 3)) {
        match parse(&source) {
            Ok(condition) => {
                let answer = condition.decide(&facts());
                prop_assert!(answer.is_ok(), "{source}: {answer:?}");
            }
            // Only the caps may refuse what is well typed.
            Err(found) => prop_assert_eq!(found.code, "E080", "{}: {}", source, found.message),
        }
    }

    #[test]
    fn no_text_makes_the_reader_crash(source in "\\PC{0,200}") {
        if let Ok(condition) = parse(&source) {
            prop_assert!(condition.decide(&facts()).is_ok(), "{source}");
        }
    }
}
