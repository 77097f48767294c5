//! What a federation is made of: a plan file, or the plan that a list of departments stands for.
//!
//! ```yaml
//! federation: hongkong
//! governance: {keys: 3, threshold: 2}          # 1 and 1 when left out
//! departments:
//! - id: edb
//!   names: {en: Education Bureau, zh-Hant: 教育局}
//!   nodes:
//!   - {name: node-1, hosts: [node-1.edb.example], address: "node-1.edb.example:7443"}
//!   - {name: gateway-1, kind: gateway}
//!   clients:
//!   - {name: duty-officer-1, roles: [read, approve], person: edb-officer-1}
//!   persons: {edb-officer-1: [edb.duty-officer]}
//!   rights:
//!   - {events: [class-suspension], statuses: [Actual, Exercise], area: {everywhere: true}}
//! ```

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{Area, DepartmentId, Point, Polygon, Status, ValuePair, vocabulary};
use campanile_discovery::Role;
use campanile_discovery::pki::{ClientPlan, DepartmentPlan, NodePlan, Plan, Validity};
use campanile_discovery::roster::{ANY_CODE, Delegate, OriginKind, Right, RightArea};
use serde::Deserialize;

use crate::failure::{Next as _, failure};

/// Where the first node of a plan without addresses listens; the others follow, one port apart.
const PORT_FIRST: usize = 7443;
/// The most departments and the most nodes of each in one plan.
const MANY: usize = 256;

/// A plan file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PlanDoc {
    federation: String,
    #[serde(default)]
    governance: GovernanceDoc,
    departments: Vec<DepartmentDoc>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GovernanceDoc {
    keys: usize,
    threshold: usize,
}

impl Default for GovernanceDoc {
    fn default() -> Self {
        Self { keys: 1, threshold: 1 }
    }
}

/// One department of a plan file; alone in a file it is what `pki request --plan` takes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct DepartmentDoc {
    id: DepartmentId,
    #[serde(default)]
    names: BTreeMap<String, String>,
    nodes: Vec<NodeDoc>,
    #[serde(default)]
    clients: Vec<ClientDoc>,
    #[serde(default)]
    persons: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    rights: Vec<Right>,
    #[serde(default)]
    may_read: Vec<DepartmentId>,
    #[serde(default)]
    delegates: Vec<Delegate>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct NodeDoc {
    name: String,
    #[serde(default = "node")]
    kind: OriginKind,
    #[serde(default)]
    hosts: Vec<String>,
    /// Where clients reach it; for their profiles alone.
    #[serde(default)]
    address: Option<String>,
}

fn node() -> OriginKind {
    OriginKind::Node
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ClientDoc {
    name: String,
    roles: BTreeSet<Role>,
    #[serde(default)]
    person: Option<String>,
}

/// A plan with the addresses that client profiles name, by department.
#[derive(Debug)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Where the clients of a department find their node.
    pub addresses: BTreeMap<DepartmentId, String>,
}

/// Reads a plan file.
///
/// # Errors
/// When it is not a plan.
pub fn parse(text: &str, validity: Validity) -> anyhow::Result<Planned> {
    let document: PlanDoc = yaml(text)?;
    planned(document, validity)
}

/// Reads the plan of one department.
///
/// # Errors
/// When it is not one.
pub fn parse_department(text: &str) -> anyhow::Result<DepartmentPlan> {
    Ok(department(yaml(text)?).0)
}

fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> anyhow::Result<T> {
    serde_saphyr::from_str(text)
        .map_err(|error| anyhow::anyhow!("it is not a plan: {}", error.without_snippet()))
        .next("see services/cli/README.md for a plan")
}

/// The plan for development that a list of departments stands for: one node each, `gateway-1` for `isd`, the clients
/// `publisher`, `officer-1`, `officer-2` and `operator`, and the rights that the vocabulary names owners for.
///
/// # Errors
/// When a department is listed twice, or none is.
pub fn development(federation: &str, departments: &[DepartmentId], validity: Validity) -> anyhow::Result<Planned> {
    let departments = departments.iter().map(development_department).collect::<anyhow::Result<_>>()?;
    let document = PlanDoc { federation: federation.into(), governance: GovernanceDoc::default(), departments };
    planned(document, validity)
}

