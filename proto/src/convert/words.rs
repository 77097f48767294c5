//! Small words both ways: classification, times, alert ids, lanes, worlds.

use campanile_alert::classify::Classification;
use campanile_alert::{AlertId, ExerciseId, Timestamp, World};

use super::path::Path;
use super::{Fault, Faults, codes};
use crate::alert::v1 as alert;
use crate::bus::v1 as bus;

/// The first and last second of a `google.protobuf.Timestamp`: years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Writes what a message means in the vocabulary.
pub fn classification_to_wire(words: &Classification) -> alert::Classification {
    alert::Classification {
        event: words.event.clone(),
        level: words.level,
        signal: words.signal.clone(),
        sites: words.sites.clone(),
    }
}

/// Reads what a message means in the vocabulary. Any words are taken: one that a newer vocabulary brings is carried.
pub fn classification_from_wire(words: alert::Classification) -> Classification {
    Classification { event: words.event, level: words.level, signal: words.signal, sites: words.sites }
}

/// Writes an instant, to the nanosecond.
pub fn timestamp_to_wire(time: Timestamp) -> prost_types::Timestamp {
    // The wire counts nanoseconds forward from the second, also before 1970.
    let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
    match nanos < 0 {
        true => prost_types::Timestamp { seconds: seconds - 1, nanos: nanos + 1_000_000_000 },
        false => prost_types::Timestamp { seconds, nanos },
    }
}

/// Reads an instant; `name` is the field it stands in.
///
/// # Errors
/// A [`Fault`] when it is absent, before year 1, after year 9999, or its nanoseconds are not 0 to 999,999,999.
pub fn timestamp_from_wire(time: Option<&prost_types::Timestamp>, name: &str) -> Result<Timestamp, Fault> {
    let fault = |reason: &str| Fault { path: name.into(), reason: reason.into() };
    let time = time.ok_or_else(|| fault("the time is not given"))?;
    if !SECONDS.contains(&time.seconds) || !(0..1_000_000_000).contains(&time.nanos) {
        return Err(fault("the time is out of range; seconds must lie in years 1 to 9999 and nanos in 0 to 999999999"));
    }
    Timestamp::new(time.seconds, time.nanos).map_err(|_| fault("the time is beyond the last day of year 9999"))
}

/// Names one alert exactly.
pub fn alert_id_to_wire(id: &AlertId) -> bus::AlertRef {
    bus::AlertRef { sender: id.sender().into(), identifier: id.identifier().into(), sent: id.sent().into() }
}

/// Reads the name of one alert, where all three parts are needed.
///
/// # Errors
/// A [`Fault`] for each part that is missing, or one when the whole is.
pub fn alert_id_from_wire(id: Option<bus::AlertRef>) -> Result<AlertId, Vec<Fault>> {
    let wanted = wanted_alert_from_wire(id)?;
    let path = Path::Root("id");
    let mut faults = Faults::default();
    let part = |part: Option<String>| part.ok_or("it is not given; the whole name is needed here");
    let sender = faults.keep(path.field("sender"), part(wanted.sender));
    let sent = faults.keep(path.field("sent"), part(wanted.sent));
    let id = sender.zip(sent).map(|(sender, sent)| AlertId::new(sender, wanted.identifier, sent));
    faults.finish(id)
}

/// An alert as a person names it: the identifier, and as much of the rest as makes it clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedAlert {
    /// CAP `sender`; absent means any.
    pub sender: Option<String>,
    /// CAP `identifier`.
    pub identifier: String,
    /// The text of CAP `sent`; absent means any.
    pub sent: Option<String>,
}

impl WantedAlert {
    /// Whether `id` is one that was meant.
    pub fn matches(&self, id: &AlertId) -> bool {
        *self.identifier == *id.identifier()
            && self.sender.as_ref().is_none_or(|sender| **sender == *id.sender())
            && self.sent.as_ref().is_none_or(|sent| **sent == *id.sent())
    }

    /// The exact id, when all three parts were given.
    pub fn exact(&self) -> Option<AlertId> {
        Some(AlertId::new(self.sender.as_deref()?, self.identifier.as_str(), self.sent.as_deref()?))
    }
}

/// Reads the name of an alert, of which only the identifier must be given.
///
/// # Errors
/// A [`Fault`] when the name or its identifier is missing.
pub fn wanted_alert_from_wire(id: Option<bus::AlertRef>) -> Result<WantedAlert, Vec<Fault>> {
    let fault = |path: &str, reason: &str| vec![Fault { path: path.into(), reason: reason.into() }];
    let id = id.ok_or_else(|| fault("id", "the alert is not named; give at least its identifier"))?;
    if id.identifier.is_empty() {
        return Err(fault("id.identifier", "it is not given; sender and sent may be left out, the identifier may not"));
    }
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(WantedAlert { sender: given(id.sender), identifier: id.identifier, sent: given(id.sent) })
}

/// Reads a lane; `name` is the field it stands in. The result is never [`bus::Lane::Unspecified`].
///
/// # Errors
/// A [`Fault`] when it is unspecified or not a value at all.
pub fn lane_from_wire(value: i32, name: &str) -> Result<bus::Lane, Fault> {
    let reason = match bus::Lane::try_from(value) {
        Ok(bus::Lane::Unspecified) => "the lane is not given; say urgent, routine or exercise".into(),
        Ok(lane) => return Ok(lane),
        Err(_) => format!("{value} is no value of Lane; the sender may use a newer protocol"),
    };
    Err(Fault { path: name.into(), reason })
}

/// The lane's name in text: `urgent`, `routine`, `exercise`; empty for the unspecified one.
pub fn lane_name(lane: bus::Lane) -> &'static str {
    match lane {
        bus::Lane::Unspecified => "",
        bus::Lane::Urgent => "urgent",
        bus::Lane::Routine => "routine",
        bus::Lane::Exercise => "exercise",
    }
}

/// The lane of that name; `None` for any other text.
pub fn lane_named(text: &str) -> Option<bus::Lane> {
    [bus::Lane::Urgent, bus::Lane::Routine, bus::Lane::Exercise].into_iter().find(|&lane| lane_name(lane) == text)
}

/// Writes a world as the status that an effect in it carries, and the exercise.
pub fn world_to_wire(world: &World) -> (alert::Status, Option<String>) {
    (codes::status_to_wire(world.status()), world.exercise().map(ToString::to_string))
}

/// Reads the world of a message with that status and exercise.
///
/// # Errors
/// A [`Fault`] for a status that is unspecified, an exercise id that is not one, or two that do not go together.
pub fn world_from_wire(status: i32, exercise_id: Option<&str>) -> Result<World, Vec<Fault>> {
    let mut faults = Faults::default();
    let status = faults.keep(Path::Root("status"), codes::status_from_wire(status));
    let path = Path::Root("exercise_id");
    let exercise = match exercise_id {
        Some(text) => faults.keep(path, ExerciseId::try_new(text)).map(Some),
        None => Some(None),
    };
    let world =
        status.zip(exercise).and_then(|(status, exercise)| faults.keep(path, World::of(status, exercise.as_ref())));
    faults.finish(world)
}
