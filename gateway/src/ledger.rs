//! The gateway's own rows in its store, and what a crash leaves of them.
//!
//! ```text
//!  cursor                                    the arrival number up to which alerts have been taken in
//!  board/<arrival>                           an arrival that the board is rebuilt from
//!  job/<channel>/<lane><arrival>/<kind><n>   something a channel still has to do
//!  attempt/<record>/<channel>/<endpoint>     what became of one hand-over
//!  report/<record>/<channel>                 a delivery report that is due
//! ```
//!
//! Cursor, board rows and jobs of one intake commit together, so a crash leaves an alert either not taken in or with
//! all its jobs. Channels inside this process have the alert before that, and lose it with the process. An attempt is written as `started` before a provider outside this process is called and with its
//! outcome after; a row that still says `started` after a start is an attempt of unknown outcome: it is made once more
//! and marked possibly-repeated. The last outcome of a job commits with the removal of the job.

use std::collections::HashMap;

use campanile_log::Hash;
use serde::{Deserialize, Serialize};

use crate::channels::{Endpoint, FailureReason, Judgement, Outcome};
use crate::member::{Error, Member, Row};

/// How far one hand-over has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// Begun; nobody knows its outcome until another stage is written.
    Started,
    /// The provider took it.
    Handed,
    /// It failed and may be tried again.
    Waiting,
    /// It failed for good.
    Failed,
    /// It was handed and has been taken off again.
    Cleared,
}

/// One hand-over to one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) stage: Stage,
    /// How many attempts have been made.
    pub(crate) attempts: u32,
    /// An attempt of unknown outcome was made again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) possibly_repeated: bool,
    /// A number of `FailureReason`; 0 when it did not fail.
    #[serde(default, skip_serializing_if = "is_zero")]
    reason: i32,
}

fn is_zero(reason: &i32) -> bool {
    *reason == 0
}

impl Attempt {
    /// The next attempt after `before`; `None` when there must not be one.
    pub(crate) fn next(before: Option<&Self>) -> Option<Self> {
        let first = Self { stage: Stage::Started, attempts: 1, possibly_repeated: false, reason: 0 };
        match before {
            None => Some(first),
            Some(attempt) => match attempt.stage {
                Stage::Started if attempt.possibly_repeated => None,
                Stage::Started => Some(Self { attempts: attempt.attempts + 1, possibly_repeated: true, ..first }),
                Stage::Waiting => Some(Self { stage: Stage::Started, attempts: attempt.attempts + 1, ..*attempt }),
                Stage::Handed | Stage::Failed | Stage::Cleared => None,
            },
        }
    }

    /// The same attempt with its outcome. An unknown one stays `started` and is made once more.
    pub(crate) fn with(self, outcome: Outcome) -> Self {
        match outcome {
            Outcome::Handed => Self { stage: Stage::Handed, reason: 0, ..self },
            Outcome::Failed(Judgement::Retryable, reason) => {
                Self { stage: Stage::Waiting, reason: reason.into(), ..self }
            }
            Outcome::Failed(Judgement::Terminal, reason) => {
                Self { stage: Stage::Failed, reason: reason.into(), ..self }
            }
            Outcome::Failed(Judgement::Unknown, reason) => {
                let stage = if self.possibly_repeated { Stage::Failed } else { Stage::Started };
                Self { stage, reason: reason.into(), ..self }
            }
        }
    }

    /// Gives it up for good.
    pub(crate) fn given_up(self, reason: FailureReason) -> Self {
        Self { stage: Stage::Failed, reason: reason.into(), ..self }
    }

    /// One that was never made.
    pub(crate) fn never(reason: FailureReason) -> Self {
        Self { stage: Stage::Failed, attempts: 0, possibly_repeated: false, reason: reason.into() }
    }

    /// Why it failed; absent when it did not.
    pub(crate) fn reason(&self) -> Option<FailureReason> {
        FailureReason::try_from(self.reason).ok().filter(|reason| *reason != FailureReason::Unspecified)
    }

    /// True when the endpoint may show the alert.
    pub(crate) fn may_be_there(&self) -> bool {
        match self.stage {
            Stage::Handed | Stage::Started => true,
            Stage::Waiting | Stage::Failed => self.attempts > 0,
            Stage::Cleared => false,
        }
    }
}

/// The attempts of one alert on one channel.
pub(crate) type Attempts = HashMap<Endpoint, Attempt>;

