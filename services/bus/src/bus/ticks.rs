//! The moments that the rules wait for, written down as records, with who was heard just before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use campanile_alert::{DepartmentId, Scope, Status, Timestamp};
use campanile_log::{Lane, LogId};
use tracing::warn;

use super::{Bus, plain_draft};
use crate::derive;
use crate::record::{Audience, Content, Draft, HEARD_MAX, Tick};

/// How often the clock is looked at while a tick is due; the clock may be set by a test or by an operator.
const TICK_EVERY: Duration = Duration::from_millis(50);
/// How long ago a department may have been heard for a tick to say so; bookmarks come every five seconds.
const HEARD_WITHIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

impl Bus {
    /// The other departments of which a node's logs have been followed up to their ends within the last minute.
    fn heard(&self) -> Vec<DepartmentId> {
        let now = self.0.clock.now();
        let views = self.0.pullers.views();
        let fresh = |log: LogId| {
            let Some(view) = views.get(&log) else { return false };
            let lately = view.heard.is_some_and(|at| now.duration_since(at) <= HEARD_WITHIN);
            let held = self.0.store.tail(&log).map(|tail| tail.place());
            lately && view.seen.as_ref().is_none_or(|seen| held.is_some_and(|held| held >= seen.place()))
        };
        let roster = self.0.roster.current();
        let others = roster.origins.iter().filter(|other| other.id.department() != self.0.origin.department());
        let real = [Lane::Urgent, Lane::Routine];
        let heard = others.filter(|other| real.into_iter().all(|lane| fresh(LogId::new(other.id.to_string(), lane))));
        let heard: BTreeSet<DepartmentId> = heard.map(|other| other.id.department().clone()).collect();
        heard.into_iter().take(HEARD_MAX).collect()
    }

    /// The other departments that are not heard now, as a tick would say, and when they were heard last; `None` means
    /// not since the start. What such a department has ended may still seem to be in force here.
    pub fn unheard(&self) -> BTreeMap<DepartmentId, Option<Timestamp>> {
        let heard = self.heard();
        let views = self.0.pullers.views();
        let roster = self.0.roster.current();
        let others = roster.origins.iter().filter(|other| other.id.department() != self.0.origin.department());
        let mut unheard = BTreeMap::new();
        for other in others.filter(|other| !heard.contains(other.id.department())) {
            let lanes = [Lane::Urgent, Lane::Routine].map(|lane| LogId::new(other.id.to_string(), lane));
            let last = lanes.iter().filter_map(|log| views.get(log)?.heard).max();
            let known = unheard.entry(other.id.department().clone()).or_insert(last);
            *known = (*known).max(last);
        }
        unheard
    }

    pub(super) async fn tick(self) {
        let mut due = self.0.pipeline.due();
        loop {
            let next = *due.borrow_and_update();
            let wait = async {
                match next {
                    None => std::future::pending().await,
                    Some(at) => {
                        while self.0.clock.now() < at {
                            tokio::time::sleep(TICK_EVERY).await;
                        }
                    }
                }
            };
            tokio::select! {
                biased;
                () = self.0.stop.cancelled() => return,
                changed = due.changed() => if changed.is_err() { return } else { continue },
                () = wait => {}
            }
            let Some(mut at) = next else { continue };
            if at == derive::AT_ONCE {
                tokio::select! {
                    biased;
                    () = self.0.stop.cancelled() => return,
                    () = self.caught_up() => at = self.0.clock.now(),
                }
            }
            if let Err(error) = self.record(tick_draft(at, self.heard())).await {
                warn!(%error, "A tick could not be written; it is tried again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            } else if *due.borrow() == next {
                // The rules may be behind; the next wish comes with their commit.
                tokio::time::sleep(TICK_EVERY).await;
            }
        }
    }
}

/// A record that writes down that a moment has come.
fn tick_draft(at: Timestamp, heard: Vec<DepartmentId>) -> Draft {
    let audience = Audience { scope: Scope::Private, departments: Vec::new() };
    plain_draft(Status::System, None, audience, Content::Tick(Tick { at, heard }))
}