fn planned(document: PlanDoc, validity: Validity) -> anyhow::Result<Planned> {
    let many = document.departments.len() > MANY || document.departments.iter().any(|d| d.nodes.len() > MANY);
    if document.departments.is_empty() || many {
        return Err(failure("the plan has no department, or too many", format!("name 1 to {MANY}")));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = document.departments.iter().find(|d| !seen.insert(&d.id)) {
        return Err(failure(format!("{} is listed twice", twice.id), "keep one of them"));
    }
    let (governance, mut port) = (document.governance, PORT_FIRST);
    let (mut departments, mut addresses) = (Vec::new(), BTreeMap::new());
    for document in document.departments {
        let (plan, address) = department(document);
        addresses.insert(plan.id.clone(), address.unwrap_or_else(|| format!("127.0.0.1:{port}")));
        port += plan.nodes.len();
        departments.push(plan);
    }
    let plan = Plan {
        federation: document.federation,
        departments,
        validity,
        governance_keys: governance.keys,
        threshold: governance.threshold,
    };
    Ok(Planned { plan, addresses })
}

/// The plan of a department, and the address of the node that its clients ask.
fn department(document: DepartmentDoc) -> (DepartmentPlan, Option<String>) {
    let first = document.nodes.iter().find(|node| node.kind == OriginKind::Node).or(document.nodes.first());
    let address = first.and_then(|node| node.address.clone());
    let node = |node: NodeDoc| NodePlan { name: node.name, kind: node.kind, hosts: node.hosts };
    let client = |client: ClientDoc| ClientPlan { name: client.name, roles: client.roles, person: client.person };
    let plan = DepartmentPlan {
        names: document.names,
        nodes: document.nodes.into_iter().map(node).collect(),
        clients: document.clients.into_iter().map(client).collect(),
        persons: document.persons,
        rights: document.rights,
        may_read: document.may_read,
        delegates: document.delegates,
        ..DepartmentPlan::new(document.id)
    };
    (plan, address)
}

fn development_department(id: &DepartmentId) -> anyhow::Result<DepartmentDoc> {
    let kind = if id.as_str() == "isd" { OriginKind::Gateway } else { OriginKind::Node };
    let name = if kind == OriginKind::Gateway { "gateway-1" } else { "node-1" };
    let client = |name: &str, roles: &[Role], person: Option<String>| ClientDoc {
        name: name.into(),
        roles: roles.iter().copied().collect(),
        person,
    };
    let officer = |n: usize| format!("{id}-officer-{n}");
    let role = |name: &str| format!("{id}.{name}");
    let roles = vec![role("duty-officer"), role("regional-officer"), role("directorate")];
    let events: Vec<String> =
        vocabulary::v1().events().filter(|event| event.owners.contains(id)).map(|event| event.code.clone()).collect();
    let statuses = vec![Status::Actual, Status::Exercise, Status::System, Status::Test, Status::Draft];
    let right = Right { events: events.clone(), statuses, area: RightArea::Within(Box::new(hong_kong()?)) };
    Ok(DepartmentDoc {
        id: id.clone(),
        names: BTreeMap::new(),
        nodes: vec![NodeDoc { name: name.into(), kind, hosts: Vec::new(), address: None }],
        clients: vec![
            client("publisher", &[Role::Publish, Role::Read], None),
            client("officer-1", &[Role::Publish, Role::Approve, Role::Read], Some(officer(1))),
            client("officer-2", &[Role::Publish, Role::Approve, Role::Read], Some(officer(2))),
            client("operator", &[Role::Read, Role::Administer], None),
        ],
        persons: [(officer(1), roles.clone()), (officer(2), roles)].into_iter().collect(),
        rights: if events.is_empty() { Vec::new() } else { vec![right] },
        may_read: Vec::new(),
        delegates: Vec::new(),
    })
}

/// A box around Hong Kong, with the codes that alerts made on the bus carry.
fn hong_kong() -> anyhow::Result<Area> {
    let (south, west, north, east) = (22.1, 113.8, 22.6, 114.5);
    let corner = |lat, lon| Point { lat, lon };
    let ring =
        [corner(south, west), corner(south, east), corner(north, east), corner(north, west), corner(south, west)];
    Ok(Area {
        description: "Hong Kong".into(),
        polygons: vec![Polygon::from_points(&ring)?],
        geocodes: vec![ValuePair::new("campanile:site", ANY_CODE), ValuePair::new("ISO3166-2", "CN-HK")],
        ..Area::default()
    })
}
