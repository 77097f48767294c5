//! What the suites share: plans, packs and the small steps that every story takes.

use std::path::PathBuf;

use campanile_alert::{Area, DepartmentId, Polygon, Status, Timestamp, ValuePair};
use campanile_client::Client;
use campanile_client::admin::{Envelope, Rules};
use campanile_discovery::identity::Role;
use campanile_discovery::pki::{ClientPlan, DepartmentPlan, NodePlan, Plan, Validity};
use campanile_discovery::roster::{OriginKind, Right, RightArea};
use campanile_tests::cluster::{Builder, Cluster, LIMIT, Time, wait_for};

pub(crate) const FIRE_RULE: &str = "edb.school-closure.fire";
pub(crate) const HONG_KONG: &str = "22.1,113.8 22.6,113.8 22.6,114.5 22.1,114.5 22.1,113.8";
/// The fire of `campanile up`: beside the fictional sites.
pub(crate) const HARBOUR_VIEW: (f64, f64) = (22.3, 114.1);
/// Every page of the gateway that lists alerts, and the screen of a block beside that fire.
pub(crate) const PUBLIC: [&str; 6] = [
    "/",
    "/alerts.json",
    "/feed/en/atom.xml",
    "/feed/zh-Hant/atom.xml",
    "/screen/harbour-view-estate/hoi-king-house",
    "/screen/harbour-view-estate/hoi-king-house/state.json",
];
pub(crate) const NOW: &str = "2026-10-13T02:00:00Z";

pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

pub(crate) fn within(polygon: &str) -> RightArea {
    RightArea::Within(Box::new(Area {
        description: "its area".into(),
        polygons: vec![Polygon::parse(polygon).unwrap()],
        geocodes: vec![
            ValuePair::new("campanile:site", "*"),
            ValuePair::new("urn:oasis:names:tc:emergency:cap:1.2:profile:CAP-AU:1.0:ISO3166-2", "AU-NSW"),
        ],
        ..Area::default()
    }))
}

pub(crate) fn right(events: &[&str], area: RightArea) -> Right {
    Right { events: events.iter().map(|event| (*event).to_owned()).collect(), statuses: Status::ALL.to_vec(), area }
}

/// A department with one node and clients.
pub(crate) fn department(id: &str, rights: Vec<Right>, clients: Vec<ClientPlan>) -> DepartmentPlan {
    let mut plan = DepartmentPlan::new(DepartmentId::try_new(id).unwrap());
    plan.nodes = vec![NodePlan { name: "node-1".into(), kind: OriginKind::Node, hosts: Vec::new() }];
    plan.rights = rights;
    plan.clients = clients;
    plan
}

pub(crate) fn gateway(id: &str) -> DepartmentPlan {
    let mut plan = department(id, Vec::new(), Vec::new());
    plan.nodes = vec![NodePlan { name: "gateway-1".into(), kind: OriginKind::Gateway, hosts: Vec::new() }];
    plan
}

pub(crate) fn client(name: &str, roles: &[Role]) -> ClientPlan {
    ClientPlan { name: name.into(), roles: roles.iter().copied().collect(), person: None }
}

pub(crate) fn plan(departments: Vec<DepartmentPlan>, from: Timestamp) -> Plan {
    Plan {
        federation: "hk-test".into(),
        departments,
        validity: Validity::development(from),
        governance_keys: 1,
        threshold: 1,
    }
}

/// The five departments of `campanile up`, with every status allowed, so that only the rules keep worlds apart.
pub(crate) fn five(time: &Time) -> Plan {
    let mut plan = campanile_cli::local::plan(time.now()).unwrap();
    for right in plan.departments.iter_mut().flat_map(|department| &mut department.rights) {
        right.statuses = Status::ALL.to_vec();
    }
    plan
}

/// Those five at a clock of the test's, with the fire pack and the screens.
pub(crate) fn harbour_view() -> Builder {
    let time = Time::at(NOW).unwrap();
    harbour_view_of(five(&time), time)
}

pub(crate) fn harbour_view_of(plan: Plan, time: Time) -> Builder {
    Builder::new(plan, time)
        .unwrap()
        .pack("edb/node-1", repository("services/rules/packs/edb-fire.rules.yaml"))
        .estates(repository("gateway/data/harbour-view-estates.json"))
}

/// Two persons of the directorate allow the fire rule to act at once.
pub(crate) async fn sign_envelope(cluster: &Cluster) {
    let valid_to = cluster.time.now() + jiff::SignedDuration::from_hours(24 * 30);
    for name in ["edb/directorate-1", "edb/directorate-2"] {
        let envelope = Envelope { rule: FIRE_RULE.into(), valid_from: None, valid_to };
        cluster.client(name).await.unwrap().sign_envelope(&envelope).await.unwrap();
    }
}

/// Waits until what the node says of its rules fits.
pub(crate) async fn wait_rules<T>(client: &Client, what: &str, fits: impl Fn(&Rules) -> Option<T>) -> T {
    let fits = &fits;
    wait_for(what, LIMIT, || async move { Ok(fits(&client.rules().await?)) }).await.unwrap()
}
