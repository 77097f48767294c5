//! Time as a value: instants, CAP's `dateTime` with its own text, and the clock that everything else is given.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};

/// An instant, in UTC, to the nanosecond.
pub use jiff::Timestamp;

/// Tells the time. Library code takes one instead of reading the wall clock, so that tests and drills can set it.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

/// A clock that stands still until it is set: for tests and for replays.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.as_microsecond()))
    }

    /// Sets the clock, to the microsecond; it may go back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_microsecond(), Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: std::time::Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX)
    }
}

/// Why a CAP `dateTime` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not `YYYY-MM-DDThh:mm:ss±hh:mm`.
    #[error("{0:?} is not a date and time; write it as YYYY-MM-DDThh:mm:ss+hh:mm")]
    Shape(String),
    /// The offset from UTC is missing, so the instant is unknown.
    #[error("{0:?} has no offset from UTC; end it with +hh:mm or -hh:mm, for UTC -00:00")]
    NoOffset(String),
    /// The offset is written `Z`, which CAP forbids.
    #[error("{0:?} ends in Z, which CAP forbids; write -00:00 for UTC")]
    Zulu(String),
    /// Right in shape, but no such day or hour exists.
    #[error("{0:?} names a day or an hour that does not exist")]
    Range(String),
}

/// A CAP `dateTime`: the text as the sender wrote it, and the instant it means.
///
/// The text is kept because `sent` is part of a message's identity. Two values are equal when their texts are.
/// Source: CAP 1.2 §3.2.1 `sent` and §3.3.2, pattern `\d\d\d\d-\d\d-\d\dT\d\d:\d\d:\d\d[-+]\d\d:\d\d`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DateTime {
    text: String,
    instant: Timestamp,
}

impl DateTime {
    /// Parses `YYYY-MM-DDThh:mm:ss±hh:mm`.
    ///
    /// # Errors
    /// [`Error`] for another shape, a missing offset, `Z`, fractional seconds, or a day that does not exist.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let shape = |pattern: &str| {
            text.len() == pattern.len()
                && text.bytes().zip(pattern.bytes()).all(|(b, p)| match p {
                    b'd' => b.is_ascii_digit(),
                    b'+' => b == b'+' || b == b'-',
                    p => b == p,
                })
        };
        if !shape("dddd-dd-ddTdd:dd:dd+dd:dd") {
            return Err(match () {
                () if shape("dddd-dd-ddTdd:dd:ddZ") => Error::Zulu(text.into()),
                () if shape("dddd-dd-ddTdd:dd:dd") => Error::NoOffset(text.into()),
                () => Error::Shape(text.chars().take(64).collect()),
            });
        }
        // `-00:00` is how CAP writes UTC; ISO 8601 parsers may take it for "offset unknown", so it is read as +00:00.
        let readable = text.strip_suffix("-00:00").map(|local| format!("{local}+00:00"));
        let instant = DateTimeParser::new()
            .parse_timestamp(readable.as_deref().unwrap_or(text))
            .map_err(|_| Error::Range(text.into()))?;
        Ok(Self { text: text.into(), instant })
    }

    /// Writes an instant as CAP does, in whole seconds, with `offset_minutes` from UTC (Hong Kong: 480).
    ///
    /// Zero gives `-00:00`. Offsets outside ±14 hours are written as UTC.
    pub fn from_instant(instant: Timestamp, offset_minutes: i32) -> Self {
        let offset = if offset_minutes.abs() <= 14 * 60 { offset_minutes } else { 0 };
        let zone = Offset::from_seconds(offset * 60).unwrap_or(Offset::UTC);
        let local = zone.to_datetime(instant);
        let sign = if offset > 0 { '+' } else { '-' };
        let text = format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{sign}{:02}:{:02}",
            local.year(),
            local.month(),
            local.day(),
            local.hour(),
            local.minute(),
            local.second(),
            offset.abs() / 60,
            offset.abs() % 60,
        );
        let instant = Timestamp::from_second(instant.as_second()).unwrap_or(instant);
        Self { text, instant }
    }

    /// The text as the sender wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The instant it means.
    pub fn instant(&self) -> Timestamp {
        self.instant
    }

    /// The offset from UTC that the text states, in minutes.
    pub fn offset_minutes(&self) -> i32 {
        let digits = |from: usize| self.text.get(from..from + 2).and_then(|d| d.parse::<i32>().ok()).unwrap_or(0);
        let minutes = digits(20) * 60 + digits(23);
        if self.text.as_bytes().get(19) == Some(&b'-') { -minutes } else { minutes }
    }
}

impl PartialEq for DateTime {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for DateTime {}

impl TryFrom<String> for DateTime {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}

impl From<DateTime> for String {
    fn from(time: DateTime) -> Self {
        time.text
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn date_time_keeps_its_text_and_knows_its_instant() {
        let here = DateTime::parse("2026-11-22T08:00:00+08:00").expect("a CAP time");
        let utc = DateTime::parse("2026-11-22T00:00:00-00:00").expect("a CAP time in UTC");
        assert_eq!(here.instant(), utc.instant());
        assert_ne!(here, utc, "identity is by text");
        assert_eq!(here.offset_minutes(), 480);
        assert_eq!(DateTime::from_instant(utc.instant(), 480), here);
        assert_eq!(DateTime::from_instant(utc.instant(), 0), utc);
    }

    #[test]
    fn date_time_refuses_what_cap_forbids() {
        for (text, want) in [
            ("2026-11-22T08:00:00Z", "ends in Z"),
            ("2026-11-22T08:00:00", "no offset"),
            ("2016-03-10T22:12:03.770+00:00", "not a date and time"),
            ("2024-09-17:07:02-00:00", "not a date and time"),
            ("2026-02-30T08:00:00+08:00", "does not exist"),
            ("", "not a date and time"),
        ] {
            let error = DateTime::parse(text).expect_err(text).to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
