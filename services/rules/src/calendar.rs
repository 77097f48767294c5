//! Sessions and the calendar: on which days a session is held, and what phase of it an instant falls in.
//!
//! ```text
//!      opens          starts          ends
//!  ──────┼───── before ───┼───── in ────┼──── over        a target is "2026-09-14/am": the day and the session
//!        └── decisions of the day begin here: a cause that came in the night counts from then on
//! ```
//! Times are wall-clock times of Hong Kong. The days on which no session is held are a data set, so its digest stands in
//! every effect.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use campanile_alert::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::Sentence;

/// How many days ahead the next opening is looked for; longer than any run of holidays.
const DAYS_AHEAD_MAX: i64 = 45;

/// The part of a session that an instant falls in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// It has been decided about since it opened, and has not started.
    Before,
    /// It goes on.
    In,
    /// It has ended.
    Over,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Before, Self::In, Self::Over];

    /// The word of a table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::In => "in",
            Self::Over => "over",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A part of a day that is decided about by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What people call it.
    pub name: Sentence,
    /// From when on the day's session is decided about.
    pub opens: Time,
    /// When it starts.
    pub starts: Time,
    /// When it ends.
    pub ends: Time,
    /// Until when the end of a cause lets it be held after all; absent when what was issued stays.
    pub resume_by: Option<Time>,
    /// The days of the week on which it is held.
    pub days: BTreeSet<i8>,
}

/// The sessions of a pack, and where its free days stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    /// The data set whose keys are the days on which no session is held.
    pub calendar: Option<String>,
    /// The sessions, by name.
    pub sessions: BTreeMap<String, Session>,
}

/// One session on one day, in instants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sitting {
    /// The target: the day and the session's name.
    pub target: String,
    /// The session's name.
    pub session: String,
    /// From when it is decided about.
    pub opens: Timestamp,
    /// When it starts.
    pub starts: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
    /// Until when it can still be held after all.
    pub resume_by: Option<Timestamp>,
}

impl Sitting {
    /// The phase at an instant; what came before it opened counts as before.
    pub fn phase(&self, at: Timestamp) -> Phase {
        match at {
            at if at < self.starts => Phase::Before,
            at if at < self.ends => Phase::In,
            _ => Phase::Over,
        }
    }
}

impl Schedule {
    /// The sittings that are decided about at `now`: open and not over, in the order of their names.
    pub fn open(&self, now: Timestamp, free: &BTreeSet<Date>) -> Vec<Sitting> {
        let day = local(now);
        let sittings = self.sessions.keys().filter_map(|name| self.sitting(day, name, free));
        sittings.filter(|sitting| sitting.opens <= now && now < sitting.ends).collect()
    }

    /// The next instant after `now` at which a session opens; `None` without sessions.
    pub fn next_opening(&self, now: Timestamp, free: &BTreeSet<Date>) -> Option<Timestamp> {
        let today = local(now);
        (0..DAYS_AHEAD_MAX).find_map(|ahead| {
            let day = today.checked_add(jiff::Span::new().days(ahead)).ok()?;
            let opens = self.sessions.keys().filter_map(|name| Some(self.sitting(day, name, free)?.opens));
            opens.filter(|at| *at > now).min()
        })
    }

    /// The sitting that a target names; `None` when it is none of ours.
    pub fn of_target(&self, target: &str) -> Option<Sitting> {
        let (day, name) = target.split_once('/')?;
        self.sitting(day.parse().ok()?, name, &BTreeSet::new()).filter(|sitting| sitting.target == target)
    }

    /// The sitting of a session on a day; `None` when it is not held then.
    fn sitting(&self, day: Date, name: &str, free: &BTreeSet<Date>) -> Option<Sitting> {
        let session = self.sessions.get(name)?;
        let held = session.days.contains(&day.weekday().to_monday_one_offset()) && !free.contains(&day);
        let at = |time: Time| instant(day, time);
        if !held {
            return None;
        }
        Some(Sitting {
            target: format!("{day}/{name}"),
            session: name.into(),
            opens: at(session.opens)?,
            starts: at(session.starts)?,
            ends: at(session.ends)?,
            resume_by: session.resume_by.and_then(at),
        })
    }
}

