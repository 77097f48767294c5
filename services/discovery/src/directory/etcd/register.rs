//! Keeping the own hint registered: grant a lease, put the hint under it, renew at each third of the lease, begin again.
//!
//! A renewal of a lost lease is no error to etcd but an answer with no time left, and a key can be lost while its lease
//! lives on. So each beat checks three things: the renewal was answered in time, with time left, and the key is there
//! with our bytes under our lease. Anything else begins again with a new lease, which is how a restarted, wiped or
//! frozen etcd heals.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp};
use tokio::sync::watch;

use super::{Announcement, Backoff, Error, Shared};
use crate::hint::Hint;

/// Runs until the directory is dropped.
pub(super) async fn run(shared: Arc<Shared>, mut wanted: watch::Receiver<Option<Announcement>>) {
    let mut backoff = Backoff::new(shared.ttl());
    loop {
        if wanted.borrow_and_update().is_none() {
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        }
        match session(&shared, &mut wanted, &mut backoff).await {
            Ok(()) => {}
            Err(error) => {
                shared.monitor.failed(&error);
                tracing::debug!(%error, "Registration interrupted");
                // A new address is tried at once; otherwise wait.
                tokio::select! {
                    () = backoff.wait(&shared) => {}
                    changed = wanted.changed() => if changed.is_err() { return },
                }
            }
        }
        shared.monitor.registered(false);
    }
}

/// One lease's life. Ends well when the hint is withdrawn.
async fn session(
    shared: &Shared,
    wanted: &mut watch::Receiver<Option<Announcement>>,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    let mut client = shared.connect().await?;
    let granted = shared.call("lease grant", client.lease_grant(i64::from(shared.config.ttl_s), None)).await?;
    let lease = granted.id();
    let (mut keeper, mut answers) = shared.call("lease keep-alive", client.lease_keep_alive(lease)).await?;
    let mut renewed = true;
    loop {
        let own = wanted.borrow_and_update().clone();
        let Some(own) = own else {
            shared.monitor.registered(false);
            return shared.call("lease revoke", client.lease_revoke(lease)).await.map(drop);
        };
        if place(shared, &mut client, lease, &own).await? {
            if renewed {
                backoff.reset();
            }
            shared.monitor.registered(true);
        }
        tokio::select! {
            () = tokio::time::sleep(shared.beat()) => {}
            changed = wanted.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                renewed = false;
                continue;
            }
        }
        let renewal = async {
            keeper.keep_alive().await?;
            answers.message().await
        };
        let deadline = shared.beat().max(Duration::from_millis(300));
        let answer = tokio::time::timeout(deadline, shared.call("lease renewal", renewal)).await;
        let left = match answer {
            Ok(Ok(Some(answer))) => answer.ttl(),
            Ok(Ok(None)) => return Err(shared.unavailable("the lease stream ended".into())),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(shared.unavailable("no answer to a lease renewal".into())),
        };
        if left <= 0 {
            return Err(shared.unavailable("the lease was lost".into()));
        }
        renewed = true;
    }
}

/// Makes sure that the hint stands under the lease. False when another instance's does, which is left alone.
async fn place(shared: &Shared, client: &mut Client, lease: i64, own: &Announcement) -> Result<bool, Error> {
    let key = shared.node_key(&own.origin);
    // Twice at most: a key that changes under our hands is somebody else's, and the next beat looks again.
    for _ in 0..2 {
        let found = shared.call("get", client.get(key.as_str(), None)).await?;
        let there: Option<&KeyValue> = found.kvs().first();
        if there.is_some_and(|kv| kv.lease() == lease && kv.value() == own.envelope) {
            return Ok(true);
        }
        let other = there
            .filter(|kv| kv.lease() != 0 && kv.lease() != lease)
            .and_then(|kv| Hint::peek_instance(kv.value()))
            .filter(|instance| instance != &own.instance);
        if let Some(other) = other {
            // It lives while its lease does. Two instances under one name are an operator's matter, not a race.
            tracing::warn!(origin = %own.origin, "Another instance is registered under this name");
            shared.monitor.conflict(&other);
            return Ok(false);
        }
        let revision = there.map_or(0, KeyValue::mod_revision);
        let put = Txn::new()
            .when([Compare::mod_revision(key.as_str(), CompareOp::Equal, revision)])
            .and_then([TxnOp::put(key.as_str(), own.envelope.as_slice(), Some(PutOptions::new().with_lease(lease)))]);
        if shared.call("put", client.txn(put)).await?.succeeded() {
            tracing::debug!(origin = %own.origin, "Registered");
            return Ok(true);
        }
    }
    Ok(false)
}
