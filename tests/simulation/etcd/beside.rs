//! The model beside real etcds: the same calls, drawn from a seed, get the same answers.

use std::time::Duration;

use campanile_discovery::testing::{EtcdServer, EtcdVersion};
use etcd_client::{
    Channel, Client, CompactionOptions, Compare, CompareOp, ConnectOptions, DeleteOptions, Error, Event, GetOptions,
    KeyValue, LeaseGrantOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt as _};

use super::Etcd;

/// How many calls one run makes.
const CALLS: usize = 400;
/// The key whose change ends a watch.
const LAST: &str = "/a/zz";

/// A call.
#[derive(Debug, Clone)]
enum Call {
    Put { key: String, value: u8, lease: i64 },
    Get { key: String, prefix: bool, limit: i64, descend: bool },
    Delete { key: String, prefix: bool },
    When { compare: Compare, then: Vec<TxnOp> },
    Grant { lease: i64 },
    Revoke { lease: i64 },
    Renew { lease: i64 },
    Compact { revision: i64 },
    Watch { revision: i64, previous: bool },
}

fn key(chance: &mut StdRng) -> String {
    format!("/{}/{}", ["a", "b"][chance.random_range(0..2)], chance.random_range(0..4))
}

fn compare(chance: &mut StdRng, revision: i64) -> Compare {
    let op = [CompareOp::Equal, CompareOp::Greater, CompareOp::Less, CompareOp::NotEqual][chance.random_range(0..4)];
    let (key, near) = (key(chance), (revision - chance.random_range(0..20)).max(0));
    let compare = match chance.random_range(0..5) {
        0 => Compare::version(key, op, chance.random_range(0..3)),
        1 => Compare::create_revision(key, op, near),
        2 => Compare::mod_revision(key, op, near),
        3 => Compare::value(key, op, [chance.random_range(b'a'..b'f')]),
        _ => Compare::lease(key, op, chance.random_range(0..4)),
    };
    if chance.random_bool(0.2) { compare.with_prefix() } else { compare }
}

/// What comes next; `revision` is about where both are.
fn next(chance: &mut StdRng, revision: i64) -> Call {
    let lease = chance.random_range(1..4);
    match chance.random_range(0..100) {
        0..30 => {
            let lease = if chance.random_bool(0.5) { lease } else { 0 };
            Call::Put { key: key(chance), value: chance.random_range(b'a'..b'f'), lease }
        }
        30..45 => Call::Get {
            key: if chance.random_bool(0.5) { "/a/".into() } else { key(chance) },
            prefix: chance.random_bool(0.6),
            limit: chance.random_range(0..3),
            descend: chance.random_bool(0.5),
        },
        45..52 => Call::Delete { key: key(chance), prefix: chance.random_bool(0.2) },
        52..72 => {
            let op = |chance: &mut StdRng| match chance.random_range(0..3) {
                0 => TxnOp::get("/a/", Some(GetOptions::new().with_prefix())),
                1 => TxnOp::delete(key(chance), None),
                _ => TxnOp::put(key(chance), [chance.random_range(b'a'..b'f')], None),
            };
            let mut then = vec![op(chance)];
            // One key is put once at most in one transaction.
            if chance.random_bool(0.5) {
                then.push(TxnOp::get(key(chance), None));
            }
            Call::When { compare: compare(chance, revision), then }
        }
        72..79 => Call::Grant { lease },
        79..84 => Call::Revoke { lease },
        84..88 => Call::Renew { lease },
        88..92 => Call::Compact { revision: (revision - chance.random_range(-1..12)).max(1) },
        _ => {
            Call::Watch { revision: (revision - chance.random_range(0..15)).max(1), previous: chance.random_bool(0.5) }
        }
    }
}

fn told_key(kv: &KeyValue) -> String {
    format!(
        "{}={} created {} changed {} version {} lease {}",
        String::from_utf8_lossy(kv.key()),
        String::from_utf8_lossy(kv.value()),
        kv.create_revision(),
        kv.mod_revision(),
        kv.version(),
        kv.lease()
    )
}

fn told_event(event: &Event) -> String {
    let kv = |kv: Option<&KeyValue>| kv.map(told_key);
    format!("{:?} {:?} before {:?}", event.event_type(), kv(event.kv()), kv(event.prev_kv()))
}

fn told_keys(found: &etcd_client::GetResponse) -> String {
    let keys: Vec<String> = found.kvs().iter().map(told_key).collect();
    format!("{keys:?} more {} of {}", found.more(), found.count())
}

