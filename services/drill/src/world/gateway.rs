//! The gateway as a sink: what of a record its channels would show, to whom, and with which marks.
//!
//! What is real goes to what is real, and only that; what belongs to this exercise goes to the drill's sink, with the
//! marks in every text. Nothing else goes anywhere.

use std::sync::Arc;

use campanile_alert::{DepartmentId, MessageType, Status, World};

use super::record::{Body, Content, Rec};
use super::{Error, Federation};
use crate::scenario::NodeKind;
use crate::transcript::{Notice, What};

/// The name of the one channel of a gateway.
const CHANNEL: &str = "public";

impl Federation<'_> {
    /// A gateway that has a new alert hands it over, and reports that in its own log.
    pub(super) fn hand_over(&mut self, id: &DepartmentId, rec: &Arc<Rec>) -> Result<(), Error> {
        let now = self.clock_of(id);
        let Some(node) = self.nodes.get(id).filter(|node| node.kind == NodeKind::Gateway) else { return Ok(()) };
        let (Some(alert), Some(world)) = (rec.alert(), rec.world()) else { return Ok(()) };
        // A channel looks when it sends: what has ended meanwhile is not sent.
        let current = match alert.msg_type {
            MessageType::Alert | MessageType::Update => node.holds(rec, now),
            MessageType::Cancel => true,
            MessageType::Ack | MessageType::Error => false,
        };
        let sink = match alert.status {
            Status::Actual if world == World::Actual => false,
            Status::Exercise if world == self.world => true,
            _ => return Ok(()),
        };
        if !current || node.disk_full {
            return Ok(());
        }
        let marker = &self.scenario.mode.marker;
        let marked = |info: &campanile_alert::Info| {
            let headline = info.headline.clone().unwrap_or_else(|| info.event.clone());
            let chinese = info.language.as_ref().is_some_and(|language| language.starts_with("zh"));
            let mark = if chinese && !marker.zh_hant.is_empty() { &marker.zh_hant } else { &marker.en };
            if sink && !headline.starts_with(mark.as_str()) { format!("{mark} {headline}") } else { headline }
        };
        let notice = Notice {
            record: alert.id().to_string(),
            channel: format!("{id}/{CHANNEL}"),
            sink,
            status: Some(alert.status),
            marked: sink,
            headlines: alert.infos.iter().map(marked).collect(),
        };
        let areas = alert.infos.iter().flat_map(|info| info.areas.iter().cloned()).collect();
        self.emit(Some(id), What::Notice(Box::new(notice)));
        self.publish(id, world, Body::plain(Content::Notice(areas)), None)?;
        Ok(())
    }
}
