//! Fires, and fictional school sites on a grid so wide that each fire has exactly one site beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use campanile_alert::message::{Category, Certainty, MessageType, Scope, Severity, Status, Urgency};
use campanile_alert::{Alert, Area, CapVersion, Circle, DateTime, Info, Point, Timestamp, ValuePair};
use serde_json::json;

/// The rule that closes schools.
pub const RULE: &str = "edb.school-closure.fire";
/// How many sites the grid can have: rows of [`COLUMNS`], all inside the area of the development federation.
pub const SITES_MAX: usize = 93 * COLUMNS;
const COLUMNS: usize = 114;
const PACK: &str = include_str!("../../../services/rules/packs/edb-fire.rules.yaml");

/// Where site `n` is, and fire `n` too. Neighbours are more than 560 m apart, beyond the rule's 500 m.
///
/// # Errors
/// When it is no place.
pub fn place(n: usize) -> Result<Point> {
    let (row, column) = (u16::try_from(n / COLUMNS)?, u16::try_from(n % COLUMNS)?);
    let (lat, lon) = (22.11 + f64::from(row) * 0.0052, 113.81 + f64::from(column) * 0.006);
    Ok(Point::parse(&format!("{lat:.4},{lon:.4}"))?)
}

/// The key of site `n`, as closures name it.
pub fn site(n: usize) -> String {
    format!("98{n:08}")
}

/// The English name of site `n`.
pub fn site_name(n: usize) -> String {
    format!("GRID SCHOOL {n:05}")
}

/// The identifier of fire `n`.
pub fn identifier(n: usize) -> String {
    format!("fire-{n:05}")
}

/// The number of a fire by its identifier.
pub fn number(identifier: &str) -> Option<usize> {
    identifier.strip_prefix("fire-")?.parse().ok()
}

/// Writes the shipped fire pack into a folder, over `sites` sites of the grid; its dates span this test.
///
/// # Errors
/// When a file cannot be written, or the shipped pack is no longer what is varied here.
pub fn write_pack(folder: &Path, sites: usize) -> Result<PathBuf> {
    ensure!(sites <= SITES_MAX, "the grid has {SITES_MAX} sites at most");
    let mut text = PACK.to_owned();
    for (shipped, ours) in
        [("harbour-view-sites.json", "grid-sites.json"), ("2026-09-01", "2020-01-01"), ("2027-08-31", "2099-12-31")]
    {
        ensure!(text.contains(shipped), "the shipped pack no longer says {shipped}");
        text = text.replace(shipped, ours);
    }
    let row = |n| -> Result<serde_json::Value> {
        let at = place(n)?;
        Ok(
            json!({"no": format!("{}01", site(n)), "en": site_name(n), "zh": format!("網格學校{n:05}"), "lat": at.lat, "lon": at.lon}),
        )
    };
    let rows = (0..sites).map(row).collect::<Result<Vec<_>>>()?;
    std::fs::write(folder.join("grid-sites.json"), serde_json::to_vec(&rows)?)?;
    let path = folder.join("edb-fire.rules.yaml");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Fire `n`: a No. 3 alarm fire at site `n`, for six hours.
///
/// # Errors
/// When a value has no CAP form.
pub fn fire(n: usize, now: Timestamp) -> Result<Alert> {
    let mut info = info("fire", &format!("Fire {n}"), place(n)?, now)?;
    info.categories = vec![Category::Fire];
    info.parameters = vec![ValuePair::new("campanile:alarm-level", "3")];
    Ok(alert("fsd", identifier(n), info, now))
}

/// A flood, by any department.
///
/// # Errors
/// When a value has no CAP form.
pub fn flood(department: &str, identifier: &str, now: Timestamp) -> Result<Alert> {
    Ok(alert(department, identifier.into(), info("flood", "Flood", place(7)?, now)?, now))
}

/// An announcement by the observatory that nothing follows from: Minor, so that it goes by the routine lane.
///
/// # Errors
/// When a value has no CAP form.
pub fn announcement(n: usize, now: Timestamp) -> Result<Alert> {
    let mut info = info("special-announcement", &format!("Announcement {n}"), place(7)?, now)?;
    info.severity = Severity::Minor;
    Ok(alert("hko", format!("announcement-{n:05}"), info, now))
}

fn info(event: &str, headline: &str, at: Point, now: Timestamp) -> Result<Info> {
    let expires = now.checked_add(jiff::SignedDuration::from_hours(6)).context("the clock is too late")?;
    Ok(Info {
        language: Some("en".into()),
        categories: vec![Category::Safety],
        event: event.into(),
        response_types: Vec::new(),
        urgency: Urgency::Immediate,
        severity: Severity::Severe,
        certainty: Certainty::Observed,
        audience: None,
        event_codes: vec![ValuePair::new("campanile:event", event)],
        effective: None,
        onset: None,
        expires: Some(DateTime::from_instant(expires, 480)),
        sender_name: None,
        headline: Some(headline.into()),
        description: None,
        instruction: None,
        web: None,
        contact: None,
        parameters: Vec::new(),
        resources: Vec::new(),
        areas: vec![Area { description: headline.into(), circles: vec![Circle::new(at, 0.005)?], ..Area::default() }],
    })
}

fn alert(department: &str, identifier: String, info: Info, now: Timestamp) -> Alert {
    Alert {
        version: CapVersion::V1_2,
        identifier,
        sender: format!("{department}@campanile.hk-dev"),
        sent: DateTime::from_instant(now, 480),
        status: Status::Actual,
        msg_type: MessageType::Alert,
        password: None,
        source: None,
        scope: Some(Scope::Public),
        restriction: None,
        addresses: None,
        codes: Vec::new(),
        note: None,
        references: None,
        incidents: None,
        infos: vec![info],
        signatures: Vec::new(),
    }
}
