//! What a member wrote before it started, and how it gets it back from its peers when its disk was lost or set back.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::Bus;
use crate::pipeline::PublishError;
use crate::pull;
use crate::verify::Verifier;

/// How long a node waits to hear of a peer that may hold its past.
const RECOVER_FIRST: Duration = Duration::from_secs(1);
/// How long it then waits for all such peers to tell, or to fail.
const RECOVER_WITHIN: Duration = Duration::from_secs(6);

/// What a member knows of what it wrote before it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    /// Its disk is empty, and its peers are being asked.
    Sought,
    /// Its disk is empty, and nobody could be asked so far.
    Unknown,
    /// It is here, as far as anybody could tell.
    Known,
}

/// The member is ending.
pub(super) struct Stopped;

impl Bus {
    /// Waits until a node whose disk is empty has its own past, or knows that it cannot have it now.
    ///
    /// # Errors
    /// [`PublishError::NoPast`] while it cannot; it may be tried again.
    pub async fn ready(&self) -> Result<(), PublishError> {
        self.0.decided.cancelled().await;
        if *self.0.past.lock() == Past::Known { Ok(()) } else { Err(PublishError::NoPast) }
    }

    fn decide(&self, past: Past) {
        *self.0.past.lock() = past;
        self.0.decided.cancel();
    }

    /// What pulling works with.
    pub(super) fn pulling(&self) -> pull::Parts {
        pull::Parts {
            origin: self.0.origin.clone(),
            federation: self.0.federation.clone(),
            store: Arc::clone(&self.0.store),
            tails: Arc::clone(&self.0.tails),
            pipeline: self.0.pipeline.clone(),
            roster: self.0.roster.clone(),
            checkpoints: Arc::clone(&self.0.peers.checkpoints),
            verifier: Verifier {
                reader: self.0.origin.department().clone(),
                federation: self.0.federation.clone(),
                roster: self.0.roster.clone(),
                vocabulary: self.0.vocabulary,
            },
            clock: Arc::clone(&self.0.clock),
            metrics: Arc::clone(&self.0.metrics),
            surroundings: Arc::clone(&self.0.surroundings),
            stop: self.0.stop.clone(),
        }
    }

    /// Asks peers for our own past before anything else is pulled, as long as it matters. An error: the member ends.
    ///
    /// A node whose disk is empty may have lost it, and one whose disk is older than its past may have been set back. The
    /// first writes nothing before a peer has told what it holds: what was published before would be published again.
    /// Where no other node is known at all, it is new, or alone. The second goes on writing, but its rules must not act
    /// on what they have acted on already, so they are fed after a bounded wait.
    ///
    /// What the rules want written at the start is written as soon as anything may be.
    pub(super) async fn take_up_past(&self, parts: &pull::Parts) -> Result<(), Stopped> {
        let pullers = &self.0.pullers;
        let is_sought = *self.0.past.lock() == Past::Sought;
        if !is_sought && !self.0.pipeline.has_rules() {
            return Ok(());
        }
        pullers.follow_own(parts);
        let wait = async {
            tokio::time::sleep(RECOVER_FIRST).await;
            if pullers.knows_others(parts) {
                tokio::time::sleep(RECOVER_WITHIN).await;
            }
        };
        tokio::select! {
            biased;
            () = self.0.stop.cancelled() => return Err(Stopped),
            () = pullers.past_is_known(parts) => {}
            () = wait => {}
        }
        let is_alone = || !pullers.knows_others(parts) && self.0.members.directory().health().contact_age.is_some();
        if is_sought && !pullers.was_told(parts) && !is_alone() {
            warn!(
                "The store is empty and no other node has told what it holds of this one's past; nothing is published \
                 until one has. If there is no past, start with --begin-anew"
            );
            self.decide(Past::Unknown);
            loop {
                tokio::select! {
                    biased;
                    () = self.0.stop.cancelled() => return Err(Stopped),
                    () = pullers.past_is_known(parts) => {}
                    () = tokio::time::sleep(RECOVER_FIRST) => {}
                }
                if pullers.was_told(parts) || is_alone() {
                    break;
                }
                // Whoever can be reached will not tell. That is no reason not to hear what others say.
                if pullers.have_answered(parts) {
                    pullers.follow_roster(parts);
                }
            }
        }
        if is_sought {
            self.begin_or_put_off().await;
        }
        self.decide(Past::Known);
        Ok(())
    }

    /// Waits until our own past is here, and what others hold, as far as they can be asked in time.
    pub(super) async fn caught_up(&self) {
        self.0.decided.cancelled().await;
        let parts = self.pulling();
        let both = async {
            self.0.pullers.past_is_known(&parts).await;
            self.0.pullers.caught_up(&parts).await;
        };
        // In time or not: what has come by then is what there is to go by.
        let _in_time = tokio::time::timeout(RECOVER_WITHIN * 2, both).await;
    }
}
