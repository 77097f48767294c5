//! What every channel does, whatever it speaks. A new channel runs this suite with one line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use campanile_alert::ManualClock;
use campanile_log::Hash;
use parking_lot::RwLock;
use tokio::time::timeout;

use super::feed::Feed;
use super::screen::Screens;
use super::{Channel, Endpoint, Health, Outcome, Parts};
use crate::board::Boards;
use crate::notice::{EndNotice, Judge};
use crate::testing::{at, cancel, fire, parts, update, wait_for};

const BOUND: Duration = Duration::from_secs(5);

/// Runs the suite. `make` builds the channel; `shows` reads, as a member of the public would, which records one of its
/// endpoints shows.
pub(crate) async fn run<C, F>(make: impl FnOnce(&Parts) -> Arc<C>, shows: impl Fn(Arc<C>, Endpoint) -> F)
where
    C: Channel,
    F: Future<Output = Vec<Hash>>,
{
    let clock = Arc::new(ManualClock::new(at("2026-11-22T08:01:00+08:00")));
    let boards = Arc::new(RwLock::new(Boards::default()));
    let judge = Judge::new(Arc::clone(&boards), clock.clone());
    let channel = make(&parts(&boards, &clock));
    wait_for("the provider's health", || async { channel.probe().await == Health::Up }).await;
    let take = |incoming: &Arc<_>| boards.write().of_mut(incoming).expect("the live board").take(incoming);

    let first = Arc::new(fire("conformance-1"));
    take(&first);
    let notice = judge.judge(&first).expect("a notice");
    let endpoints = channel.endpoints(&first.alert);
    assert!(!endpoints.is_empty(), "the channel has no endpoint for the alert");
    assert_eq!(endpoints, channel.endpoints(&first.alert), "endpoints depend on the alert alone");
    let endpoint = endpoints[0].clone();

    for _ in 0..2 {
        let outcome = timeout(BOUND, channel.hand(&notice, &endpoint)).await.expect("bounded time");
        assert_eq!(outcome, Outcome::Handed);
        assert_eq!(
            shows(Arc::clone(&channel), endpoint.clone()).await,
            [first.record],
            "shown once, however often handed"
        );
    }

    let second = Arc::new(update("conformance-2", &first, false));
    let ended = take(&second).ended.remove(0);
    let end = EndNotice::of(&ended.0, &ended.1).expect("an end");
    let notice = judge.judge(&second).expect("a notice");
    assert_eq!(timeout(BOUND, channel.hand(&notice, &endpoint)).await.expect("bounded time"), Outcome::Handed);
    for _ in 0..2 {
        assert_eq!(timeout(BOUND, channel.clear(&end, &endpoint)).await.expect("bounded time"), Outcome::Handed);
        assert_eq!(shows(Arc::clone(&channel), endpoint.clone()).await, [second.record], "the Update took its place");
    }

    let stop = Arc::new(cancel("conformance-3", &second));
    let ended = take(&stop).ended.remove(0);
    let end = EndNotice::of(&ended.0, &ended.1).expect("an end");
    // A notice from before the Cancel, handed after it is known: nothing of it may show.
    assert_eq!(timeout(BOUND, channel.hand(&notice, &endpoint)).await.expect("bounded time"), Outcome::Handed);
    assert!(shows(Arc::clone(&channel), endpoint.clone()).await.is_empty(), "shown after a known Cancel");
    assert_eq!(timeout(BOUND, channel.clear(&end, &endpoint)).await.expect("bounded time"), Outcome::Handed);
    assert!(shows(Arc::clone(&channel), endpoint.clone()).await.is_empty(), "shown after it was cleared");

    let third = Arc::new(fire("conformance-4"));
    take(&third);
    let notice = judge.judge(&third).expect("a notice");
    clock.set(at("2026-11-22T12:00:00+08:00"));
    assert_eq!(timeout(BOUND, channel.hand(&notice, &endpoint)).await.expect("bounded time"), Outcome::Handed);
    assert!(shows(Arc::clone(&channel), endpoint.clone()).await.is_empty(), "shown after it expired");
}

#[tokio::test]
async fn the_feed_conforms() {
    run(
        |parts| Arc::new(Feed::new(parts.judge.clone())),
        |feed, _| async move { feed.snapshot().in_force.iter().map(|notice| notice.incoming().record).collect() },
    )
    .await;
}

#[tokio::test]
async fn the_screens_conform() {
    run(
        |parts| Arc::new(Screens::new(parts)),
        |screens, endpoint| async move { screens.state(&endpoint).alerts.iter().map(|alert| alert.record).collect() },
    )
    .await;
}
