//! What the client promises, against a node that misbehaves by script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod node;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use campanile_client::{Attempts, Client, Code, Cursor, Event, Filter, Publish, Query, Retry, Start, Timeouts, wanted};
use campanile_proto::bus::v1::alert_service_server::AlertServiceServer;
use campanile_proto::bus::v1::watch_response;
use futures::StreamExt as _;
use node::{End, Node, Opening, Script, alert, cursor, fire, heartbeat};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::transport::Channel;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// A node on a free loopback port and a client of it, both impatient.
async fn start(script: Script) -> (Client, Arc<Script>) {
    let script = Arc::new(script);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = AlertServiceServer::new(Node(script.clone()));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let timeouts =
        Timeouts { call: Duration::from_millis(300), silence: Duration::from_millis(300), ..Timeouts::default() };
    let attempts = Attempts { attempts_max: 3, backoff_ms_first: 5, backoff_ms_max: 20 };
    (Client::over(channel, timeouts, attempts.clone(), attempts), script)
}

fn streams(list: Vec<Opening>) -> Script {
    Script { streams: Mutex::new(list.into()), ..Script::default() }
}

#[tokio::test]
async fn publish_repeats_the_same_content_when_the_answer_is_lost() {
    let lost = [Status::unavailable("connection reset"), Status::deadline_exceeded("")];
    let script = Script { publishes: Mutex::new(lost.into()), ..Script::default() };
    let (client, script) = start(script).await;
    let xml = b"<alert/>".to_vec();
    let answer = client.publish(&Publish::cap_xml(xml)).await.expect("published");
    assert_eq!((answer.attempts, answer.duplicate, answer.position.seq), (3, true, 1));
    let sent = script.published.lock().unwrap();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|request| *request == sent[0]), "the content changed between attempts");
}

