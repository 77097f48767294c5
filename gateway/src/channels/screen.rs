//! Lift screens: a page for each block of an estate, which shows the alerts whose area the estate lies in or near.
//!
//! A screen must never show an alert that is over, even if this gateway is gone: the page knows when each alert expires
//! and takes it down itself, by a clock of its own that does not follow the device's. [`Blocks`] is what stands on the
//! screens; the broker of [`super::mqtt`] shows the same through another provider.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use campanile_alert::{Alert, DateTime, Severity, Timestamp};
use campanile_log::Hash;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast;

use super::{Channel, Endpoint, Health, Outcome, Parts};
use crate::estates::{Block, Estates};
use crate::notice::{EndNotice, Judge, LiveNotice};
use crate::texts::{Language, Texts};

/// The most alerts on one screen; the most severe and newest stay.
const ALERTS_MAX: usize = 8;
/// The longest text on a screen, in characters; the rest is cut and marked with `…`.
const TEXT_CHARS_MAX: usize = 1_000;
/// How many changes a slow page may lag behind before it is told to fetch everything.
const CHANGES_MAX: usize = 1_024;

/// One alert as it stands on a screen.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScreenAlert {
    /// The record's hash.
    pub record: Hash,
    /// CAP `sender`.
    pub sender: String,
    /// CAP `identifier`.
    pub identifier: String,
    /// The text of CAP `sent`.
    pub sent: String,
    /// The event's code; absent when it is unclassified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// CAP `severity`.
    pub severity: Severity,
    /// When it must be gone, in UTC.
    pub expires: Timestamp,
    /// The words, by language.
    pub texts: BTreeMap<&'static str, Texts>,
}

impl ScreenAlert {
    fn of(notice: &LiveNotice) -> Option<Self> {
        let incoming = notice.incoming();
        let id = incoming.id();
        let texts = Language::ALL.map(|language| (language.tag(), short(notice.texts(language))));
        Some(Self {
            record: incoming.record,
            sender: id.sender().to_string(),
            identifier: id.identifier().to_string(),
            sent: id.sent().to_string(),
            event: incoming.classification.event.clone(),
            severity: incoming.alert.severity().unwrap_or(Severity::Unknown),
            expires: incoming.alert.expires()?,
            texts: texts.into_iter().collect(),
        })
    }
}

fn short(texts: Texts) -> Texts {
    let cut = |text: String| match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    };
    Texts {
        headline: cut(texts.headline),
        description: texts.description.map(cut),
        instruction: texts.instruction.map(cut),
        area: cut(texts.area),
        ..texts
    }
}

/// What stands on the screens, by block.
#[derive(Debug, Default)]
pub struct Blocks(Mutex<HashMap<Endpoint, BTreeMap<Hash, LiveNotice>>>);

impl Blocks {
    /// Puts a notice on a block's screens; false when it was there.
    pub fn add(&self, endpoint: &Endpoint, notice: &LiveNotice) -> bool {
        let mut blocks = self.0.lock();
        blocks.entry(Arc::clone(endpoint)).or_default().insert(notice.incoming().record, notice.clone()).is_none()
    }

    /// Takes an alert off; false when it was not there.
    pub fn remove(&self, endpoint: &Endpoint, record: &Hash) -> bool {
        let mut blocks = self.0.lock();
        blocks.get_mut(endpoint).is_some_and(|block| block.remove(record).is_some())
    }

    /// What a block shows now: the most severe first, then the newest. What no longer holds is left out.
    pub fn alerts(&self, endpoint: &str, judge: &Judge) -> Vec<ScreenAlert> {
        let notices: Vec<LiveNotice> =
            self.0.lock().get(endpoint).map(|block| block.values().cloned().collect()).unwrap_or_default();
        let mut holding: Vec<&LiveNotice> = notices.iter().filter(|notice| judge.still_holds(notice)).collect();
        holding.sort_by_key(|notice| {
            let incoming = notice.incoming();
            (incoming.alert.severity(), std::cmp::Reverse((incoming.time, incoming.record)))
        });
        holding.into_iter().take(ALERTS_MAX).filter_map(ScreenAlert::of).collect()
    }

    /// The blocks that have or had something on them.
    pub fn touched(&self) -> Vec<Endpoint> {
        self.0.lock().keys().cloned().collect()
    }
}

/// What a page shows.
#[derive(Debug, Serialize)]
pub struct ScreenState {
    /// The gateway's time, so that the page can count without trusting the device's clock.
    pub now: Timestamp,
    /// The same as Hong Kong's wall clock has it, `hh:mm`.
    pub clock: String,
    /// What is in force for the block.
    pub alerts: Vec<ScreenAlert>,
}

/// The pages of the lift screens.
#[derive(Debug)]
pub struct Screens {
    estates: Arc<Estates>,
    margin_m: f64,
    judge: Judge,
    blocks: Blocks,
    changes: broadcast::Sender<Endpoint>,
}

impl Screens {
    /// Screens that show nothing yet.
    pub fn new(parts: &Parts) -> Self {
        Self {
            estates: Arc::clone(&parts.estates),
            margin_m: parts.screen_margin_m,
            judge: parts.judge.clone(),
            blocks: Blocks::default(),
            changes: broadcast::channel(CHANGES_MAX).0,
        }
    }

    /// The block at an address.
    pub fn block(&self, address: &str) -> Option<&Block> {
        self.estates.get(address)
    }

    /// All blocks.
    pub fn estates(&self) -> &Estates {
        &self.estates
    }

    /// What the screens of a block show now.
    pub fn state(&self, address: &str) -> ScreenState {
        let now = self.judge.now();
        let local = DateTime::from_instant(now, 8 * 60);
        ScreenState {
            now,
            clock: local.text().get(11..16).unwrap_or_default().to_owned(),
            alerts: self.blocks.alerts(address, &self.judge),
        }
    }

    /// Says which blocks change.
    pub fn changes(&self) -> broadcast::Receiver<Endpoint> {
        self.changes.subscribe()
    }

    fn tell(&self, endpoint: &Endpoint) {
        // Nobody may be looking: that is no fault.
        let _listeners = self.changes.send(Arc::clone(endpoint));
    }
}

#[async_trait]
impl Channel for Screens {
    fn name(&self) -> &'static str {
        "screen"
    }

    fn endpoints(&self, alert: &Alert) -> Vec<Endpoint> {
        self.estates.concerned(alert, self.margin_m).into_iter().map(|block| block.address().into()).collect()
    }

    fn is_in_process(&self) -> bool {
        true
    }

    async fn hand(&self, notice: &LiveNotice, endpoint: &Endpoint) -> Outcome {
        if self.blocks.add(endpoint, notice) {
            self.tell(endpoint);
        }
        Outcome::Handed
    }

    async fn clear(&self, end: &EndNotice, endpoint: &Endpoint) -> Outcome {
        if self.blocks.remove(endpoint, &end.incoming().record) {
            self.tell(endpoint);
        }
        Outcome::Handed
    }

    fn restore(&self, notice: &LiveNotice, endpoints: &[Endpoint]) {
        for endpoint in endpoints {
            self.blocks.add(endpoint, notice);
        }
    }

    async fn probe(&self) -> Health {
        Health::Up
    }
}
