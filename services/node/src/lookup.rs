//! Finding alerts in what the node holds, and showing them to callers.

use std::sync::Arc;

use campanile_alert::live::State;
use campanile_alert::{AlertId, DepartmentId, ExerciseId, OriginId, World};
use campanile_bus::record::{Body, Content, position_to_wire};
use campanile_bus::{Arrival, Bus, pipeline};
use campanile_log::{Hash, Standing};
use campanile_proto::alert::v1 as alert_wire;
use campanile_proto::bus::v1 as wire;
use campanile_proto::convert::{self, WantedAlert};
use tonic::{Code, Status};

use crate::status::{field, internal, refuse};

/// How many later records are looked through for the effects and hand-overs of an alert.
const FOLLOW_MAX: u64 = 100_000;
/// How many effects and hand-overs are shown of one alert.
const SHOWN_MAX: usize = 1_000;

/// An alert with the record around it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The record.
    pub arrival: Arc<Arrival>,
    /// Where the alert stands now; absent when it is neither Alert nor Update, does not count, or is long gone.
    pub state: Option<State>,
}

/// Finds one alert by a full or partial identity.
///
/// # Errors
/// NOT_FOUND, or FAILED_PRECONDITION when a partial identity names several.
pub async fn find(bus: &Bus, wanted: &WantedAlert) -> Result<Found, Status> {
    let arrival = match wanted.exact() {
        Some(id) => by_id(bus, &id).await?,
        None => by_part(bus, wanted).await?,
    };
    Ok(with_state(bus, arrival))
}

/// The alert of that identity, of whichever department; from the permanent index.
async fn by_id(bus: &Bus, id: &AlertId) -> Result<Arc<Arrival>, Status> {
    let roster = bus.roster().current();
    for department in &roster.departments {
        let key = pipeline::alert_key(&department.id, id);
        let recorded = bus.store().find(&key).map_err(|error| internal("the store could not be read", &error))?;
        if let Some(recorded) = recorded {
            return by_hash(bus, recorded.position.hash).await;
        }
    }
    Err(not_found())
}

/// The one alert that the part names, among those that are in force or ended lately.
async fn by_part(bus: &Bus, wanted: &WantedAlert) -> Result<Arc<Arrival>, Status> {
    // The projection is written in the commit that is in the making; what is not on the disk yet is not found.
    let durable = *bus.changed().borrow();
    let found: Vec<u64> = {
        let current = bus.current().lock();
        let entries = current.ledger().entries().filter(|entry| entry.seen && wanted.matches(&entry.id));
        let marks = entries.filter_map(campanile_bus::current::mark_of).map(|mark| mark.arrival);
        marks.filter(|arrival| *arrival <= durable).take(2).collect()
    };
    match found.as_slice() {
        [] => Err(not_found()),
        [arrival] => by_arrival(bus, *arrival).await,
        _ => Err(refuse(
            Code::FailedPrecondition,
            "AMBIGUOUS",
            "several alerts have this identifier; give sender and sent as well",
        )),
    }
}

fn not_found() -> Status {
    refuse(Code::NotFound, "NOT_FOUND", "no alert of that identity is held here; check sender, identifier and sent")
}

/// The record with an arrival number.
///
/// # Errors
/// INTERNAL when the store cannot be read, NOT_FOUND when there is none.
pub async fn by_arrival(bus: &Bus, number: u64) -> Result<Arc<Arrival>, Status> {
    let arrivals = bus.arrivals(number.saturating_sub(1), 1).await;
    let arrivals = arrivals.map_err(|error| internal("the store could not be read", &error))?;
    arrivals.into_iter().next().ok_or_else(not_found)
}

async fn by_hash(bus: &Bus, hash: Hash) -> Result<Arc<Arrival>, Status> {
    let store = Arc::clone(bus.store());
    let read = tokio::task::spawn_blocking(move || store.by_hash(&hash)).await;
    let entry = read
        .map_err(|error| internal("a read was cut short", &error))?
        .map_err(|error| internal("the store could not be read", &error))?
        .ok_or_else(not_found)?;
    let arrival = pipeline::reopen(entry, bus.clock().now())
        .map_err(|error| internal("a stored record is not readable", &error))?;
    Ok(Arc::new(arrival))
}

/// Adds where the alert stands now.
pub fn with_state(bus: &Bus, arrival: Arc<Arrival>) -> Found {
    let state = alert_of(&arrival).and_then(|(alert, _)| {
        let department = arrival.header.origin.department();
        let now = bus.clock().now();
        bus.current().lock().state(department, &arrival.header.world, &alert.id(), now)
    });
    Found { arrival, state }
}

/// The alert in a record, with the body around it.
pub fn alert_of(arrival: &Arrival) -> Option<(&Arc<campanile_alert::Alert>, &Body)> {
    let body = arrival.body.as_deref()?;
    match &body.content {
        Content::Alert { alert, .. } => Some((alert, body)),
        _ => None,
    }
}

