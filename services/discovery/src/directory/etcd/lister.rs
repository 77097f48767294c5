//! List, then watch: what every informer does, with the traps of etcd's watch closed one by one.
//!
//! ```text
//!   list nodes and newest roster at revision R  ──►  Reset, Roster
//!   watch both prefixes from R + 1              ──►  Put, Gone, Roster
//!     stream error, silence    ─► watch again from the last event's revision + 1
//!     cancelled, compacted     ─► list again (the stream would stay open and silent)
//!     other cluster, rewound   ─► list again; its deletes are not facts about our nodes
//! ```
//!
//! A silent watch and a dead one look alike, so a progress request goes out at each beat, and three beats without any
//! message end the stream. The revision in a progress answer is not used to resume: etcd before 3.4.25 gives one that
//! runs ahead of events still to come.

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

/// How far the picture given to the watcher reaches.
#[derive(Debug, Clone, Copy)]
struct Seen {
    cluster: u64,
    /// The revision of the list, or of the last event after it.
    revision: i64,
    /// The highest revision in any header, for the log.
    highest: i64,
    /// The raft term, which only grows in the life of a cluster. A wiped server with the same flags has the same
    /// cluster id, but begins again with low terms and revisions.
    term: u64,
}

/// Why a watch ended.
enum End {
    /// Watch again from where it was.
    Resume(Error),
    /// What was seen is worth nothing now.
    Relist(Error),
    /// Nobody listens any more.
    Closed,
}

/// Runs until the watcher is dropped.
pub(super) async fn run(shared: Arc<Shared>, to: mpsc::Sender<Update>) {
    let mut backoff = Backoff::new(shared.ttl());
    let mut seen: Option<Seen> = None;
    // Resuming saves a list; after a few failures in a row a list is cheaper than more doubt.
    let mut resumes = 0;
    loop {
        let end = tokio::select! {
            end = session(&shared, &to, &mut seen, &mut backoff) => end,
            () = to.closed() => return,
        };
        let error = match end {
            End::Closed => return,
            End::Relist(error) => {
                seen = None;
                error
            }
            End::Resume(error) => {
                resumes += 1;
                if resumes > 3 {
                    (seen, resumes) = (None, 0);
                }
                error
            }
        };
        shared.monitor.failed(&error);
        tracing::debug!(%error, relist = seen.is_none(), "Watch interrupted");
        tokio::select! {
            () = backoff.wait() => {}
            () = to.closed() => return,
        }
    }
}

async fn session(shared: &Shared, to: &mpsc::Sender<Update>, seen: &mut Option<Seen>, backoff: &mut Backoff) -> End {
    let mut client = match shared.connect().await {
        Ok(client) => client,
        Err(error) => return End::Resume(error),
    };
    let mut at = match *seen {
        Some(seen) => seen,
        None => match list(shared, &client).await {
            Ok((listed, updates)) => {
                if !send(to, updates).await {
                    return End::Closed;
                }
                *seen = Some(listed);
                listed
            }
            Err(error) => return End::Resume(error),
        },
    };
    watch(shared, &mut client, to, &mut at, seen, backoff).await
}

/// Both prefixes in one transaction, hence at one revision.
async fn list(shared: &Shared, client: &Client) -> Result<(Seen, Vec<Update>), Error> {
    let limit = i64::try_from(HINTS_MAX).unwrap_or(i64::MAX);
    let txn = Txn::new().and_then([
        TxnOp::get(shared.nodes(), Some(GetOptions::new().with_prefix().with_limit(limit))),
        TxnOp::get(shared.rosters(), Some(newest_roster_options())),
    ]);
    let mut kv = client.kv_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
    let answer = shared.call("list", kv.txn(txn)).await?;
    let header = answer.header().ok_or_else(|| shared.unavailable("the list came without a header".into()))?;
    let seen = Seen {
        cluster: header.cluster_id(),
        revision: header.revision(),
        highest: header.revision(),
        term: header.raft_term(),
    };
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
    Ok((seen, updates))
}

async fn watch(
    shared: &Shared,
    client: &mut Client,
    to: &mpsc::Sender<Update>,
    at: &mut Seen,
    seen: &mut Option<Seen>,
    backoff: &mut Backoff,
) -> End {
    let options = || {
        WatchOptions::new()
            .with_prefix()
            .with_start_revision(at.revision.saturating_add(1))
            .with_progress_notify()
            .with_prev_key()
    };
    let (nodes, rosters) = (options(), options());
    let mut watcher = client.watch_client().max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut stream = match shared.call("watch", watcher.watch(shared.nodes(), Some(nodes))).await {
        Ok(stream) => stream,
        Err(error) => return End::Resume(error),
    };
    if let Err(error) = shared.within("watch", stream.watch(shared.rosters(), Some(rosters))).await {
        return End::Resume(error);
    }
    let beat = shared.beat().clamp(Duration::from_millis(200), Duration::from_secs(10));
    let mut ticks = tokio::time::interval_at(Instant::now() + beat, beat);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            _ = ticks.tick() => {
                if heard.elapsed() > beat * 3 {
                    return End::Resume(shared.unavailable("the watch fell silent".into()));
                }
                match tokio::time::timeout(beat, stream.request_progress()).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => return End::Resume(shared.unavailable(error.to_string())),
                    Err(_) => return End::Resume(shared.unavailable("the watch takes no requests".into())),
                }
            }
        };
        let response = match message {
            Ok(Some(response)) => response,
            Ok(None) => return End::Resume(shared.unavailable("the watch ended".into())),
            Err(error) => return End::Resume(shared.unavailable(error.to_string())),
        };
        heard = Instant::now();
        if response.canceled() || response.compact_revision() > 0 {
            let reason = format!("the watch was cancelled, compacted to {}", response.compact_revision());
            return End::Relist(shared.unavailable(reason));
        }
        if let Some(why) = strange(response.header(), at) {
            return End::Relist(shared.unavailable(why));
        }
        shared.monitor.contact();
        backoff.reset();
        let (updates, revision) = updates(shared, &response);
        if !send(to, updates).await {
            return End::Closed;
        }
        // Only now: what was not handed over is asked for again.
        at.revision = at.revision.max(revision);
        *seen = Some(*at);
    }
}

/// Why a header cannot be from the etcd that was listed, if so. Notes its revision otherwise.
fn strange(header: Option<&ResponseHeader>, at: &mut Seen) -> Option<String> {
    let header = header?;
    if header.cluster_id() != at.cluster {
        return Some("another etcd cluster answers".into());
    }
    if header.revision() < at.revision {
        return Some(format!("etcd went back from revision {} to {}", at.highest, header.revision()));
    }
    if header.raft_term() < at.term {
        return Some(format!("etcd went back from term {} to {}", at.term, header.raft_term()));
    }
    at.term = header.raft_term();
    at.highest = at.highest.max(header.revision());
    None
}

fn updates(shared: &Shared, response: &WatchResponse) -> (Vec<Update>, i64) {
    let mut revision = 0;
    let mut updates = Vec::new();
    for event in response.events() {
        let Some(kv) = event.kv() else { continue };
        revision = revision.max(kv.mod_revision());
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
    (updates, revision)
}
