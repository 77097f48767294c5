//! The dispatcher over a place in a bus that lives in memory, with scripted providers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use async_trait::async_trait;
use campanile_alert::Alert;
use parking_lot::Mutex;

use super::*;
use crate::channels::feed::Feed;
use crate::channels::screen::Screens;
use crate::channels::{Endpoint, FailureReason, Health, Judgement, Outcome};
use crate::testing::{InMemory, at, cancel, exercise_fire, fire, parts, wait_for};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Script {
    Takes,
    Away,
    Hangs,
}

#[derive(Debug)]
struct Scripted {
    script: Mutex<Script>,
    handed: Mutex<Vec<String>>,
    cleared: Mutex<Vec<String>>,
}

impl Scripted {
    fn new(script: Script) -> Arc<Self> {
        Arc::new(Self { script: Mutex::new(script), handed: Mutex::default(), cleared: Mutex::default() })
    }

    fn handed(&self) -> Vec<String> {
        self.handed.lock().clone()
    }
}

#[async_trait]
impl Channel for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn endpoints(&self, _: &Alert) -> Vec<Endpoint> {
        vec!["a".into(), "b".into()]
    }

    async fn hand(&self, notice: &LiveNotice, endpoint: &Endpoint) -> Outcome {
        let script = *self.script.lock();
        self.handed.lock().push(format!("{}:{endpoint}:{script:?}", notice.incoming().alert.identifier));
        match script {
            Script::Takes => Outcome::Handed,
            Script::Away => Outcome::Failed(Judgement::Retryable, FailureReason::Unreachable),
            Script::Hangs => std::future::pending().await,
        }
    }

    async fn clear(&self, end: &EndNotice, endpoint: &Endpoint) -> Outcome {
        self.cleared.lock().push(format!("{}:{endpoint}", end.incoming().alert.identifier));
        Outcome::Handed
    }

    fn restore(&self, _: &LiveNotice, _: &[Endpoint]) {}

    async fn probe(&self) -> Health {
        if *self.script.lock() == Script::Takes { Health::Up } else { Health::Down }
    }
}

struct Running {
    dispatcher: Dispatcher,
    feed: Arc<Feed>,
    exercises: Arc<Exercises>,
    stop: CancellationToken,
}

async fn start(member: &Arc<InMemory>, provider: &Arc<Scripted>) -> Running {
    let exercise: campanile_alert::ExerciseId = "hv26".parse().expect("an id");
    let boards = Arc::new(RwLock::new(Boards::new([World::Exercise(exercise.clone())])));
    let parts = parts(&boards, &member.clock);
    let feed = Arc::new(Feed::new(parts.judge.clone()));
    let screen = Arc::new(Screens::new(&parts));
    // The scripted one first: what it does must not reach those behind it.
    let all: Vec<Arc<dyn Channel>> = vec![provider.clone(), feed.clone(), screen.clone()];
    let channels = Channels { feed: Arc::clone(&feed), screen, all };
    let exercises = Arc::new(Exercises::new([exercise], Arc::clone(&boards)));
    let (metrics, stop) = (Arc::new(Metrics::default()), CancellationToken::new());
    let member: Arc<dyn Member> = member.clone();
    let shared = Shared {
        reporter: Arc::new(Reporter::new(Arc::clone(&member), Arc::clone(&metrics))),
        member,
        boards,
        judge: parts.judge,
        metrics,
        stop: stop.clone(),
        timeout: Duration::from_secs(60),
    };
    let dispatcher = Dispatcher::start(shared, &channels, Arc::clone(&exercises)).await.expect("a dispatcher");
    Running { dispatcher, feed, exercises, stop }
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.dispatcher.join().await;
    }

    fn shows(&self, identifier: &str) -> bool {
        self.feed.snapshot().in_force.iter().any(|notice| notice.incoming().alert.identifier == identifier)
    }
}

#[tokio::test]
async fn a_dead_provider_delays_no_other() {
    let (member, provider) = (InMemory::new(), Scripted::new(Script::Hangs));
    let running = start(&member, &provider).await;
    for n in 0..20 {
        member.arrive(fire(&format!("f{n}")));
    }
    wait_for("all alerts on the feed", || async { running.feed.snapshot().in_force.len() == 20 }).await;
    assert!(provider.handed().iter().all(|call| call.ends_with("Hangs")));
    running.stop().await;
}

#[tokio::test]
async fn g1_what_was_handed_is_not_handed_again_after_a_restart() {
    let (member, provider) = (InMemory::new(), Scripted::new(Script::Takes));
    let running = start(&member, &provider).await;
    member.arrive(fire("f1"));
    wait_for("the hand-over", || async { provider.handed().len() == 2 }).await;
    wait_for("the end of the job", || async { member.values("job/").is_empty() }).await;
    running.stop().await;
    let running = start(&member, &provider).await;
    member.arrive(fire("f2"));
    wait_for("the next hand-over", || async { provider.handed().len() == 4 }).await;
    assert_eq!(provider.handed().iter().filter(|call| call.starts_with("f1")).count(), 2);
    assert!(running.shows("f1") && running.shows("f2"), "the feed is as before");
    running.stop().await;
}