/// The alerts that name this one as a cause, and what gateways did with it, as far as this node knows.
///
/// # Errors
/// INTERNAL when the store cannot be read.
pub async fn follow(
    bus: &Bus,
    arrival: &Arrival,
) -> Result<(Vec<Arc<Arrival>>, Vec<campanile_proto::gateway::v1::DeliveryReport>), Status> {
    let hash = arrival.entry.position.hash.0;
    let (mut effects, mut deliveries) = (Vec::new(), Vec::new());
    // Clocks of other departments may be ahead of the order of arrival: an effect can come here before its cause.
    let mut after = arrival.entry.arrival.saturating_sub(1_000);
    let end = after.saturating_add(FOLLOW_MAX);
    while after < end && effects.len() < SHOWN_MAX && deliveries.len() < SHOWN_MAX {
        let page = bus.arrivals(after, 1_000).await.map_err(|error| internal("the store could not be read", &error))?;
        let Some(last) = page.last() else { break };
        after = last.entry.arrival;
        for other in page {
            let Some(body) = &other.body else { continue };
            match &body.content {
                Content::Alert { .. } if body.causes.iter().any(|cause| cause.record_hash == hash.as_slice()) => {
                    effects.push(other);
                }
                Content::DeliveryReport(report) if report.record_hash == hash => deliveries.push(report.clone()),
                _ => {}
            }
        }
    }
    Ok((effects, deliveries))
}

/// An alert as callers see it; `None` when the record holds none or its body is not here.
pub fn to_wire(found: &Found) -> Option<wire::AlertRecord> {
    let arrival = &found.arrival;
    let (alert, body) = alert_of(arrival)?;
    let not_counted = match &arrival.entry.standing {
        Standing::Counted | Standing::NoBody => String::new(),
        Standing::NotCounted { reason } => reason.clone(),
    };
    Some(wire::AlertRecord {
        alert: Some(convert::alert_to_wire(alert)),
        classification: Some(convert::classification_to_wire(&body.classification)),
        position: Some(position_to_wire(&arrival.entry.log, &arrival.entry.position)),
        department: arrival.header.origin.department().to_string(),
        time: Some(convert::timestamp_to_wire(arrival.header.time)),
        received: Some(convert::timestamp_to_wire(arrival.received)),
        causes: body.causes.clone(),
        rule: body.rule.clone(),
        depth: body.depth,
        exercise_id: arrival.header.world.exercise().map(|id| id.as_str().to_owned()),
        traceparent: body.traceparent.clone(),
        state: state_to_wire(found.state).into(),
        not_counted,
    })
}

fn state_to_wire(state: Option<State>) -> wire::AlertState {
    match state {
        None => wire::AlertState::Unspecified,
        Some(State::InForce) => wire::AlertState::InForce,
        Some(State::Superseded) => wire::AlertState::Superseded,
        Some(State::Cancelled) => wire::AlertState::Cancelled,
        Some(State::Expired) => wire::AlertState::Expired,
        Some(State::AllClear) => wire::AlertState::AllClear,
    }
}

/// A filter that can match: what it names exists, so that a slip of the pen is not taken for silence.
///
/// # Errors
/// A refusal of the field at fault.
pub fn filter(asked: Option<wire::Filter>) -> Result<wire::Filter, Status> {
    let filter = asked.unwrap_or_default();
    for department in &filter.departments {
        DepartmentId::try_new(department).map_err(|error| field("filter.departments", error.to_string()))?;
    }
    for status in &filter.statuses {
        if alert_wire::Status::try_from(*status).unwrap_or_default() == alert_wire::Status::Unspecified {
            return Err(field("filter.statuses", format!("{status} is no status; name one, or leave the list empty")));
        }
    }
    for severity in &filter.severities {
        if alert_wire::Severity::try_from(*severity).unwrap_or_default() == alert_wire::Severity::Unspecified {
            return Err(field("filter.severities", format!("{severity} is no severity; name one, or leave it empty")));
        }
    }
    if !filter.exercise_id.is_empty() {
        ExerciseId::try_new(&filter.exercise_id).map_err(|error| field("filter.exercise_id", error.to_string()))?;
    }
    Ok(filter)
}

/// True when the record is an alert that the filter lets through.
pub fn admits(filter: &wire::Filter, origin: &OriginId, world: &World, arrival: &Arrival) -> bool {
    let Some((alert, body)) = alert_of(arrival) else { return false };
    let any = |list: &[String], value: Option<&str>| list.is_empty() || list.iter().any(|v| Some(v.as_str()) == value);
    let status = i32::from(convert::status_to_wire(alert.status));
    let severity = alert.severity().map(|severity| i32::from(convert::severity_to_wire(severity)));
    any(&filter.departments, Some(origin.department().as_str()))
        && any(&filter.events, body.classification.event.as_deref())
        && (filter.statuses.is_empty() || filter.statuses.contains(&status))
        && (filter.severities.is_empty() || severity.is_some_and(|s| filter.severities.contains(&s)))
        && (filter.exercise_id.is_empty() || world.exercise().is_some_and(|id| id.as_str() == filter.exercise_id))
}
