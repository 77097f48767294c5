//! May this department originate this alert? Asked at publish, and again by every receiver.

use campanile_alert::message::Status;
use campanile_alert::{Area, Circle, DepartmentId, Point};
use serde::{Deserialize, Serialize};

use super::{ANY_EVENT, Department, Right};

/// Where a right holds: everywhere, in so many words, or inside an area.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub enum RightArea {
    /// No limit of place; `{"everywhere": true}`.
    Everywhere,
    /// Inside the union of the area's shapes and codes; a CAP area.
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
        RightArea::Within(outer) => areas.is_empty() || within(areas, std::slice::from_ref(outer)),
    }
}

/// Whether every shape and code of `inner` lies in `outer`: by corners, eight points on each circle, and equal codes.
fn within(inner: &[Area], outer: &[Area]) -> bool {
    inner.iter().all(|area| {
        let codes = area.geocodes.iter().all(|code| outer.iter().any(|o| o.geocodes.contains(code)));
        let corners = area.polygons.iter().flat_map(|p| p.points().iter().copied());
        let rims = area.circles.iter().flat_map(|c| {
            let (centre, km) = (c.centre(), c.radius_km());
            (0..8).map(move |i| {
                let angle = f64::from(i) * std::f64::consts::FRAC_PI_4;
                let (north, east) = (km / 110.574 * angle.cos(), km / 111.32 * angle.sin());
                Point { lat: centre.lat + north, lon: centre.lon + east / centre.lat.to_radians().cos().max(0.01) }
            })
        });
        let mut points = corners.chain(rims).peekable();
        let shapeless = points.peek().is_none();
        (!shapeless || !area.geocodes.is_empty()) && codes && points.all(|p| outer.iter().any(|o| holds(o, p)))
    })
}

fn holds(area: &Area, p: Point) -> bool {
    let in_ring = |ring: &[Point]| {
        ring.windows(2).fold(false, |inside, pair| match pair {
            [a, b] if (a.lat > p.lat) != (b.lat > p.lat) => {
                inside != (p.lon < (b.lon - a.lon) * (p.lat - a.lat) / (b.lat - a.lat) + a.lon)
            }
            _ => inside,
        })
    };
    let near = |c: &Circle| {
        let (north, east) =
            ((p.lat - c.centre().lat) * 111.0, (p.lon - c.centre().lon) * 111.32 * p.lat.to_radians().cos());
        north.hypot(east) <= c.radius_km()
    };
    area.polygons.iter().any(|ring| in_ring(ring.points())) || area.circles.iter().any(near)
}