/// Reads the attempts of one alert on one channel.
pub(crate) fn attempts(member: &dyn Member, record: &Hash, channel: &str) -> Result<Attempts, Error> {
    let rows = member.rows(&format!("attempt/{record}/{channel}/"))?;
    Ok(rows
        .into_iter()
        .filter_map(|(key, value)| Some((String::from_utf8(key).ok()?.into(), serde_json::from_slice(&value).ok()?)))
        .collect())
}

/// The row of one attempt.
pub(crate) fn attempt_row(record: &Hash, channel: &str, endpoint: &str, attempt: &Attempt) -> Row {
    // An Attempt holds numbers and names only, so it always has a JSON form.
    (format!("attempt/{record}/{channel}/{endpoint}").into_bytes(), serde_json::to_vec(attempt).ok())
}

/// The rows that remove everything kept of one record.
pub(crate) fn forget(member: &dyn Member, arrival: u64, record: &Hash) -> Result<Vec<Row>, Error> {
    let prefix = format!("attempt/{record}/");
    let mut rows: Vec<Row> =
        member.rows(&prefix)?.into_iter().map(|(key, _)| ([prefix.as_bytes(), &key].concat(), None)).collect();
    rows.push((board_key(arrival), None));
    Ok(rows)
}

/// The key of a board row.
pub(crate) fn board_key(arrival: u64) -> Vec<u8> {
    format!("board/{arrival:020}").into_bytes()
}

/// The arrivals that the board is rebuilt from, in order.
pub(crate) fn board_arrivals(member: &dyn Member) -> Result<Vec<u64>, Error> {
    let number = |(key, _): (Vec<u8>, Vec<u8>)| String::from_utf8(key).ok()?.parse().ok();
    Ok(member.rows("board/")?.into_iter().filter_map(number).collect())
}

/// The row of the cursor.
pub(crate) fn cursor_row(arrival: u64) -> Row {
    (b"cursor".to_vec(), Some(arrival.to_string().into_bytes()))
}

/// The cursor; 0 when nothing was taken in yet.
pub(crate) fn cursor(member: &dyn Member) -> Result<u64, Error> {
    let rows = member.rows("cursor")?;
    let value = rows.into_iter().find(|(key, _)| key.is_empty()).map(|(_, value)| value);
    Ok(value.and_then(|value| String::from_utf8(value).ok()?.parse().ok()).unwrap_or(0))
}

/// The key of a report that is due.
pub(crate) fn report_key(record: &Hash, channel: &str) -> Vec<u8> {
    format!("report/{record}/{channel}").into_bytes()
}

/// The reports that are due.
pub(crate) fn reports(member: &dyn Member) -> Result<Vec<(Hash, String)>, Error> {
    let open = |(key, _): (Vec<u8>, Vec<u8>)| {
        let key = String::from_utf8(key).ok()?;
        let (record, channel) = key.split_once('/')?;
        Some((record.parse().ok()?, channel.to_owned()))
    };
    Ok(member.rows("report/")?.into_iter().filter_map(open).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn g1_a_known_outcome_is_not_repeated_and_an_unknown_one_once() {
        let first = Attempt::next(None).expect("a first attempt");
        for known in [Outcome::Handed, Outcome::Failed(Judgement::Terminal, FailureReason::Refused)] {
            assert_eq!(Attempt::next(Some(&first.with(known))), None, "{known:?}");
        }
        let second = Attempt::next(Some(&first)).expect("a repeat after a crash");
        assert!(second.possibly_repeated && second.attempts == 2);
        assert_eq!(Attempt::next(Some(&second)), None, "a second repeat");
        let unknown = first.with(Outcome::Failed(Judgement::Unknown, FailureReason::Timeout));
        assert!(Attempt::next(Some(&unknown)).expect("a repeat after a timeout").possibly_repeated);
        let waiting = first.with(Outcome::Failed(Judgement::Retryable, FailureReason::Unreachable));
        assert!(!Attempt::next(Some(&waiting)).expect("a retry").possibly_repeated);
    }

    #[test]
    fn an_attempt_survives_its_row() {
        let attempt = Attempt::never(FailureReason::Expired);
        let (_, value) = attempt_row(&Hash::ZERO, "screen", "a/b", &attempt);
        let back: Attempt = serde_json::from_slice(&value.expect("a value")).expect("an attempt");
        assert_eq!((back, back.reason()), (attempt, Some(FailureReason::Expired)));
    }
}
