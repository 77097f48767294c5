//! Words of a scenario that have a form of their own: `end`, `80%`, `2x`, `0-3`, and the time of T+0.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::Offset;

/// When an expectation is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// At this time.
    At(Offset),
    /// When the drill ends.
    End,
}

/// The marks that an observer can give, written `0-3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// The worst.
    pub least: u32,
    /// The best; more than `least`.
    pub most: u32,
}

/// A share in percent, 0 to 100, written `80%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Percent(pub u32);

/// A factor from 2 to 10, written `2x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Times(pub u32);

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => at.fmt(f),
            Self::End => f.write_str("end"),
        }
    }
}

impl FromStr for Deadline {
    type Err = crate::time::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "end" { Ok(Self::End) } else { text.parse().map(Self::At) }
    }
}

/// Why a word of a scenario was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a percentage.
    #[error("{0:?} is not a share; write 0% to 100%")]
    Percent(String),
    /// Not a factor.
    #[error("{0:?} is not a factor; write 2x to 10x")]
    Times(String),
    /// Not a scale.
    #[error("{0:?} is not a scale; write for example 0-3")]
    Scale(String),
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl FromStr for Percent {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
        number.filter(|number| *number <= 100).map(Self).ok_or_else(|| Error::Percent(text.into()))
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x", self.0)
    }
}

impl FromStr for Times {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = text.strip_suffix('x').and_then(|number| number.parse().ok());
        number.filter(|number| (2..=10).contains(number)).map(Self).ok_or_else(|| Error::Times(text.into()))
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.least, self.most)
    }
}

impl FromStr for Scale {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Scale(text.into());
        let (least, most) = text.split_once('-').ok_or_else(wrong)?;
        let (least, most) = (least.parse().map_err(|_| wrong())?, most.parse().map_err(|_| wrong())?);
        if least < most && most <= 100 { Ok(Self { least, most }) } else { Err(wrong()) }
    }
}

macro_rules! as_text {
    ($($name:ident)+) => {
        $(
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
        )+
    };
}

as_text!(Deadline Percent Times Scale);

/// The time of T+0: `2026-10-13T10:20+08:00`, seconds if wanted.
pub(super) mod start {
    use campanile_alert::DateTime;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::scenario) fn serialize<S: Serializer>(start: &DateTime, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(start.text())
    }

    pub(in crate::scenario) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DateTime, D::Error> {
        let text = String::deserialize(from)?;
        // `…T10:20+08:00` without seconds is what people write.
        let minutes = text.len() == "2026-10-13T10:20+08:00".len();
        let full = match (minutes, text.get(..16), text.get(16..)) {
            (true, Some(before), Some(offset)) => format!("{before}:00{offset}"),
            _ => text.clone(),
        };
        DateTime::parse(&full).map_err(|_| {
            serde::de::Error::custom(format!("{text:?} is no time; write for example 2026-10-13T10:20+08:00"))
        })
    }
}
