//! What stands in a member's log, read from its disk while it runs.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use campanile_alert::message::MessageType;
use campanile_alert::{Alert, OriginId};
use campanile_bus::record::{self, Content, PAYLOAD_TYPE};
use campanile_discovery::roster::Roster;
use campanile_log::bundle::{self, Item};
use campanile_log::{Entry, Lane, LogId, Position, SqliteStore, Standing, Store as _};

/// An alert in a log.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Where it stands.
    pub position: Position,
    /// The message.
    pub alert: Alert,
    /// The identifiers of its causes, as listed.
    pub causes: Vec<String>,
    /// How many causes it has.
    pub cause_count: u32,
    /// Whether it counts, and if not, why.
    pub standing: Standing,
}

impl Logged {
    /// The sites that it names.
    pub fn sites(&self) -> BTreeSet<&str> {
        let areas = self.alert.infos.iter().flat_map(|info| &info.areas);
        let codes = areas.flat_map(|area| &area.geocodes).filter(|code| code.value_name == "campanile:site");
        codes.map(|code| code.value.as_str()).collect()
    }

    /// Whether it counts.
    pub fn counted(&self) -> bool {
        self.standing == Standing::Counted
    }

    /// Whether it is the first message about its event.
    pub fn is_first(&self) -> bool {
        self.alert.msg_type == MessageType::Alert
    }
}

/// The urgent log of an origin.
pub fn urgent(origin: &str) -> LogId {
    LogId::new(origin, Lane::Urgent)
}

/// The alerts in a log, in its order.
///
/// # Errors
/// When the store cannot be read, or a record in it.
pub fn alerts(store: &SqliteStore, log: &LogId) -> Result<Vec<Logged>> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.read(log, after, 1_000, 64 << 20)?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(last.position.place());
        for entry in page {
            found.extend(logged(&entry)?);
        }
    }
}

fn logged(entry: &Entry) -> Result<Option<Logged>> {
    let header = record::open_header(&entry.header)?;
    let body = record::open_body(&header, entry.body.as_ref().context("a record without its body")?)?;
    let Content::Alert { alert, .. } = body.content else { return Ok(None) };
    Ok(Some(Logged {
        position: entry.position,
        alert: alert.as_ref().clone(),
        causes: body.causes.iter().map(|cause| cause.identifier.clone()).collect(),
        cause_count: body.cause_count,
        standing: entry.standing.clone(),
    }))
}

/// Verifies every log of a store: each record's hash, its chain, and its signature by a key of its origin. Gives the
/// number of records.
///
/// # Errors
/// With the faults found.
pub fn verify(store: &SqliteStore, roster: &Roster) -> Result<u64> {
    let report = bundle::verify_store(store, &mut |item| match item {
        Item::Attachment(_) => Ok(()),
        Item::Entry(entry) => signed(entry, roster).map_err(|error| format!("{error:#}")),
    })?;
    ensure!(report.is_sound(), "the store is not sound: {:?} and {} more", report.faults, report.faults_more);
    Ok(report.entries)
}

fn signed(entry: &Entry, roster: &Roster) -> Result<()> {
    let header = record::open_header(&entry.header)?;
    let origin: OriginId = entry.log.origin.parse()?;
    ensure!(header.origin == origin, "the header names another origin");
    let lane = campanile_bus::verify::key_lane(entry.log.lane);
    for signature in record::open_signatures(&entry.signatures)? {
        let key = roster.key(&origin, signature.key_id, lane, header.epoch, header.seq);
        if key.is_ok_and(|key| key.verify(PAYLOAD_TYPE, &entry.header, &signature).is_ok()) {
            return Ok(());
        }
    }
    bail!("no key of {origin} signed {}", entry.position)
}
