//! PeerService.

use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use wire::pull_request::Kind as Ask;
use wire::pull_response::Kind as Answer;

use super::*;

fn ask(kind: Ask) -> wire::PullRequest {
    wire::PullRequest { kind: Some(kind) }
}

fn start() -> wire::PullStart {
    wire::PullStart {
        origin: EDB.into(),
        lane: wire::Lane::Urgent.into(),
        after: None,
        credit_bytes: 1 << 20,
        older: Vec::new(),
    }
}

fn credit(credit_bytes: u32) -> wire::PullRequest {
    ask(Ask::Credit(wire::PullCredit { credit_bytes, durable: None }))
}

async fn answer(stream: &mut tonic::Streaming<wire::PullResponse>) -> Option<Result<Answer, Status>> {
    let next = tokio::time::timeout(ANSWER_WITHIN, stream.next()).await.expect("in time")?;
    Some(next.map(|response| response.kind.expect("a kind")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_ask_nonsense_are_refused_and_the_log_is_served_on() {
    let node = Node::start(&[]).await;
    let (held, mut judge) = (node.held().await, Judge::default());
    let mut peers = node.peers();
    let bad = Code::InvalidArgument;

    let none: Vec<wire::PullRequest> = Vec::new();
    judge.refused("no message", peers.pull(tokio_stream::iter(none)), bad, "").await;
    let first = [
        ("an empty message", wire::PullRequest::default()),
        ("credit first", credit(1 << 20)),
        ("an empty start", ask(Ask::Start(wire::PullStart::default()))),
        ("no origin", ask(Ask::Start(wire::PullStart { origin: String::new(), ..start() }))),
        ("an origin of garbage", ask(Ask::Start(wire::PullStart { origin: "../../etc".into(), ..start() }))),
        ("a huge origin", ask(Ask::Start(wire::PullStart { origin: "x".repeat(1_500_000), ..start() }))),
        ("no lane", ask(Ask::Start(wire::PullStart { lane: 0, ..start() }))),
        ("lane 99", ask(Ask::Start(wire::PullStart { lane: 99, ..start() }))),
        ("lane -1", ask(Ask::Start(wire::PullStart { lane: -1, ..start() }))),
    ];
    for (case, request) in first {
        judge.refused(case, peers.pull(tokio_stream::iter([request])), bad, "").await;
    }
    let mut positions = bad_positions();
    let good = wire::Position { origin: EDB.into(), lane: 1, epoch: 1, seq: 1, hash: vec![0; 32].into() };
    positions.push(("a position of another log", wire::Position { origin: FSD.into(), ..good.clone() }));
    positions.push(("a position of another lane", wire::Position { lane: 2, ..good.clone() }));
    for (case, position) in positions {
        let request = ask(Ask::Start(wire::PullStart { after: Some(position), ..start() }));
        judge.refused(case, peers.pull(tokio_stream::iter([request])), bad, "").await;
    }
    let strange = wire::Position { origin: FSD.into(), ..good.clone() };
    for (case, older) in [("older positions of another log", vec![strange]), ("too many", vec![good.clone(); 1_025])] {
        let request = ask(Ask::Start(wire::PullStart { older, ..start() }));
        judge.refused(case, peers.pull(tokio_stream::iter([request])), bad, "").await;
    }
    let request = ask(Ask::Start(wire::PullStart { origin: "x".repeat(3 << 20), ..start() }));
    judge.refused("3 MiB", peers.pull(tokio_stream::iter([request])), Code::OutOfRange, "").await;

    for (bytes, code) in [(0, bad), (31, bad), (33, bad), (1_000_000, bad), (32, Code::NotFound)] {
        let call = peers.get_body(wire::GetBodyRequest { record_hash: vec![1; bytes].into() });
        judge.refused(format!("the body of {bytes} bytes"), call, code, "").await;
    }
    for number in [0, 1_000_000, u64::MAX] {
        let call = peers.get_roster(wire::GetRosterRequest { number: Some(number) });
        judge.refused(format!("roster {number}"), call, Code::NotFound, "").await;
    }
    for roster in [Vec::new(), vec![0xff; 1_000], b"{}".to_vec(), vec![b'['; 1_000_000]] {
        let bytes = roster.len();
        let call = peers.poke(wire::PokeRequest { roster: Some(roster.into()) });
        judge.refused(format!("a roster of {bytes} bytes"), call, bad, "").await;
    }
    // A client's certificate, even one with every role, is no node.
    let mut client = PeerServiceClient::new(node.channel(OFFICER));
    let denied = Code::PermissionDenied;
    let opening = tokio_stream::iter([ask(Ask::Start(start()))]);
    judge.refused("Pull by a client", client.pull(opening), denied, "").await;
    let call = client.get_body(wire::GetBodyRequest { record_hash: vec![1; 32].into() });
    judge.refused("GetBody by a client", call, denied, "").await;
    let call = client.get_roster(wire::GetRosterRequest::default());
    judge.refused("GetRoster by a client", call, denied, "").await;
    judge.refused("Poke by a client", client.poke(wire::PokeRequest::default()), denied, "").await;
    judge.end();

    without_credit(&mut peers).await;
    started_twice(&mut peers).await;
    // A position beyond the log's end breaks nothing: what lies below it, and was not named as held, is sent.
    let beyond = wire::Position { epoch: u64::MAX, seq: u64::MAX, ..good.clone() };
    let older = wire::Position { epoch: 1, seq: u64::MAX, ..good };
    for after in [beyond, older] {
        let opening = ask(Ask::Start(wire::PullStart { after: Some(after), ..start() }));
        let requests = tokio_stream::iter([opening]).chain(tokio_stream::pending());
        let mut stream = peers.pull(requests).await.unwrap().into_inner();
        let first = answer(&mut stream).await.unwrap().unwrap();
        assert!(matches!(first, Answer::Record(_)), "{first:?}");
    }
    node.is_unharmed(held).await;
}

/// Without credit there are signs of life and no record; with credit the record comes.
async fn without_credit(peers: &mut PeerServiceClient<Channel>) {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    sender.send(ask(Ask::Start(wire::PullStart { credit_bytes: 0, ..start() }))).await.unwrap();
    let mut stream = peers.pull(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let first = answer(&mut stream).await.unwrap().unwrap();
    assert!(matches!(first, Answer::Bookmark(_)), "{first:?}");
    sender.send(credit(0)).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(1), stream.next()).await.is_err(), "sent without credit");
    // More than is allowed is cut, not obeyed and not a fault.
    sender.send(credit(u32::MAX)).await.unwrap();
    let next = answer(&mut stream).await.unwrap().unwrap();
    assert!(matches!(next, Answer::Record(_)), "{next:?}");
}

/// A second start ends the stream: nothing of the other log is served on it.
async fn started_twice(peers: &mut PeerServiceClient<Channel>) {
    let other = wire::PullStart { lane: wire::Lane::Exercise.into(), ..start() };
    let requests = [ask(Ask::Start(wire::PullStart { credit_bytes: 0, ..start() })), ask(Ask::Start(other))];
    let requests = tokio_stream::iter(requests).chain(tokio_stream::pending());
    let mut stream = peers.pull(requests).await.unwrap().into_inner();
    loop {
        match answer(&mut stream).await {
            Some(Ok(Answer::Bookmark(_))) => {}
            Some(Ok(other)) => panic!("served {other:?}"),
            Some(Err(status)) => return assert_eq!(status.code(), Code::InvalidArgument, "{status}"),
            None => return,
        }
    }
}
