//! What the adversaries share: drafts, waiting for a standing, and connections that say what no SDK would.

use std::sync::Arc;

use campanile_bus::bus::plain_draft;
use campanile_bus::record::{Audience, Body, Content, Draft};
use campanile_bus::transport::Channels;
use campanile_bus::{Arrival, Bus};
use campanile_client::Identity;
use campanile_discovery::TlsMaterial;
use campanile_discovery::keys::SigningKey;
use campanile_discovery::roster::{Draft as RosterDraft, SignedRoster};
use campanile_log::{Hash, LogId, Standing};
use campanile_proto::bus::v1 as wire;
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::{Cluster, records, wait_record};
use tonic::transport::Channel;

/// What an honest node would write for a fire.
pub(crate) fn draft(fire: &Fire) -> Draft {
    let alert = fire.alert().unwrap();
    let classification = campanile_alert::classify::classify(&alert, campanile_alert::vocabulary::v1());
    let content = Content::Alert { alert: Arc::new(alert.clone()), original: None, media_type: None };
    let plain = plain_draft(alert.status, None, Audience::public(), content);
    Draft { urgent: true, body: Body { classification, ..plain.body }, ..plain }
}

/// Waits until a record is held, and says why it does not count; `None` when it does.
pub(crate) async fn standing(bus: &Bus, name: &str, hash: Hash) -> Option<String> {
    let held = |arrival: &Arrival| arrival.entry.position.hash == hash;
    let held = wait_record(bus, &format!("{name} held by {}", bus.origin()), held).await.unwrap();
    match &held.entry.standing {
        Standing::Counted => None,
        Standing::NoBody => panic!("{name}: held as a header alone"),
        Standing::NotCounted { reason } => Some(reason.clone()),
    }
}

/// The records of a log that are held, in its own order.
pub(crate) async fn log_of(bus: &Bus, log: &LogId) -> Vec<Arc<Arrival>> {
    let mut own: Vec<_> = records(bus).await.unwrap().into_iter().filter(|one| one.entry.log == *log).collect();
    own.sort_by_key(|one| one.entry.position.place());
    own
}

/// A record as it goes over the wire.
pub(crate) fn on_wire(arrival: &Arrival) -> wire::Record {
    campanile_bus::record::to_wire(&arrival.entry, true)
}

/// A connection to a node with any certificate, by the victim's own view of the roster.
pub(crate) fn channel(cluster: &Cluster, identity: Identity, to: &str) -> Channel {
    let node = cluster.node(to).unwrap();
    let material = TlsMaterial::new(identity, node.bus().roster().clone(), cluster.time.clock()).unwrap();
    Channels::new(material).to(node.bus().origin(), &node.address().to_string()).unwrap()
}

/// Opens a stream of the urgent log of `to` itself; the sender keeps it open.
pub(crate) async fn pull(
    channel: Channel,
    to: &str,
) -> (tokio::sync::mpsc::Sender<wire::PullRequest>, tonic::Streaming<wire::PullResponse>) {
    let (requests, receiver) = tokio::sync::mpsc::channel(4);
    let start = wire::PullStart {
        origin: to.into(),
        lane: wire::Lane::Urgent.into(),
        after: None,
        credit_bytes: 4 << 20,
        older: Vec::new(),
    };
    requests.send(wire::PullRequest { kind: Some(wire::pull_request::Kind::Start(start)) }).await.unwrap();
    let mut peer = wire::peer_service_client::PeerServiceClient::new(channel);
    let stream = peer.pull(tokio_stream::wrappers::ReceiverStream::new(receiver)).await.unwrap().into_inner();
    (requests, stream)
}

/// The next record of a stream; what else comes is passed over.
pub(crate) async fn next_record(
    stream: &mut tonic::Streaming<wire::PullResponse>,
) -> Result<wire::Record, tonic::Status> {
    loop {
        let message = tokio::time::timeout(campanile_tests::cluster::LIMIT, stream.message());
        let message = message.await.expect("the stream is silent")?;
        let message = message.ok_or_else(|| tonic::Status::unavailable("the stream has ended"))?;
        if let Some(wire::pull_response::Kind::Record(record)) = message.kind {
            return Ok(record);
        }
    }
}

/// The next roster after `previous`, signed by governance.
pub(crate) fn next_roster(
    cluster: &Cluster,
    previous: &SignedRoster,
    key: &SigningKey,
    change: impl FnOnce(&mut RosterDraft),
) -> Vec<u8> {
    let mut draft = RosterDraft::after(previous);
    change(&mut draft);
    let mut envelope = draft.finish(cluster.time.now()).unwrap();
    envelope.sign(key);
    envelope.to_bytes()
}

/// The key of the cluster's governance.
pub(crate) fn governance(cluster: &Cluster) -> SigningKey {
    cluster.federation.governance_key(1).unwrap()
}
