//! May this department originate this alert? Asked at publish, and again by every receiver.

use campanile_alert::geometry::within;
use campanile_alert::message::Status;
use campanile_alert::{Area, DepartmentId, ValuePair};
use serde::{Deserialize, Serialize};

use super::{ANY_EVENT, Department, Right};

/// The geocode value in a right that stands for every code of its name, for example of `campanile:site`.
pub const ANY_CODE: &str = "*";

/// Where a right holds: everywhere, in so many words, or inside an area.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub enum RightArea {
    /// No limit of place; `{"everywhere": true}`.
    Everywhere,
    /// Inside the area's shapes and codes; a CAP area. A geocode with value `"*"` stands for all codes of that name.
    Within(Box<Area>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Wire {
    Everywhere(Everywhere),
    Within(Box<Area>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Everywhere {
    everywhere: bool,
}

impl TryFrom<Wire> for RightArea {
    type Error = String;

    fn try_from(wire: Wire) -> Result<Self, String> {
        match wire {
            Wire::Everywhere(Everywhere { everywhere: true }) => Ok(Self::Everywhere),
            Wire::Everywhere(_) => Err("everywhere is false; give an area with shapes or codes instead".into()),
            Wire::Within(a) if a.polygons.is_empty() && a.circles.is_empty() && a.geocodes.is_empty() => {
                Err("the area of a right has neither shapes nor codes; write {\"everywhere\": true} if that is meant"
                    .into())
            }
            Wire::Within(area) => Ok(Self::Within(area)),
        }
    }
}

impl From<RightArea> for Wire {
    fn from(area: RightArea) -> Self {
        match area {
            RightArea::Everywhere => Self::Everywhere(Everywhere { everywhere: true }),
            RightArea::Within(area) => Self::Within(area),
        }
    }
}

/// Why a department may not originate an alert.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RightRefusal {
    /// Not a member.
    #[error("roster {roster} does not list the department {department}")]
    NotMember {
        /// The roster asked.
        roster: u64,
        /// The department.
        department: DepartmentId,
    },
    /// No right names the event.
    #[error("{department} may not originate {event}; roster {roster} gives it {allowed}")]
    Event {
        /// The roster asked.
        roster: u64,
        /// The department.
        department: DepartmentId,
        /// The event, or `an unclassified alert`.
        event: String,
        /// What it may originate, in words.
        allowed: String,
    },
    /// The event is allowed, but not with this status.
    #[error("{department} may not originate {event} with status {status:?}; roster {roster} gives it other statuses")]
    Status {
        /// The roster asked.
        roster: u64,
        /// The department.
        department: DepartmentId,
        /// The event.
        event: String,
        /// The status.
        status: Status,
    },
    /// The event and status are allowed, but not there.
    #[error(
        "{department} may not originate {event} for {place}; it lies outside the area that roster {roster} gives it"
    )]
    Area {
        /// The roster asked.
        roster: u64,
        /// The department.
        department: DepartmentId,
        /// The event.
        event: String,
        /// The first area that is outside, in the alert's own words.
        place: String,
    },
}

/// What one department may originate, according to one roster.
#[derive(Debug, Clone, Copy)]
pub struct Rights<'r> {
    roster: u64,
    id: &'r DepartmentId,
    department: Option<&'r Department>,
}

impl<'r> Rights<'r> {
    pub(super) fn new(roster: u64, id: &'r DepartmentId, department: Option<&'r Department>) -> Self {
        Self { roster, id, department }
    }

    /// Checks one alert: its event (absent: unclassified), its status and all its areas.
    ///
    /// One right must cover all three at once. An alert without areas (a Cancel, an Ack) is judged by event and
    /// status alone.
    ///
    /// # Errors
    /// [`RightRefusal`], naming the first of event, status and area that no right covers.
    pub fn allow(&self, event: Option<&str>, status: Status, areas: &[Area]) -> Result<(), RightRefusal> {
        let (roster, id) = (self.roster, self.id);
        let Some(department) = self.department else {
            return Err(RightRefusal::NotMember { roster, department: id.clone() });
        };
        let words = event.map_or_else(|| "an unclassified alert".to_owned(), |e| e.chars().take(64).collect());
        let of_event: Vec<&Right> = department
            .rights
            .iter()
            .filter(|r| r.events.iter().any(|e| e == ANY_EVENT || Some(e.as_str()) == event))
            .collect();
        if of_event.is_empty() {
            let mut events: Vec<&str> = department.rights.iter().flat_map(|r| &r.events).map(String::as_str).collect();
            events.sort_unstable();
            events.dedup();
            let allowed = if events.is_empty() { "nothing".to_owned() } else { events.join(", ") };
            return Err(RightRefusal::Event { roster, department: id.clone(), event: words, allowed });
        }
        let of_status: Vec<&Right> = of_event.into_iter().filter(|r| r.statuses.contains(&status)).collect();
        if of_status.is_empty() {
            return Err(RightRefusal::Status { roster, department: id.clone(), event: words, status });
        }
        if of_status.iter().any(|r| covers(&r.area, areas)) {
            return Ok(());
        }
        let outside = |area: &&Area| !of_status.iter().any(|r| covers(&r.area, std::slice::from_ref(*area)));
        let place = areas.iter().find(outside).or(areas.first()).map(|a| a.description.chars().take(80).collect());
        let place = place.unwrap_or_else(|| "that place".to_owned());
        Err(RightRefusal::Area { roster, department: id.clone(), event: words, place })
    }
}

fn covers(right: &RightArea, areas: &[Area]) -> bool {
    match right {
        RightArea::Everywhere => true,
        RightArea::Within(outer) => areas.iter().all(|area| inside(area, outer)),
    }
}

/// An alert's target is the union of its shapes and codes, so both must be inside: every shape inside one of the
/// right's, every code among the right's. An area with neither cannot be placed, and is outside.
fn inside(area: &Area, outer: &Area) -> bool {
    let shaped = !area.polygons.is_empty() || !area.circles.is_empty();
    let listed = |code: &ValuePair| {
        let same = |o: &ValuePair| o.value_name == code.value_name && (o.value == code.value || o.value == ANY_CODE);
        outer.geocodes.iter().any(same)
    };
    let shapes_inside = !shaped || within(std::slice::from_ref(area), std::slice::from_ref(outer));
    (shaped || !area.geocodes.is_empty()) && shapes_inside && area.geocodes.iter().all(listed)
}
