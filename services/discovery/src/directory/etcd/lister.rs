//! List, then watch: what every informer does, with the traps of etcd's watch closed one by one.
//!
//! ```text
//!   list nodes and newest roster at revision R  ──►  Reset, Roster
//!   watch both prefixes from R + 1              ──►  Put, Gone, Roster
//!     stream error, silence, cancelled, compacted, other cluster, rewound   ─► begin again
//! ```
//!
//! A watch that broke off is never taken up again at the revision that it had reached. An etcd that was set back to a
//! backup meanwhile may have passed that revision since, with other contents, and nothing in its headers tells: its cluster
//! number is the same, its term has grown, and what was written below that revision would never be seen. A list costs
//! some kilobytes for each node.
//!
//! A silent watch and a dead one look alike, so a progress request goes out at each beat, and three beats without any
//! message end the stream.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Client, EventType, GetOptions, ResponseHeader, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchResponse,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Backoff, Error, MESSAGE_BYTES_MAX, Shared, newest_roster_options};
use crate::directory::snapshot::send;
use crate::directory::{Entry, HINTS_MAX, Update};

/// From which etcd, and from when, the list came that a watch goes on from.
#[derive(Debug, Clone, Copy)]
struct Listed {
    cluster: u64,
    revision: i64,
    /// The raft term, which only grows in the life of a cluster. A wiped server with the same flags has the same
    /// cluster id, but begins again with low terms and revisions.
    term: u64,
}

/// Runs until the watcher is dropped.
pub(super) async fn run(shared: Arc<Shared>, to: mpsc::Sender<Update>) {
    let mut backoff = Backoff::new(shared.ttl());
    loop {
        let ended = tokio::select! {
            ended = session(&shared, &to, &mut backoff) => ended,
            () = to.closed() => return,
        };
        // It ends well only when nobody listens any more.
        let Err(error) = ended else { return };
        shared.monitor.failed(&error);
        tracing::debug!(%error, "Watch interrupted");
        tokio::select! {
            () = backoff.wait(&shared) => {}
            () = to.closed() => return,
        }
    }
}

async fn session(shared: &Shared, to: &mpsc::Sender<Update>, backoff: &mut Backoff) -> Result<(), Error> {
    let mut client = shared.connect().await?;
    let (listed, updates) = list(shared, &client).await?;
    if !send(to, updates).await {
        return Ok(());
    }
    watch(shared, &mut client, to, listed, backoff).await
}

/// Both prefixes in one transaction, hence at one revision.
async fn list(shared: &Shared, client: &Client) -> Result<(Listed, Vec<Update>), Error> {
    let limit = i64::try_from(HINTS_MAX).unwrap_or(i64::MAX);
    let txn = Txn::new().and_then([
        TxnOp::get(shared.nodes(), Some(GetOptions::new().with_prefix().with_limit(limit))),
        TxnOp::get(shared.rosters(), Some(newest_roster_options())),
    ]);
    let mut kv = client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
    let answer = shared.call("list", kv.txn(txn)).await?;
    let header = answer.header().ok_or_else(|| shared.unavailable("the list came without a header".into()))?;
    let listed = Listed { cluster: header.cluster_id(), revision: header.revision(), term: header.raft_term() };
    let mut updates = Vec::new();
    let mut parts = answer.op_responses().into_iter();
    if let Some(TxnOpResponse::Get(nodes)) = parts.next() {
        let entry = |kv: &etcd_client::KeyValue| {
            Some(Entry { origin: shared.origin_of(kv.key())?, envelope: kv.value().to_vec() })
        };
        updates.push(Update::Reset(nodes.kvs().iter().filter_map(entry).collect()));
    }
    if let Some(TxnOpResponse::Get(rosters)) = parts.next() {
        updates.extend(rosters.kvs().first().map(|kv| Update::Roster(kv.value().to_vec())));
    }
    Ok((listed, updates))
}

async fn watch(
    shared: &Shared,
    client: &mut Client,
    to: &mpsc::Sender<Update>,
    mut listed: Listed,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    let options = || {
        WatchOptions::new()
            .with_prefix()
            .with_start_revision(listed.revision.saturating_add(1))
            .with_progress_notify()
            .with_prev_key()
    };
    let (nodes, rosters) = (options(), options());
    let mut watcher = client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut stream = shared.call("watch", watcher.watch(shared.nodes(), Some(nodes))).await?;
    shared.within("watch", stream.watch(shared.rosters(), Some(rosters))).await?;
    let beat = shared.beat().clamp(Duration::from_millis(200), Duration::from_secs(10));
    let mut ticks = tokio::time::interval_at(Instant::now() + beat, beat);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let began = Instant::now();
    let mut heard = began;
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            _ = ticks.tick() => {
                if heard.elapsed() > beat * 3 {
                    return Err(shared.unavailable("the watch fell silent".into()));
                }
                match tokio::time::timeout(beat, stream.request_progress()).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => return Err(shared.unavailable(error.to_string())),
                    Err(_) => return Err(shared.unavailable("the watch takes no requests".into())),
                }
            }
        };
        let response = match message {
            Ok(Some(response)) => response,
            Ok(None) => return Err(shared.unavailable("the watch ended".into())),
            Err(error) => return Err(shared.unavailable(error.to_string())),
        };
        heard = Instant::now();
        if response.canceled() || response.compact_revision() > 0 {
            let reason = format!("the watch was cancelled, compacted to {}", response.compact_revision());
            return Err(shared.unavailable(reason));
        }
        if let Some(why) = strange(response.header(), &mut listed) {
            return Err(shared.unavailable(why));
        }
        shared.monitor.contact();
        // One that is taken and cut at once must not be asked for without pause.
        if began.elapsed() >= beat {
            backoff.reset();
        }
        if !send(to, updates(shared, &response)).await {
            return Ok(());
        }
    }
}

/// Why a header cannot be from the etcd that was listed, if so: it may be another server's than the list was. Notes its term
/// otherwise.
fn strange(header: Option<&ResponseHeader>, listed: &mut Listed) -> Option<String> {
    let header = header?;
    if header.cluster_id() != listed.cluster {
        return Some("another etcd cluster answers".into());
    }
    if header.revision() < listed.revision {
        return Some(format!("etcd went back from revision {} to {}", listed.revision, header.revision()));
    }
    if header.raft_term() < listed.term {
        return Some(format!("etcd went back from term {} to {}", listed.term, header.raft_term()));
    }
    listed.term = header.raft_term();
    None
}

fn updates(shared: &Shared, response: &WatchResponse) -> Vec<Update> {
    let mut updates = Vec::new();
    for event in response.events() {
        let Some(kv) = event.kv() else { continue };
        let origin = shared.origin_of(kv.key());
        match (event.event_type(), origin) {
            (EventType::Put, Some(origin)) => {
                updates.push(Update::Put(Entry { origin, envelope: kv.value().to_vec() }));
            }
            (EventType::Put, None) if kv.key().starts_with(shared.rosters().as_bytes()) => {
                updates.push(Update::Roster(kv.value().to_vec()));
            }
            (EventType::Delete, Some(origin)) => updates.push(Update::Gone(origin)),
            _ => {}
        }
    }
    updates
}