/// The day of the week that a word names: mon to sun, as 1 to 7.
pub(crate) fn weekday(word: &str) -> Option<i8> {
    let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let at = names.iter().position(|name| *name == word)?;
    i8::try_from(at + 1).ok()
}

/// The instant at which a wall clock in Hong Kong shows a time of a day.
pub(crate) fn instant(day: Date, time: Time) -> Option<Timestamp> {
    zone().to_ambiguous_timestamp(day.to_datetime(time)).compatible().ok()
}

/// The day in Hong Kong.
pub(crate) fn local(at: Timestamp) -> Date {
    zone().to_datetime(at).date()
}

/// The wall clock of Hong Kong.
pub(crate) fn wall(at: Timestamp) -> jiff::civil::DateTime {
    zone().to_datetime(at)
}

/// Hong Kong, from the tables that are compiled in: no file is read.
pub(crate) fn zone() -> TimeZone {
    static ZONE: std::sync::LazyLock<TimeZone> = std::sync::LazyLock::new(|| {
        let bundled = TimeZoneDatabase::bundled().get("Asia/Hong_Kong");
        bundled.unwrap_or_else(|_| TimeZone::fixed(jiff::tz::offset(8)))
    });
    ZONE.clone()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        let session = |opens: &str, starts: &str, ends: &str, days: &[i8]| Session {
            name: Sentence::default(),
            opens: opens.parse().unwrap(),
            starts: starts.parse().unwrap(),
            ends: ends.parse().unwrap(),
            resume_by: None,
            days: days.iter().copied().collect(),
        };
        let am = session("05:30", "08:00", "12:30", &[1, 2, 3, 4, 5, 6]);
        let pm = session("05:30", "13:00", "18:00", &[1, 2, 3, 4, 5]);
        Schedule { calendar: None, sessions: [("am".to_string(), am), ("pm".to_string(), pm)].into() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_session_is_decided_about_from_its_opening_to_its_end_in_hong_kong() {
        let (schedule, free) = (schedule(), BTreeSet::new());
        let open = |text: &str| schedule.open(at(text), &free).into_iter().map(|s| s.target).collect::<Vec<_>>();
        assert_eq!(open("2026-09-14T05:29:59+08:00"), [""; 0]);
        assert_eq!(open("2026-09-14T05:30:00+08:00"), ["2026-09-14/am", "2026-09-14/pm"]);
        assert_eq!(open("2026-09-14T12:30:00+08:00"), ["2026-09-14/pm"]);
        assert_eq!(open("2026-09-12T09:00:00+08:00"), ["2026-09-12/am"], "a Saturday has a morning only");
        assert_eq!(open("2026-09-13T09:00:00+08:00"), [""; 0], "a Sunday has none");
    }

    #[test]
    fn the_next_opening_skips_free_days_and_sundays() {
        let free = ["2026-10-01".parse().unwrap()].into();
        let next = schedule().next_opening(at("2026-09-30T05:30:00+08:00"), &free).unwrap();
        assert_eq!(next, at("2026-10-02T05:30:00+08:00"));
        let next = schedule().next_opening(at("2026-09-12T20:00:00+08:00"), &free).unwrap();
        assert_eq!(next, at("2026-09-14T05:30:00+08:00"));
    }

    #[test]
    fn a_target_names_its_sitting() {
        let sitting = schedule().of_target("2026-09-14/am").unwrap();
        assert_eq!(sitting.phase(at("2026-09-14T07:59:59+08:00")), Phase::Before);
        assert_eq!(sitting.phase(at("2026-09-14T08:00:00+08:00")), Phase::In);
        assert_eq!(sitting.phase(at("2026-09-14T12:30:00+08:00")), Phase::Over);
        assert_eq!(schedule().of_target("2026-9-14/am"), None);
        assert_eq!(weekday("sat"), Some(6));
    }
}