#[tokio::test]
async fn g1_an_unknown_outcome_is_repeated_once_and_marked() {
    let (member, provider) = (InMemory::new(), Scripted::new(Script::Hangs));
    let running = start(&member, &provider).await;
    member.arrive(fire("f1"));
    wait_for("the attempts", || async { provider.handed().len() == 2 }).await;
    running.stop().await;
    assert!(member.values("attempt/").iter().any(|row| row.contains("started")), "begun, and nobody knows its end");
    let running = start(&member, &provider).await;
    wait_for("the repeats", || async { provider.handed().len() == 4 }).await;
    running.stop().await;
    *provider.script.lock() = Script::Takes;
    let running = start(&member, &provider).await;
    wait_for("the end of the job", || async { member.values("job/scripted/").is_empty() }).await;
    assert_eq!(provider.handed().len(), 4, "repeated more than once");
    let rows = member.values("attempt/");
    assert_eq!(rows.iter().filter(|row| row.contains("\"possibly_repeated\":true")).count(), 2, "{rows:?}");
    running.stop().await;
}

#[tokio::test]
async fn g1_nothing_is_sent_after_a_known_cancel_or_after_expiry() {
    let (member, provider) = (InMemory::new(), Scripted::new(Script::Away));
    let running = start(&member, &provider).await;
    let first = member.arrive(fire("f1"));
    member.arrive(fire("f2"));
    wait_for("failures", || async { provider.handed().len() >= 4 }).await;
    member.arrive(cancel("c1", &first));
    wait_for("the Cancel", || async { !running.shows("f1") }).await;
    member.clock.set(at("2026-11-22T12:00:00+08:00"));
    *provider.script.lock() = Script::Takes;
    wait_for("the end of all jobs", || async { member.values("job/").is_empty() }).await;
    assert!(!provider.handed().iter().any(|call| call.ends_with("Takes")), "{:?}", provider.handed());
    let reason_of = |identifier: &str| {
        let reports = member.reports.lock();
        let mut mine = reports.iter().filter(|(r, _)| r.identifier == identifier && r.channel == "scripted");
        mine.next_back().and_then(|(report, _)| Some(report.failures.first()?.reason()))
    };
    for (identifier, reason) in [("f1", FailureReason::Cancelled), ("f2", FailureReason::Expired)] {
        let what = format!("the report that {identifier} is {reason:?}");
        wait_for(&what, || async { reason_of(identifier) == Some(reason) }).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_provider_that_comes_back_gets_what_waited_and_a_cancel_clears_it() {
    let (member, provider) = (InMemory::new(), Scripted::new(Script::Away));
    let running = start(&member, &provider).await;
    let first = member.arrive(fire("f1"));
    wait_for("failures", || async { provider.handed().len() >= 6 }).await;
    *provider.script.lock() = Script::Takes;
    wait_for("the hand-over", || async { provider.handed().iter().filter(|c| c.ends_with("Takes")).count() == 2 })
        .await;
    member.arrive(cancel("c1", &first));
    wait_for("the clearing", || async { provider.cleared.lock().len() == 2 }).await;
    running.stop().await;
}

#[tokio::test]
async fn t3_a_drill_reaches_its_exercise_and_no_public_provider() {
    let (member, provider) = (InMemory::new(), Scripted::new(Script::Takes));
    let running = start(&member, &provider).await;
    let drill = member.arrive(exercise_fire("x1"));
    let mut draft = fire("d1");
    draft.status = campanile_alert::Status::Draft;
    member.arrive(draft);
    member.arrive(fire("f1"));
    wait_for("the real one", || async { running.shows("f1") && provider.handed().len() == 2 }).await;
    assert!(provider.handed().iter().all(|call| call.starts_with("f1")), "{:?}", provider.handed());
    assert!(!running.shows("x1") && !running.shows("d1"));
    assert!(running.feed.document(&drill.record).is_none());
    let id = "hv26".parse().expect("an id");
    let shown = running.exercises.in_force(&id, Member::clock(&*member).now()).expect("a sink");
    assert_eq!(shown.len(), 1);
    wait_for("its report", || async { member.reports.lock().iter().any(|(_, exercise)| exercise.is_some()) }).await;
    running.stop().await;
}

#[tokio::test]
async fn one_report_tells_of_all_endpoints() {
    let (member, provider) = (InMemory::new(), Scripted::new(Script::Takes));
    let running = start(&member, &provider).await;
    let first = member.arrive(fire("f1"));
    wait_for("the reports", || async { member.reports.lock().len() >= 3 }).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let reports = member.reports.lock().clone();
    let mut channels: Vec<&str> = reports.iter().map(|(report, _)| report.channel.as_str()).collect();
    channels.sort_unstable();
    assert_eq!(channels, ["feed", "screen", "scripted"]);
    let (scripted, _) = reports.iter().find(|(report, _)| report.channel == "scripted").expect("a report");
    assert_eq!(scripted.record_hash[..], first.record.as_bytes()[..]);
    assert!(scripted.stages.iter().all(|stage| stage.count == 2) && scripted.failures.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn what_rests_on_a_forked_log_is_held() {
    let (member, provider) = (InMemory::new(), Scripted::new(Script::Takes));
    member.forks.lock().push(fire("f1").place);
    let running = start(&member, &provider).await;
    member.arrive(fire("f1"));
    let mut other = fire("f2");
    other.place.origin = "edb/node-1".parse().expect("an origin");
    member.arrive(other);
    wait_for("the other log's alert", || async { running.shows("f2") }).await;
    assert!(!running.shows("f1") && provider.handed().iter().all(|call| call.starts_with("f2")));
    running.stop().await;
}
