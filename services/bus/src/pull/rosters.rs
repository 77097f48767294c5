//! The rosters that a stream needs: the newer ones that its holder speaks of, and the earlier ones that records name. It
//! also hands the holder those that it lacks.

use std::time::Duration;

use bytes::Bytes;
use campanile_proto::bus::v1 as wire;
use campanile_proto::bus::v1::peer_service_client::PeerServiceClient;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::stream::{Stream, reason_of};
use super::{CALL_WITHIN, RELAY_TURN, ROSTERS_MAX, Task, client_of};
use crate::surroundings::{Link, blocking};

/// How long nobody is asked again for an earlier roster that nobody had.
const ASKED_AGAIN: Duration = Duration::from_secs(60);

impl Stream<'_> {
    /// Fetches the rosters from the newest held here up to `number`; where that is an earlier one, those from the lowest
    /// held above it down to it, as far as anybody has them. It takes as long as a relay's turn at most, and what has come
    /// until then stays.
    pub(super) async fn fetch_rosters(&mut self, number: u64) -> Result<(), NoRoster> {
        let fetch = tokio::time::timeout(RELAY_TURN, async {
            self.fetch_newer(number).await?;
            if self.task.parts.roster.at(number).is_some() { Ok(()) } else { self.recall_rosters(number).await }
        });
        fetch.await.unwrap_or_else(|_| Err(NoRoster::Failed("the rosters did not come in time".into())))
    }

    async fn fetch_newer(&mut self, number: u64) -> Result<(), NoRoster> {
        let from = self.task.parts.roster.current().number;
        if number.saturating_sub(from) > ROSTERS_MAX {
            // Nobody is that far ahead in earnest; its newest tells whether this holder is.
            let newest = self.get_roster(None).await?.number;
            let far = format!("{} is {ROSTERS_MAX} rosters ahead of us", self.holder);
            return Err(if newest < number { NoRoster::Unknown } else { NoRoster::Failed(far) });
        }
        for number in from + 1..=number {
            match self.get_roster(Some(number)).await {
                Ok(response) => self.offer(&response)?,
                // It went past this one itself, from an older to a newer; what it has is signed by whom we believe.
                Err(NoRoster::Unknown) if self.get_roster(None).await?.number >= number => {}
                Err(error) => return Err(error),
            }
        }
        if self.task.parts.roster.current().number < number {
            let newest = self.get_roster(None).await?;
            self.offer(&newest)?;
        }
        if self.task.parts.roster.current().number < number {
            return Err(NoRoster::Failed(format!("{} has given older rosters than it says", self.holder)));
        }
        Ok(())
    }

    /// Takes up the rosters that were passed over here, or were in force before this node was there, back to `number`: a
    /// record counts by the roster that it names. Whoever has judged the record by it has it.
    async fn recall_rosters(&mut self, number: u64) -> Result<(), NoRoster> {
        // There is no roster 0.
        let held = (number > 0).then(|| self.task.parts.roster.held_above(number)).flatten();
        let Some(held) = held.map(|held| held.number) else { return Ok(()) };
        // The stream tells of the end of it, and the next one goes on from there.
        let lowest = number.max(held.saturating_sub(ROSTERS_MAX));
        for number in (lowest..held).rev() {
            if !self.recall(number).await? {
                return Ok(());
            }
        }
        let far = || NoRoster::Failed(format!("roster {number} is more than {ROSTERS_MAX} rosters back"));
        if lowest > number { Err(far()) } else { Ok(()) }
    }

    /// Looks for an earlier roster on the disk, asks this holder for it, and when it lacks it all the others at once;
    /// false when nobody has it.
    async fn recall(&mut self, number: u64) -> Result<bool, NoRoster> {
        if self.take_up(number, None).await {
            return Ok(true);
        }
        if !self.lacking.contains(&number) {
            match self.get_roster(Some(number)).await {
                Ok(response) if self.take_up(number, Some(response.envelope.clone())).await => return Ok(true),
                Ok(_) | Err(NoRoster::Unknown) => _ = self.lacking.insert(number),
                // It may have it. From its origin this stops its own log alone; after a relay another holder is next.
                Err(failed) => return Err(failed),
            }
        }
        let Task { pullers, parts, .. } = self.task;
        if pullers.lost_rosters.lock().get(&number).is_some_and(|at| at.elapsed() < ASKED_AGAIN) {
            return Ok(false);
        }
        let others = pullers.others(parts).into_iter().filter(|other| other != self.holder);
        let channels = others.filter_map(|other| self.task.channel(&other).ok());
        let mut answers: FuturesUnordered<_> =
            channels.map(|channel| get_roster(client_of(channel), Some(number))).collect();
        while let Some(answer) = answers.next().await {
            if let Ok(response) = answer
                && self.take_up(number, Some(response.envelope)).await
            {
                return Ok(true);
            }
        }
        warn!(number, "Nobody who was reached has this roster; records that name it are judged by the newest");
        let mut lost = pullers.lost_rosters.lock();
        lost.retain(|_, at| at.elapsed() < ASKED_AGAIN);
        lost.insert(number, Instant::now());
        Ok(false)
    }

    /// Takes an earlier roster up, or what the disk has kept of it; false when there is none, or it is refused.
    async fn take_up(&self, number: u64, envelope: Option<Bytes>) -> bool {
        let parts = &self.task.parts;
        let roster = parts.roster.clone();
        // Its check and its write to disk are work for another thread.
        let taken = blocking(&parts.surroundings, move || roster.recall(number, envelope.as_deref())).await;
        match taken {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                debug!(number, %error, "An earlier roster was not taken up");
                false
            }
            Err(_) => false,
        }
    }

    /// Gives the holder the rosters above the one it spoke of, each once a stream. The stream goes on meanwhile: a holder
    /// that does not answer must not hold its log up.
    pub(super) fn hand_on_rosters(&mut self, theirs: u64) {
        while let Some(handed) = self.handing.try_join_next() {
            self.handed_on = self.handed_on.max(handed.ok().flatten().unwrap_or(0));
        }
        let newest = self.task.parts.roster.current().number;
        let from = theirs.max(self.handed_on).max(newest.saturating_sub(ROSTERS_MAX));
        if from >= newest || !self.handing.is_empty() {
            return;
        }
        let (rosters, mut client, holder) = (self.task.parts.roster.clone(), self.client.clone(), self.holder.clone());
        self.handing.spawn(async move {
            let mut handed = None;
            for number in from + 1..=newest {
                // One that was passed over here is passed over there.
                let Some(roster) = rosters.at(number) else { continue };
                let request = wire::PokeRequest { roster: Some(Bytes::copy_from_slice(roster.envelope())) };
                match tokio::time::timeout(CALL_WITHIN, client.poke(request)).await {
                    Ok(Ok(_)) => handed = Some(number),
                    failed => {
                        debug!(%holder, number, ?failed, "A roster could not be handed on");
                        break;
                    }
                }
            }
            handed
        });
    }

    fn offer(&self, response: &wire::GetRosterResponse) -> Result<(), NoRoster> {
        let offered = self.task.parts.roster.offer(&response.envelope);
        offered.map(drop).map_err(|error| NoRoster::Failed(error.to_string()))
    }

    async fn get_roster(&mut self, number: Option<u64>) -> Result<wire::GetRosterResponse, NoRoster> {
        get_roster(self.client.clone(), number).await
    }
}

async fn get_roster(
    mut client: PeerServiceClient<Link>,
    number: Option<u64>,
) -> Result<wire::GetRosterResponse, NoRoster> {
    let request = wire::GetRosterRequest { number };
    match tokio::time::timeout(CALL_WITHIN, client.get_roster(request)).await {
        Err(_) => Err(NoRoster::Failed("the roster did not come within 5 s".into())),
        Ok(Err(status)) if status.code() == tonic::Code::NotFound => Err(NoRoster::Unknown),
        Ok(Err(status)) => Err(NoRoster::Failed(reason_of(&status))),
        Ok(Ok(response)) => Ok(response.into_inner()),
    }
}

/// Why a roster could not be had from a holder.
#[derive(Debug)]
pub(super) enum NoRoster {
    /// The holder's newest is an older one: whoever named it made it up.
    Unknown,
    /// It may come later.
    Failed(String),
}
