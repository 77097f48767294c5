//! A small development federation on disk, and a handshake between two of its members.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;

use campanile_alert::message::Status;
use campanile_alert::{DepartmentId, ManualClock, OriginId, Timestamp};
use campanile_discovery::pki::{ClientPlan, DepartmentPlan, Federation, NodePlan, Plan, Validity};
use campanile_discovery::roster::{OriginKind, Right, RightArea, RosterHandle};
use campanile_discovery::tls::{self, Acceptor, Connector, Expect, Identity, Timeouts, TlsMaterial};
use campanile_discovery::{PeerIdentity, Role};
use tokio::net::{TcpListener, TcpStream};

pub fn now() -> Timestamp {
    "2026-11-22T08:00:00Z".parse().unwrap()
}

pub fn dept(id: &str) -> DepartmentId {
    DepartmentId::try_new(id).unwrap()
}

pub fn origin(id: &str) -> OriginId {
    id.parse().unwrap()
}

pub fn department(id: &str) -> DepartmentPlan {
    let mut plan = DepartmentPlan::new(dept(id));
    plan.names = BTreeMap::from([("en".to_owned(), id.to_uppercase())]);
    plan.nodes =
        ["node-1", "node-2"].map(|n| NodePlan { name: n.into(), kind: OriginKind::Node, hosts: vec![] }).to_vec();
    plan.clients = vec![
        ClientPlan {
            name: "desk-1".into(),
            roles: [Role::Publish, Role::Approve].into(),
            person: Some(format!("{id}-officer-1")),
        },
        ClientPlan { name: "desk-2".into(), roles: [Role::Read].into(), person: None },
    ];
    plan.persons = BTreeMap::from([(format!("{id}-officer-1"), vec![format!("{id}.duty-officer")])]);
    plan.rights = vec![Right {
        events: vec!["fire".into()],
        statuses: vec![Status::Actual, Status::Exercise],
        area: RightArea::Everywhere,
    }];
    plan
}

pub struct Fed {
    pub fed: Federation,
    pub dir: tempfile::TempDir,
}

pub fn federation_of(departments: &[&str], governance_keys: usize, threshold: usize) -> Fed {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        federation: "test".into(),
        departments: departments.iter().map(|d| department(d)).collect(),
        validity: Validity::development(now()),
        governance_keys,
        threshold,
    };
    let fed = Federation::create(dir.path().join("pki"), &plan).unwrap();
    Fed { fed, dir }
}

pub fn federation() -> Fed {
    federation_of(&["edb", "fsd"], 3, 2)
}

impl Fed {
    pub fn handle(&self) -> RosterHandle {
        RosterHandle::open(self.fed.root().unwrap(), true, None, Some(&self.fed.roster().unwrap())).unwrap()
    }

    pub fn material(&self, who: &str, roster: &RosterHandle, clock: &Arc<ManualClock>) -> TlsMaterial {
        TlsMaterial::open(self.fed.node(&origin(who)).tls, roster.clone(), clock.clone()).unwrap()
    }

    pub fn client(&self, who: &str, roster: &RosterHandle, clock: &Arc<ManualClock>) -> TlsMaterial {
        let identity = Identity::load(&self.fed.client(&who.parse().unwrap())).unwrap();
        TlsMaterial::new(identity, roster.clone(), clock.clone()).unwrap()
    }
}

pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(now()))
}

/// Both sides' outcomes of one handshake on loopback.
pub async fn handshake(
    caller: &TlsMaterial,
    expect: &str,
    called: &TlsMaterial,
) -> (Result<(), tls::Error>, Result<PeerIdentity, tls::Error>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connector = Connector::new(caller, Expect::Origin(origin(expect)), Timeouts::default()).unwrap();
    let acceptor = Acceptor::new(called.clone(), Timeouts::default());
    let serve = async {
        let (tcp, _): (TcpStream, _) = listener.accept().await.unwrap();
        acceptor.accept(tcp).await.map(|(_, peer)| peer)
    };
    let (called, caller) = tokio::join!(serve, connector.connect("127.0.0.1", port));
    (caller.map(drop), called)
}

pub fn hint(name: &str, epoch: u64) -> campanile_discovery::Hint {
    campanile_discovery::Hint {
        origin: origin(name),
        instance: "i".into(),
        addresses: vec!["127.0.0.1:7400".into()],
        epoch: Some(epoch),
        protocol: campanile_discovery::Protocol { min: 1, max: 1 },
        sinks: None,
        started: now(),
    }
}

pub fn members(
    fed: &Fed,
    directory: Arc<dyn campanile_discovery::Directory>,
    cache: Option<&std::path::Path>,
) -> campanile_discovery::Members {
    campanile_discovery::Members::start(campanile_discovery::MembersConfig {
        directory,
        roster: fed.handle(),
        cache: cache.map(Into::into),
        clock: clock(),
    })
}

/// Waits until a condition holds, and fails the test with its name when it does not in time.
pub async fn wait_for(what: &str, limit: std::time::Duration, condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < limit, "{what} did not come within {limit:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
