//! Times of a drill: offsets from its start (`T+9m`) and lengths (`14m`), in whole milliseconds.

use std::fmt;
use std::str::FromStr;

use campanile_alert::Timestamp;
use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest drill: 31 days.
pub const DRILL_MS_MAX: i64 = 31 * 24 * 3600 * 1000;

/// Why a time was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not `T+…`.
    #[error("{0:?} is not a time of the drill; write for example T+0m, T+90s, T+3h05m")]
    Offset(String),
    /// Not a length of time.
    #[error("{0:?} is not a length of time; write for example 30s, 14m, 1h30m")]
    Length(String),
    /// Before the start, or later than a drill may last.
    #[error("{0:?} is not within a drill: from 0 to 31 days")]
    Range(String),
}

/// An instant of a drill: milliseconds from its start, 0 to 31 days. Written `T+1h5m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(i64);

/// A length of time in milliseconds, at most 31 days either way. Written `14m`; a skew may be negative: `-90s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Length(i64);

impl Offset {
    /// The start of the drill.
    pub const START: Self = Self(0);
    /// The last instant that a drill may have.
    pub const MAX: Self = Self(DRILL_MS_MAX);

    /// `ms` milliseconds after the start, brought into the range of a drill.
    pub fn from_ms(ms: i64) -> Self {
        Self(ms.clamp(0, DRILL_MS_MAX))
    }

    /// Milliseconds since the start.
    pub fn ms(self) -> i64 {
        self.0
    }

    /// The instant on a clock that showed `start` when the drill began.
    pub fn on(self, start: Timestamp) -> Timestamp {
        start.checked_add(SignedDuration::from_millis(self.0)).unwrap_or(Timestamp::MAX)
    }

    /// The offset of an instant of that clock, brought into the range of a drill.
    pub fn of(instant: Timestamp, start: Timestamp) -> Self {
        Self::from_ms(instant.as_millisecond().saturating_sub(start.as_millisecond()))
    }
}

impl Length {
    /// `ms` milliseconds.
    pub fn from_ms(ms: i64) -> Self {
        Self(ms.clamp(-DRILL_MS_MAX, DRILL_MS_MAX))
    }

    /// Milliseconds.
    pub fn ms(self) -> i64 {
        self.0
    }
}

impl std::ops::Add<Length> for Offset {
    type Output = Self;

    fn add(self, length: Length) -> Self {
        Self::from_ms(self.0.saturating_add(length.0))
    }
}

/// `1h5m`, `90s` as `1m30s`, `250ms`; `0s` for nothing.
fn written(ms: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if ms == 0 {
        return f.write_str("0s");
    }
    let (sign, mut rest) = if ms < 0 { ("-", ms.unsigned_abs()) } else { ("", ms.unsigned_abs()) };
    f.write_str(sign)?;
    for (unit, of) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        let count = rest / of;
        rest %= of;
        if count > 0 {
            write!(f, "{count}{unit}")?;
        }
    }
    Ok(())
}

fn length_of(text: &str) -> Option<i64> {
    let text = text.trim();
    let (sign, plain) = match text.strip_prefix('-') {
        Some(plain) => (-1, plain),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    // A number without a unit would be read as nothing that a person meant.
    if !plain.starts_with(|c: char| c.is_ascii_digit()) || plain.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let length: SignedDuration = plain.parse().ok()?;
    i64::try_from(length.as_millis()).ok()?.checked_mul(sign)
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("T+")?;
        written(self.0, f)
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        written(self.0, f)
    }
}

impl FromStr for Offset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let after = text.strip_prefix("T+").ok_or_else(|| Error::Offset(text.into()))?;
        let ms = length_of(after).ok_or_else(|| Error::Offset(text.into()))?;
        if (0..=DRILL_MS_MAX).contains(&ms) { Ok(Self(ms)) } else { Err(Error::Range(text.into())) }
    }
}

impl FromStr for Length {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let ms = length_of(text).ok_or_else(|| Error::Length(text.into()))?;
        if ms.abs() <= DRILL_MS_MAX { Ok(Self(ms)) } else { Err(Error::Range(text.into())) }
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(Offset);
as_text!(Length);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them_and_written_back() {
        for (text, ms, back) in [
            ("T+0m", 0, "T+0s"),
            ("T+90s", 90_000, "T+1m30s"),
            ("T+3h05m", 11_100_000, "T+3h5m"),
            ("T+250ms", 250, "T+250ms"),
        ] {
            let offset: Offset = text.parse().unwrap();
            assert_eq!((offset.ms(), offset.to_string().as_str()), (ms, back));
        }
        assert_eq!("+90s".parse::<Length>().unwrap().ms(), 90_000);
        assert_eq!("-90s".parse::<Length>().unwrap().to_string(), "-1m30s");
    }

    #[test]
    fn impossible_times_are_refused_with_what_to_write() {
        for (text, says) in [
            ("9m", "write for example T+0m"),
            ("T+9x", "T+0m"),
            ("T+-5m", "within"),
            ("T+90000h", "within"),
            ("T+5", "T+0m"),
        ] {
            let error = text.parse::<Offset>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