/// Makes a call, and tells what came of it in words that both must use alike.
async fn make(client: &mut Client, call: Call) -> Result<String, Error> {
    let revision = |header: Option<&etcd_client::ResponseHeader>| header.map(etcd_client::ResponseHeader::revision);
    Ok(match call {
        Call::Put { key, value, lease } => {
            let put = client.put(key, [value], Some(PutOptions::new().with_lease(lease))).await?;
            format!("put at {:?}", revision(put.header()))
        }
        Call::Get { key, prefix, limit, descend } => {
            let mut options = GetOptions::new().with_limit(limit);
            if prefix {
                options = options.with_prefix();
            }
            if descend {
                options = options.with_sort(SortTarget::Key, SortOrder::Descend);
            }
            let found = client.get(key, Some(options)).await?;
            format!("{} at {:?}", told_keys(&found), revision(found.header()))
        }
        Call::Delete { key, prefix } => {
            let options = prefix.then(|| DeleteOptions::new().with_prefix());
            let gone = client.delete(key, options).await?;
            format!("{} gone at {:?}", gone.deleted(), revision(gone.header()))
        }
        Call::When { compare, then } => {
            let otherwise = TxnOp::get("/b/", Some(GetOptions::new().with_prefix()));
            let done = client.txn(Txn::new().when([compare]).and_then(then).or_else([otherwise])).await?;
            let told = |response: TxnOpResponse| match response {
                TxnOpResponse::Get(found) => told_keys(&found),
                TxnOpResponse::Delete(gone) => format!("{} gone", gone.deleted()),
                _ => "put".into(),
            };
            let responses: Vec<String> = done.op_responses().into_iter().map(told).collect();
            format!("{} {responses:?} at {:?}", done.succeeded(), revision(done.header()))
        }
        Call::Grant { lease } => {
            let granted = client.lease_grant(600, Some(LeaseGrantOptions::new().with_id(lease))).await?;
            format!("granted {} for {}", granted.id(), granted.ttl())
        }
        Call::Revoke { lease } => format!("revoked at {:?}", revision(client.lease_revoke(lease).await?.header())),
        Call::Renew { lease } => {
            let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
            keeper.keep_alive().await?;
            format!("renewed for {:?}", answers.message().await?.map(|answer| answer.ttl()))
        }
        Call::Compact { revision: to } => {
            // Only what is compacted for good can be relied on.
            let compacted = client.compact(to, Some(CompactionOptions::new().with_physical())).await?;
            format!("compacted at {:?}", revision(compacted.header()))
        }
        Call::Watch { revision, previous } => {
            let mut options = WatchOptions::new().with_prefix().with_start_revision(revision);
            if previous {
                options = options.with_prev_key();
            }
            let mut stream = client.watch("/a/", Some(options)).await?;
            client.put(LAST, "", None).await?;
            let mut told = Vec::new();
            while let Some(answer) = stream.message().await? {
                told.extend(answer.events().iter().map(told_event));
                if answer.canceled() {
                    told.push(format!("cancelled, compacted to {}", answer.compact_revision()));
                    break;
                }
                if answer.events().iter().any(|event| event.kv().is_some_and(|kv| kv.key() == LAST.as_bytes())) {
                    break;
                }
            }
            format!("{told:#?}")
        }
    })
}

/// The same without the differences that mean nothing: how an error came about.
fn told(made: Result<String, Error>) -> String {
    match made {
        Ok(told) => told,
        Err(Error::GRpcStatus(status)) => format!("{:?}: {}", status.code(), status.message()),
        Err(other) => other.to_string(),
    }
}

async fn model() -> Client {
    let etcd = Etcd::new();
    tokio::spawn({
        let etcd = std::sync::Arc::clone(&etcd);
        async move { etcd.keep_leases().await }
    });
    let front = etcd.service().map_err(|never| -> BoxError { match never {} });
    Client::from_channel(Channel::Custom(BoxCloneSyncService::new(front)), None).await.unwrap()
}

#[tokio::test]
async fn the_model_answers_as_etcd_does() {
    for version in [EtcdVersion::V34, EtcdVersion::V35] {
        let Some(server) = EtcdServer::start(version).unwrap() else { continue };
        let options = ConnectOptions::new().with_timeout(Duration::from_secs(10));
        let mut real = Client::connect([server.url()], Some(options)).await.unwrap();
        let mut model = model().await;
        let seed = std::env::var("CAMPANILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
        println!("CAMPANILE_SEED={seed}");
        let mut chance = StdRng::seed_from_u64(seed);
        let mut kinds = std::collections::BTreeSet::new();
        for number in 0..CALLS {
            let header = model.get("/", None).await.unwrap();
            let call = next(&mut chance, header.header().unwrap().revision());
            let (theirs, ours) =
                (told(make(&mut real, call.clone()).await), told(make(&mut model, call.clone()).await));
            assert_eq!(theirs, ours, "CAMPANILE_SEED={seed}, {version:?}, call {number}: {call:?}");
            kinds.insert(theirs.chars().take(24).filter(|c| !c.is_numeric()).collect::<String>());
        }
        println!("{version:?}: {CALLS} calls, answers such as {kinds:?}");
        assert!(kinds.len() > 10, "the calls show too little: {kinds:?}");
    }
}