#[tokio::test]
async fn publish_gives_up_after_its_attempts_and_says_that_the_outcome_is_unknown() {
    let lost = (0..9).map(|_| Status::unavailable("connection reset")).collect();
    let (client, script) = start(Script { publishes: Mutex::new(lost), ..Script::default() }).await;
    let error = client.publish(&Publish::alert(&fire(1))).await.expect_err("never answered");
    assert_eq!((error.retry, error.attempts), (Retry::Unknown, 3));
    assert_eq!(script.published.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_refusal_is_not_repeated_and_names_the_fields() {
    let mut details = ErrorDetails::with_bad_request(vec![FieldViolation::new("alert.status", "it is not given")]);
    details.set_error_info("INVALID_ALERT", "campanile", std::collections::HashMap::new());
    let refusal = Status::with_error_details(Code::InvalidArgument, "the alert is refused", details);
    let script = Script { publishes: Mutex::new([refusal].into()), ..Script::default() };
    let (client, script) = start(script).await;
    let error = client.publish(&Publish::alert(&fire(1))).await.expect_err("refused");
    assert_eq!((error.code, error.retry), (Code::InvalidArgument, Retry::Terminal));
    assert_eq!(error.violations[0].field, "alert.status");
    assert_eq!(error.reason.as_deref(), Some("INVALID_ALERT"));
    assert_eq!(script.published.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_call_that_is_not_safe_to_repeat_is_made_once() {
    let (client, script) = start(Script::default()).await;
    let error = client.acknowledge(&wanted(&fire(1).id()), "").await.expect_err("lost");
    assert_eq!(error.retry, Retry::Unknown);
    assert_eq!(*script.calls.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_call_has_a_deadline() {
    let (client, script) = start(Script { stall: true, ..Script::default() }).await;
    let begun = std::time::Instant::now();
    let error = client.list(&Query::default()).await.expect_err("no answer comes");
    assert_eq!((error.retry, error.attempts), (Retry::Unknown, 3));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(*script.calls.lock().unwrap(), 3);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_an_error_with_its_path() {
    let (client, _) = start(Script::default()).await;
    let error = client.list(&Query::default()).await.expect_err("an alert without status");
    assert_eq!(error.code, Code::DataLoss);
    assert_eq!(error.violations[0].field, "alert.status");
    let detail = client.get(&wanted(&fire(1).id())).await.expect("a good one");
    assert_eq!(detail.alert.alert, fire(1));
}

#[tokio::test]
async fn a_broken_watch_resumes_from_its_last_cursor_without_doubles() {
    let (client, script) = start(streams(vec![
        Ok((vec![alert(1), alert(2)], End::Break)),
        Err(Status::unavailable("not yet")),
        // The node counts its last message as not yet covered.
        Ok((vec![alert(2), alert(3)], End::Close)),
        Ok((vec![heartbeat(3), alert(4)], End::Silence)),
    ]))
    .await;
    let mut watch = client.watch(Start::Beginning, &Filter::default());
    let (mut seen, mut resumed) = (Vec::new(), 0);
    while seen.len() < 4 {
        match watch.next().await.expect("the watch goes on").expect("no error") {
            Event::Alert(record) => seen.push(record.position.seq),
            Event::Resumed { gap } => {
                assert!(!gap);
                resumed += 1;
            }
            Event::Heartbeat(_) => {}
            Event::Unreadable { faults, .. } => panic!("{faults:?}"),
        }
    }
    assert_eq!((seen, resumed), (vec![1, 2, 3, 4], 2));
    assert_eq!(watch.cursor().map(|cursor| cursor.to_string().parse()), Some(Ok(watch.cursor().unwrap().clone())));
    let asked = script.watched.lock().unwrap();
    assert!(asked[0].from_start && asked[0].after.is_none());
    assert_eq!(asked[1].after, Some(cursor(2)));
    assert_eq!(asked[2].after, Some(cursor(2)));
    assert_eq!(asked[3].after, Some(cursor(3)));
    assert!(!asked[3].from_start);
}

#[tokio::test]
async fn a_silent_watch_is_taken_for_broken() {
    let script = streams(vec![Ok((vec![heartbeat(5)], End::Silence)), Ok((vec![alert(6)], End::Silence))]);
    let (client, script) = start(script).await;
    let mut watch = client.watch(Start::Now, &Filter::default());
    loop {
        if let Event::Alert(record) = watch.next().await.unwrap().expect("no error") {
            assert_eq!(record.position.seq, 6);
            break;
        }
    }
    assert_eq!(script.watched.lock().unwrap()[1].after, Some(cursor(5)));
}

#[tokio::test]
async fn a_watch_ends_when_it_is_refused_or_attempts_are_used_up() {
    let (client, _) = start(streams(vec![Err(Status::permission_denied("no role read"))])).await;
    let mut watch = client.watch(Start::Now, &Filter::default());
    assert_eq!(watch.next().await.unwrap().expect_err("refused").code, Code::PermissionDenied);
    assert!(watch.next().await.is_none());

    let down = || Err(Status::unavailable("down"));
    let (client, script) = start(streams(vec![down(), down(), down(), down()])).await;
    let mut watch = client.watch(Start::Now, &Filter::default());
    assert_eq!(watch.next().await.unwrap().expect_err("down").attempts, 3);
    assert!(watch.next().await.is_none());
    assert_eq!(script.watched.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_watch_says_when_it_may_have_missed_something() {
    let (client, _) = start(streams(vec![Ok((vec![], End::Close)), Ok((vec![alert(1)], End::Silence))])).await;
    let mut watch = client.watch(Start::Now, &Filter::default());
    assert_eq!(watch.next().await.unwrap().expect("open again"), Event::Resumed { gap: true });
}

#[tokio::test]
async fn an_unreadable_alert_does_not_stop_the_watch() {
    let mut odd = alert(1);
    if let Some(watch_response::Kind::Alert(record)) = &mut odd.kind {
        record.alert.as_mut().unwrap().infos[0].severity = 99;
    }
    let (client, _) = start(streams(vec![Ok((vec![odd, alert(2)], End::Silence))])).await;
    let events: Vec<_> = client.watch(Start::Now, &Filter::default()).into_stream().take(2).collect().await;
    match events[0].as_ref().expect("no error") {
        Event::Unreadable { position, faults } => {
            assert_eq!(position.as_ref().map(|position| position.seq), Some(1));
            assert_eq!(faults[0].path, "alert.infos[0].severity");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(&events[1], Ok(Event::Alert(record)) if record.position.seq == 2));
}

#[test]
fn a_cursor_survives_as_text() {
    let text = hex::encode(prost::Message::encode_to_vec(&cursor(3)));
    assert_eq!(text.parse::<Cursor>().expect("a cursor").to_string(), text);
    assert!("zz".parse::<Cursor>().is_err() && "ff".parse::<Cursor>().is_err());
}
