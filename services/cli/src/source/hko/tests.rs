//! The Observatory's storylines, told in snapshots of the shape its open data has. All texts are fictional.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use campanile_alert::{Clock as _, Info, ManualClock, Urgency, classify, judge, vocabulary};
use serde_json::{Value, json};

use super::*;

const DAY: &str = "2026-08-01";

fn at(time: &str) -> Timestamp {
    format!("{DAY}T{time}:00+08:00").parse().expect("a time")
}

fn text_time(time: &str) -> String {
    format!("{DAY}T{time}:00+08:00")
}

/// One entry of `warnsum`: statement, code, action, issue time, update time, expiry (empty: none).
type Row<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str);

fn summary(rows: &[Row<'_>]) -> Value {
    let mut object = serde_json::Map::new();
    for (statement, code, action, issued, updated, expires) in rows {
        let mut entry = json!({"name": format!("Name of {statement}"), "code": code, "actionCode": action,
            "issueTime": text_time(issued), "updateTime": text_time(updated)});
        if !expires.is_empty() {
            entry["expireTime"] = text_time(expires).into();
        }
        object.insert((*statement).into(), entry);
    }
    Value::Object(object)
}

/// `warningInfo` for the rows: one text each, in the words of the language.
fn details(rows: &[Row<'_>], language: Language) -> Value {
    let detail = |(statement, code, action, _, updated, _): &Row<'_>| {
        let mut detail = json!({"warningStatementCode": statement, "updateTime": text_time(updated),
            "contents": [format!("{}: {code} {action} at {updated}.", language.tag()), "Second paragraph."]});
        if code != statement {
            detail["subtype"] = (*code).into();
        }
        detail
    };
    json!({"details": rows.iter().map(detail).collect::<Vec<_>>()})
}

fn snapshot(taken: &str, listed: &[Row<'_>], texts_only: &[Row<'_>]) -> Snapshot {
    let mut snapshot = Snapshot::new(at(taken));
    for language in Language::ALL {
        snapshot.add_summary(language, "warnsum", summary(listed).to_string().as_bytes());
        let all: Vec<Row<'_>> = listed.iter().chain(texts_only).copied().collect();
        snapshot.add_details(language, "warningInfo", details(&all, language).to_string().as_bytes());
    }
    snapshot
}

/// Plays the source and judges every message as the bus would at that time.
struct Play {
    hko: Hko,
    config: Config,
    clock: ManualClock,
    all: Vec<Alert>,
}

impl Play {
    fn new() -> Self {
        Self { hko: Hko::default(), config: Config::default(), clock: ManualClock::new(at("00:00")), all: vec![] }
    }

    fn poll(&mut self, time: &str, listed: &[Row<'_>]) -> Vec<Alert> {
        self.snapshot(time, &snapshot(time, listed, &[]))
    }

    fn snapshot(&mut self, time: &str, snapshot: &Snapshot) -> Vec<Alert> {
        self.clock.set(at(time));
        let alerts = self.hko.poll(&self.config, snapshot, self.clock.now());
        for alert in &alerts {
            check(alert, self.clock.now());
            assert!(self.all.iter().all(|earlier| earlier.identifier != alert.identifier), "an identifier came twice");
            self.all.push(alert.clone());
        }
        // What is remembered survives being written down at any time.
        self.hko = serde_json::from_str(&serde_json::to_string(&self.hko).unwrap()).unwrap();
        alerts
    }
}

fn check(alert: &Alert, now: Timestamp) {
    let words = classify::classify(alert, vocabulary::v1());
    assert_eq!(judge::cap_valid(alert), [], "{}", alert.id());
    assert_eq!(judge::bus_admissible(alert, &words, vocabulary::v1(), now), [], "{}", alert.id());
    let xml = campanile_alert::xml::write(alert);
    let read = campanile_alert::xml::read(xml.as_bytes(), &campanile_alert::xml::Limits::default()).expect("XML");
    assert_eq!(read.messages[0].result.as_ref().expect("a message"), alert, "it goes through XML whole");
    let languages: Vec<&str> = alert.infos.iter().map(Info::language).collect();
    assert_eq!(languages, ["en", "zh-Hant", "zh-Hans"]);
    assert_eq!(alert.sent.offset_minutes(), 480);
}

fn one(alerts: Vec<Alert>) -> Alert {
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    alerts.into_iter().next().unwrap()
}

fn signal(alert: &Alert) -> &str {
    alert.infos[0].parameter(vocabulary::SIGNAL).unwrap_or("none")
}

fn expires(alert: &Alert) -> Timestamp {
    alert.expires().expect("an end")
}

#[test]
fn typhoon_rises_and_is_cancelled_in_one_chain() {
    let mut play = Play::new();
    let tc1 = one(play.poll("08:01", &[("WTCSGNL", "TC1", "ISSUE", "08:00", "08:00", "")]));
    assert_eq!((tc1.msg_type, signal(&tc1), tc1.sent.instant()), (MessageType::Alert, "TC1", at("08:00")));
    assert_eq!(expires(&tc1), at("11:00"));
    assert_eq!(tc1.infos[1].headline.as_deref(), Some("zh-Hant: TC1 ISSUE at 08:00."));
    assert_eq!(tc1.infos[2].event, "一号戒备信号");
    assert!(play.poll("08:02", &[("WTCSGNL", "TC1", "ISSUE", "08:00", "08:00", "")]).is_empty(), "nothing is new");

    let tc3 = one(play.poll("09:01", &[("WTCSGNL", "TC3", "ISSUE", "09:00", "09:00", "")]));
    assert_eq!((tc3.msg_type, signal(&tc3)), (MessageType::Update, "TC3"));
    assert_eq!(tc3.referenced(), [tc1.id()]);
    let text = tc3.infos[0].description.as_deref().unwrap();
    assert!(text.contains("TC3") && !text.contains("TC1"), "the text of No. 1 must not stand under No. 3: {text}");

    let tc8 = one(play.poll("10:01", &[("WTCSGNL", "TC8NE", "ISSUE", "10:00", "10:00", "")]));
    assert_eq!(tc8.referenced(), [tc1.id(), tc3.id()]);
    assert_eq!((signal(&tc8), tc8.severity()), ("TC8NE", Some(Severity::Severe)));

    let cancel = one(play.poll("12:31", &[("WTCSGNL", "TC8NE", "CANCEL", "10:00", "12:30", "")]));
    assert_eq!(cancel.msg_type, MessageType::Cancel);
    assert_eq!(cancel.referenced(), [tc8.id()], "No. 1 expired at 11:00 and No. 3 at 12:00");
    assert_eq!(cancel.infos[0].headline.as_deref(), Some("Cancelled: No. 8 Northeast Gale or Storm Signal"));
    assert!(play.poll("12:32", &[("WTCSGNL", "TC8NE", "CANCEL", "10:00", "12:30", "")]).is_empty(), "told once");
    assert!(play.poll("12:33", &[]).is_empty());
    let again = one(play.poll("20:01", &[("WTCSGNL", "TC1", "ISSUE", "20:00", "20:00", "")]));
    assert_eq!((again.msg_type, again.referenced().len()), (MessageType::Alert, 0), "a new storm is a new alert");
}

#[test]
fn rain_goes_amber_red_black_and_each_supersedes_the_last() {
    let mut play = Play::new();
    let amber = one(play.poll("06:00", &[("WRAIN", "WRAINA", "ISSUE", "06:00", "06:00", "")]));
    let red = one(play.poll("06:35", &[("WRAIN", "WRAINR", "ISSUE", "06:35", "06:35", "")]));
    let black = one(play.poll("07:50", &[("WRAIN", "WRAINB", "ISSUE", "07:50", "07:50", "")]));
    assert_eq!([signal(&amber), signal(&red), signal(&black)], ["WRAINA", "WRAINR", "WRAINB"]);
    assert_eq!(red.referenced(), [amber.id()]);
    assert_eq!(black.referenced(), [amber.id(), red.id()]);
    assert_eq!(black.severity(), Some(Severity::Extreme));
}

#[test]
fn code_cancel_cancels_too_and_keeps_the_signal_it_cancels() {
    let mut play = Play::new();
    let amber = one(play.poll("06:00", &[("WRAIN", "WRAINA", "ISSUE", "06:00", "06:00", "")]));
    let cancel = one(play.poll("07:00", &[("WRAIN", "CANCEL", "CANCEL", "06:00", "07:00", "")]));
    assert_eq!((cancel.msg_type, signal(&cancel)), (MessageType::Cancel, "WRAINA"));
    assert_eq!(cancel.referenced(), [amber.id()]);
}

#[test]
fn cancel_of_what_was_never_seen_says_nothing() {
    let mut play = Play::new();
    assert!(play.poll("06:00", &[("WRAIN", "WRAINA", "CANCEL", "05:00", "05:59", "")]).is_empty());
}

#[test]
fn thunderstorm_lives_until_its_own_end_and_extend_moves_it() {
    let mut play = Play::new();
    let row = [("WTS", "WTS", "ISSUE", "10:20", "10:20", "13:00")];
    let issue = one(play.poll("10:21", &row));
    assert_eq!(expires(&issue), at("13:00"));
    assert!(play.poll("12:50", &row).is_empty(), "a renewal could not move the end");
    let extend = one(play.poll("12:56", &[("WTS", "WTS", "EXTEND", "10:20", "12:55", "16:00")]));
    assert_eq!((extend.msg_type, expires(&extend)), (MessageType::Update, at("16:00")));
    assert_eq!(extend.referenced(), [issue.id()]);
    let late = [("WTS", "WTS", "EXTEND", "10:20", "12:55", "16:00")];
    assert!(play.poll("16:05", &late).is_empty(), "past its own end it is the source's to extend");
}

#[test]
fn vanished_warning_is_neither_cancelled_nor_renewed() {
    let mut play = Play::new();
    let row = [("WHOT", "WHOT", "ISSUE", "06:45", "06:45", "")];
    let hot = one(play.poll("06:46", &row));
    assert!(play.poll("07:00", &[]).is_empty());
    assert_eq!(play.hko.warnings()[0].standing, Standing::Missing(at("07:00")));
    assert!(play.poll("09:00", &[]).is_empty(), "half of its life has passed and nothing renews it");
    assert!(play.poll("09:46", &[]).is_empty(), "it expires, and nothing says so");
    let back = one(play.poll("10:00", &row));
    assert_eq!((back.msg_type, back.referenced()), (MessageType::Update, [hot.id()].as_slice()));
    assert_eq!(play.hko.warnings()[0].standing, Standing::Standing);
}

#[test]
fn vanished_then_cancelled_is_cancelled() {
    let mut play = Play::new();
    let hot = one(play.poll("06:46", &[("WHOT", "WHOT", "ISSUE", "06:45", "06:45", "")]));
    assert!(play.poll("07:00", &[]).is_empty());
    let cancel = one(play.poll("08:00", &[("WHOT", "WHOT", "CANCEL", "06:45", "07:59", "")]));
    assert_eq!((cancel.msg_type, cancel.referenced()), (MessageType::Cancel, [hot.id()].as_slice()));
}

#[test]
fn pre_no_8_announcement_stands_only_among_the_texts() {
    let mut play = Play::new();
    let tc3 = ("WTCSGNL", "TC3", "ISSUE", "09:00", "09:00", "");
    assert_eq!(signal(&one(play.poll("09:01", &[tc3]))), "TC3");
    let pre8 = ("WTCPRE8", "WTCPRE8", "", "10:10", "10:10", "");
    let alert = one(play.snapshot("10:11", &snapshot("10:11", &[tc3], &[pre8])));
    assert_eq!((alert.msg_type, signal(&alert)), (MessageType::Alert, "WTCPRE8"));
    assert_eq!((alert.infos[0].urgency, alert.sent.instant()), (Urgency::Future, at("10:10")));
    // When the texts cannot be read it is not known whether it still stands: not missing, and not renewed either.
    let mut blind = Snapshot::new(at("12:00"));
    blind.add_summary(Language::En, "warnsum", summary(&[]).to_string().as_bytes());
    assert!(play.snapshot("12:00", &blind).is_empty());
    assert!(play.hko.warnings().iter().all(|warning| warning.standing == Standing::Standing));
    let alerts = play.poll("12:20", &[("WTCSGNL", "TC8NE", "ISSUE", "12:20", "12:20", "")]);
    assert_eq!(signal(&one(alerts)), "TC8NE", "its end is no Cancel");
    assert_eq!(play.hko.warnings()[0].standing, Standing::Missing(at("12:20")));
}

#[test]
fn stale_source_publishes_and_ends_nothing() {
    let mut play = Play::new();
    let row = [("WL", "WL", "ISSUE", "06:00", "06:00", "")];
    one(play.poll("06:01", &row));
    let old = snapshot("06:01", &row, &[]);
    assert!(play.snapshot("07:45", &old).is_empty(), "a renewal is due, but the snapshot is old");
    assert!(play.hko.health().is_stale());
    let mut bad = Snapshot::new(at("07:46"));
    for language in Language::ALL {
        bad.add_summary(language, "warnsum.json", b"<html>502</html>");
        bad.add_details(language, "warningInfo.json", b"{}");
    }
    assert!(play.snapshot("07:46", &bad).is_empty(), "an unreadable list is not an empty one");
    assert_eq!(play.hko.warnings()[0].standing, Standing::Standing);
    let Health::Stale { since, reason } = play.hko.health() else { panic!("not stale") };
    assert_eq!(*since, at("07:45"));
    assert!(reason.contains("warnsum.json is not JSON"), "{reason}");
    play.hko.failed("no answer", at("07:47"));
    let renewal = one(play.poll("07:48", &row));
    assert_eq!(renewal.msg_type, MessageType::Update);
    assert!(!play.hko.health().is_stale());
}

#[test]
fn standing_warning_is_renewed_at_each_half_life() {
    let mut play = Play::new();
    let row = [("WL", "WL", "ISSUE", "06:00", "06:00", "")];
    let mut sent = Vec::new();
    for minute in 1..=360 {
        let time = format!("{:02}:{:02}", 6 + minute / 60, minute % 60);
        for alert in play.poll(&time, &row) {
            sent.push((alert.msg_type, alert.sent.instant(), expires(&alert), alert.referenced().len()));
        }
    }
    assert_eq!(
        sent,
        [
            (MessageType::Alert, at("06:00"), at("09:00"), 0),
            (MessageType::Update, at("07:30"), at("10:30"), 1),
            // A message is no longer referred to from the minute at which it expires.
            (MessageType::Update, at("09:00"), at("12:00"), 1),
            (MessageType::Update, at("10:30"), at("13:30"), 1),
            (MessageType::Update, at("12:00"), at("15:00"), 1),
        ]
    );
    assert_eq!(play.all[2].infos[0].parameter(HKO_RENEWAL), Some("2"));
    assert_eq!(play.all[2].infos[0].description, play.all[0].infos[0].description);
}

#[test]
fn warning_issued_long_ago_is_published_with_a_life_left() {
    let mut play = Play::new();
    let row = [("WCOLD", "WCOLD", "ISSUE", "00:10", "00:10", "")];
    let alert = one(play.poll("10:00", &row));
    assert_eq!((alert.msg_type, alert.sent.instant(), expires(&alert)), (MessageType::Alert, at("09:10"), at("12:10")));
    // Another reader of the same source that starts in the same half-life makes the same message.
    assert_eq!(one(Play::new().poll("10:35", &row)), alert);
}

#[test]
fn restart_in_the_middle_repeats_nothing_and_a_lost_state_repeats_the_same_message() {
    let rows = [("WRAIN", "WRAINA", "ISSUE", "06:00", "06:00", "")];
    let mut play = Play::new();
    let first = one(play.poll("06:01", &rows));
    let text = serde_json::to_string(&play.hko).unwrap();
    let mut restarted = Play::new();
    restarted.hko = serde_json::from_str(&text).unwrap();
    assert!(restarted.poll("06:05", &rows).is_empty());
    let red = [("WRAIN", "WRAINR", "ISSUE", "06:35", "06:35", "")];
    let (a, b) = (one(play.poll("06:36", &red)), one(restarted.poll("06:37", &red)));
    assert_eq!(a, b, "the same facts give the same message");
    assert_eq!(one(Play::new().poll("06:20", &rows)), first);
}

#[test]
fn refused_message_is_made_again_and_never_referred_to() {
    let rows = [("WRAIN", "WRAINA", "ISSUE", "06:00", "06:00", "")];
    let mut play = Play::new();
    let first = one(play.poll("06:01", &rows));
    play.hko.refused(&first.id());
    play.all.clear();
    let again = one(play.poll("06:02", &rows));
    assert_eq!(again, first);
    let cancel = one(play.poll("06:10", &[("WRAIN", "WRAINA", "CANCEL", "06:00", "06:09", "")]));
    play.hko.refused(&cancel.id());
    play.all.clear();
    let cancel = one(play.poll("06:11", &[("WRAIN", "WRAINA", "CANCEL", "06:00", "06:09", "")]));
    assert_eq!((cancel.msg_type, cancel.referenced()), (MessageType::Cancel, [first.id()].as_slice()));
}

#[test]
fn older_copy_of_the_source_changes_nothing() {
    let mut play = Play::new();
    let amber = [("WRAIN", "WRAINA", "ISSUE", "06:00", "06:00", "")];
    let red = [("WRAIN", "WRAINR", "ISSUE", "06:35", "06:35", "")];
    play.poll("06:01", &amber);
    play.poll("06:36", &red);
    assert!(play.poll("06:37", &amber).is_empty(), "an older copy");
    assert!(play.poll("06:38", &red).is_empty());
    play.poll("07:01", &[("WRAIN", "WRAINR", "CANCEL", "06:35", "07:00", "")]);
    assert!(play.poll("07:02", &red).is_empty(), "an older copy after the Cancel");
}

#[test]
fn language_behind_the_others_gives_no_text_of_the_old_signal() {
    let mut play = Play::new();
    let mut mixed = Snapshot::new(at("06:36"));
    let amber = [("WRAIN", "WRAINA", "ISSUE", "06:00", "06:00", "")];
    let red = [("WRAIN", "WRAINR", "ISSUE", "06:35", "06:35", "")];
    for (language, rows) in [(Language::En, &amber), (Language::ZhHant, &red), (Language::ZhHans, &red)] {
        mixed.add_summary(language, "warnsum", summary(rows).to_string().as_bytes());
        mixed.add_details(language, "warningInfo", details(rows, language).to_string().as_bytes());
    }
    let alert = one(play.snapshot("06:36", &mixed));
    assert_eq!(signal(&alert), "WRAINR");
    assert_eq!(alert.infos[0].event, "Red Rainstorm Warning Signal");
    let english = alert.infos[0].description.as_deref().unwrap();
    assert!(english.starts_with("[Chinese text only]\nzh-Hant: WRAINR"), "{english}");
    let whole = one(play.poll("06:37", &red));
    assert_eq!(whole.msg_type, MessageType::Update);
    assert!(whole.infos[0].description.as_deref().unwrap().starts_with("en: WRAINR"));
}

#[test]
fn warning_goes_out_without_texts_and_they_follow() {
    let mut play = Play::new();
    let row = [("WTMW", "WTMW", "ISSUE", "06:00", "06:00", "")];
    let mut bare = Snapshot::new(at("06:01"));
    bare.add_summary(Language::ZhHant, "warnsum", summary(&row).to_string().as_bytes());
    let alert = one(play.snapshot("06:01", &bare));
    assert_eq!((alert.infos[0].headline.as_deref(), &alert.infos[0].description), (Some("Tsunami Warning"), &None));
    let update = one(play.poll("06:02", &row));
    assert_eq!(update.referenced(), [alert.id()]);
    // The same time with other words, as two servers that differ would give, is not an Update at every poll.
    let mut other = snapshot("06:03", &row, &[]);
    for reading in other.languages.values_mut() {
        reading.details.as_mut().unwrap()[0].lines = vec!["Other words.".into()];
    }
    assert!(play.snapshot("06:03", &other).is_empty());
}

#[test]
fn unknown_code_is_carried_unclassified() {
    let mut play = Play::new();
    let alert = one(play.poll("06:01", &[("WNEW", "WNEWX", "ISSUE", "06:00", "06:00", "")]));
    assert!(classify::classify(&alert, vocabulary::v1()).is_unclassified());
    assert_eq!(alert.infos[0].event_code(HKO_CODE), Some("WNEWX"));
    assert_eq!(alert.infos[0].event, "Name of WNEW");
    assert_eq!(alert.severity(), Some(Severity::Unknown));
    let cancel = one(play.poll("06:10", &[("WNEW", "WNEWX", "CANCEL", "06:00", "06:09", "")]));
    assert_eq!(cancel.infos[0].event, "Name of WNEW");
}

#[test]
fn own_end_beyond_the_ceiling_is_reached_by_renewals() {
    let mut play = Play::new();
    let mut list = summary(&[("WFIRE", "WFIRER", "ISSUE", "06:00", "06:00", "06:01")]);
    list["WFIRE"]["expireTime"] = "2026-08-05T06:00:00+08:00".into();
    let mut far = snapshot("06:01", &[], &[]);
    far.add_summary(Language::En, "warnsum", list.to_string().as_bytes());
    let alert = one(play.snapshot("06:01", &far));
    assert_eq!(expires(&alert).duration_since(at("06:00")), SignedDuration::from_hours(48));
}

#[test]
fn gravest_comes_first_and_forgotten_is_forgotten() {
    let mut play = Play::new();
    let rows = [
        ("WFROST", "WFROST", "ISSUE", "06:00", "06:00", ""),
        ("WL", "WL", "ISSUE", "06:00", "06:00", ""),
        ("WRAIN", "WRAINB", "ISSUE", "06:00", "06:00", ""),
    ];
    let order: Vec<String> = play.poll("06:01", &rows).iter().map(|alert| signal(alert).to_owned()).collect();
    assert_eq!(order, ["WRAINB", "WL", "WFROST"]);
    play.poll("06:02", &[]);
    let later = at("06:02").checked_add(SignedDuration::from_hours(60)).unwrap();
    let mut empty = snapshot("06:03", &[], &[]);
    empty.taken = later;
    assert!(play.hko.poll(&play.config, &empty, later).is_empty());
    assert!(play.hko.warnings().is_empty());
}
