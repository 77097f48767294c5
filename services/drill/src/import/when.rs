//! The scenario time of an inject in the forms that lists have.
//!
//! | written | means |
//! |---|---|
//! | `T+0m`, `T+1h30m`, `T+1:30` | so long after the start |
//! | `D+2 H+3 M+45`, any of the three | the same, in days, hours and minutes |
//! | `10:45` | the wall clock on the day of the start |
//! | `D+1 09:10` | the wall clock on a later day |
//! | a date with its time | the wall clock in the zone of the start |

use campanile_alert::DateTime;
use jiff::civil;

use super::sheet::Cell;
use crate::time::{DRILL_MS_MAX, Offset};

const MINUTE_MS: i64 = 60_000;
const DAY_MIN: i64 = 24 * 60;

/// The offset of a cell from the start.
///
/// # Errors
/// A sentence that says what is wrong and what to write.
pub(super) fn offset(cell: Option<&Cell>, start: &DateTime) -> Result<Offset, String> {
    let Some(cell) = cell else { return Err("the inject has no time; write for example T+15m or 10:35".into()) };
    let shown = cell.text();
    let ms = match cell {
        Cell::Text(text) => written(text, start)
            .ok_or_else(|| format!("{shown:?} is no time; write for example T+15m, D+0 H+1 M+30 or 10:35"))?,
        Cell::Days(days) => (days * DAY_MIN as f64).round() as i64 * MINUTE_MS - of_day(start),
        Cell::Moment(year, month, day, hour, minute, second) => {
            let small = |number: u8| i8::try_from(number).unwrap_or(-1);
            let year = i16::try_from(*year).unwrap_or(-1);
            civil::DateTime::new(year, small(*month), small(*day), small(*hour), small(*minute), small(*second), 0)
                .ok()
                .and_then(|at| since(start, at))
                .ok_or_else(|| format!("{shown:?} is no time; write for example T+15m or 10:35"))?
        }
    };
    match ms {
        ..0 => {
            Err(format!("{shown:?} is before the start at {}; write a later time, or give another start", start.text()))
        }
        0..=DRILL_MS_MAX => Ok(Offset::from_ms(ms)),
        _ => Err(format!("{shown:?} is more than 31 days after the start; split the drill")),
    }
}

/// Milliseconds from midnight to the start, as its wall clock shows.
fn of_day(start: &DateTime) -> i64 {
    let part =
        |at: std::ops::Range<usize>| start.text().get(at).and_then(|digits| digits.parse().ok()).unwrap_or(0_i64);
    ((part(11..13) * 60 + part(14..16)) * 60 + part(17..19)) * 1000
}

fn since(start: &DateTime, at: civil::DateTime) -> Option<i64> {
    let zero: civil::DateTime = start.text().get(..19)?.parse().ok()?;
    i64::try_from(at.duration_since(zero).as_millis()).ok()
}

fn written(text: &str, start: &DateTime) -> Option<i64> {
    let text = text.trim().replace(['＋', '﹢'], "+").replace('：', ":").to_ascii_uppercase();
    if let Some(after) = text.strip_prefix("T+") {
        return match clock(after) {
            Some(minutes) => minutes.checked_mul(MINUTE_MS),
            None => format!("T+{}", after.trim().to_ascii_lowercase()).parse::<Offset>().ok().map(Offset::ms),
        };
    }
    let (mut minutes, mut wall, mut parts) = (0_i64, None, 0);
    for word in text.split_whitespace() {
        parts += 1;
        if let Some(at) = clock(word) {
            if wall.replace(at).is_some() || at >= DAY_MIN {
                return None;
            }
            continue;
        }
        let (unit, number) = [("D", DAY_MIN), ("H", 60), ("M", 1)]
            .into_iter()
            .find_map(|(unit, minutes)| Some((minutes, word.strip_prefix(unit)?)))?;
        // `D-1` is before the start; whoever wrote it is told so.
        let number: i64 = number.parse().ok()?;
        minutes = minutes.checked_add(number.checked_mul(unit)?)?;
    }
    match (parts, wall) {
        (0, _) | (4.., _) => None,
        (_, None) => minutes.checked_mul(MINUTE_MS),
        // With a wall clock only days can stand.
        (_, Some(_)) if minutes % DAY_MIN != 0 => None,
        (_, Some(wall)) => (minutes + wall).checked_mul(MINUTE_MS)?.checked_sub(of_day(start)),
    }
}

/// Minutes of `hh:mm` or `hh:mm:ss`; the seconds must be none.
fn clock(text: &str) -> Option<i64> {
    let mut parts = text.trim().split(':');
    let (hours, minutes) = (parts.next()?, parts.next()?);
    let digits = |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let seconds = parts.next().is_none_or(|seconds| seconds == "00");
    if !digits(hours, 3) || !digits(minutes, 2) || !seconds || parts.next().is_some() {
        return None;
    }
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (minutes < 60).then_some(hours * 60 + minutes)
}
