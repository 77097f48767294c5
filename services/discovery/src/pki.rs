//! Making keys and certificates: a whole federation for development, or one department's own part for a real one.
//!
//! The folder that [`Federation::create`] makes. Files ending in `.key` are made readable by their owner alone.
//!
//! ```text
//! <dir>/roster.json                            the signed roster
//!       root.json                              the root keys that a node's configuration pins
//!       governance/key-<n>.key                 what signs rosters
//!       <department>/ca.pem  ca.key            the department's authority
//!                    nodes/<node>/tls.pem      certificate    tls.key       its key
//!                                 signing.key  live records   exercise.key  exercises
//!                    clients/<name>.pem  <name>.key
//! ```
//!
//! A real department makes only its own `<department>` folder ([`Request::create`]), and sends the request file, which
//! holds no secret; governance adds it to the next roster.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use campanile_alert::{DepartmentId, OriginId, Timestamp};

use crate::identity::{Role, SpiffeId};
use crate::keys::{self, SigningKey};
use crate::roster::{
    self, ClientId, Delegate, Department, Draft, DraftError, Governance, KeyUse, Origin, OriginKey, OriginKind, Person,
    Right, RootKeys, read_bounded, write_whole,
};
use crate::tls::IdentityFiles;

mod issue;
mod request;
mod succeed;

pub use issue::{Leaf, renew_client, renew_node};
pub use request::{REQUEST_BYTES_MAX, REQUEST_TYPE, Request, RequestError};
pub use succeed::{KeyRequest, next_ca, next_key, promote_ca, promote_key};

/// How far before the given instant certificates begin, so that a clock a little behind does not refuse them.
const BACKDATE: Duration = Duration::from_secs(300);

/// Why keys or certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is one already.
    #[error("{0} exists already; give another folder, since keys are never overwritten")]
    Exists(PathBuf),
    /// The disk failed.
    #[error("failed to write or read {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A certificate could not be made.
    #[error("failed to make the certificate of {name}: {reason}")]
    Certificate {
        /// Whose.
        name: String,
        /// The library's reason.
        reason: String,
    },
    /// A name in the plan breaks the rule of names.
    #[error("a name in the plan was refused")]
    Name(#[from] campanile_alert::ids::Error),
    /// A signing key failed.
    #[error("a signing key failed")]
    Key(#[from] keys::Error),
    /// The plan makes no sound roster.
    #[error("the plan makes no roster")]
    Draft(#[from] DraftError),
    /// The roster made is refused.
    #[error("the roster was refused")]
    Roster(#[from] roster::Error),
}

/// The time in which certificates are good.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    /// When they are made; they begin five minutes before.
    pub from: Timestamp,
    /// How long the certificates of nodes and clients last from then. A real federation renews within 7 days.
    pub leaf: Duration,
    /// How long the CAs last from then.
    pub ca: Duration,
}

impl Validity {
    /// 90 days for certificates and ten years for CAs, from an instant: for development.
    pub fn development(from: Timestamp) -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self { from, leaf: Duration::from_secs(90 * DAY), ca: Duration::from_secs(3650 * DAY) }
    }
}

/// A node or gateway to make.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Its name in the department, for example `node-1`.
    pub name: String,
    /// Node or gateway.
    pub kind: OriginKind,
    /// DNS names and IP addresses for its certificate, beside `localhost`, 127.0.0.1 and ::1.
    pub hosts: Vec<String>,
}

/// A client certificate to make.
#[derive(Debug, Clone)]
pub struct ClientPlan {
    /// Its name in the department, for example `duty-officer-1`.
    pub name: String,
    /// What it may do at its department's node.
    pub roles: BTreeSet<Role>,
    /// The token of the person behind it; absent for a system.
    pub person: Option<String>,
}

/// A department to make.
#[derive(Debug, Clone)]
pub struct DepartmentPlan {
    /// Its id.
    pub id: DepartmentId,
    /// Its name by language tag.
    pub names: BTreeMap<String, String>,
    /// Its nodes and gateways; the first of kind node publishes, or else the first.
    pub nodes: Vec<NodePlan>,
    /// Its clients.
    pub clients: Vec<ClientPlan>,
    /// Roles of its persons by token, for example `edb-officer-1` → `edb.duty-officer`.
    pub persons: BTreeMap<String, Vec<String>>,
    /// What it may originate.
    pub rights: Vec<Right>,
    /// Whose restricted records it may read.
    pub may_read: Vec<DepartmentId>,
    /// Who may amend its alerts.
    pub delegates: Vec<Delegate>,
}

impl DepartmentPlan {
    /// A department without nodes, clients or rights yet.
    pub fn new(id: DepartmentId) -> Self {
        Self {
            id,
            names: BTreeMap::new(),
            nodes: Vec::new(),
            clients: Vec::new(),
            persons: BTreeMap::new(),
            rights: Vec::new(),
            may_read: Vec::new(),
            delegates: Vec::new(),
        }
    }

    fn publisher(&self) -> Result<Option<OriginId>, Error> {
        let node = self.nodes.iter().find(|n| n.kind == OriginKind::Node).or(self.nodes.first());
        Ok(node.map(|n| OriginId::try_new(self.id.clone(), n.name.clone())).transpose()?)
    }

    fn persons(&self) -> Result<Vec<Person>, Error> {
        let mut tokens: BTreeMap<&str, Vec<ClientId>> = BTreeMap::new();
        for client in &self.clients {
            if let Some(person) = &client.person {
                tokens.entry(person).or_default().push(ClientId::try_new(self.id.clone(), &client.name)?);
            }
        }
        let person = |(id, clients): (&str, Vec<ClientId>)| Person {
            id: id.to_owned(),
            department: self.id.clone(),
            roles: self.persons.get(id).cloned().unwrap_or_default(),
            clients,
        };
        Ok(tokens.into_iter().map(person).collect())
    }
}

/// A federation to make.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name.
    pub federation: String,
    /// Its departments.
    pub departments: Vec<DepartmentPlan>,
    /// When its certificates are good.
    pub validity: Validity,
    /// How many governance keys there are.
    pub governance_keys: usize,
    /// How many of them sign; all keys are made here, so this is a rehearsal of the real thing.
    pub threshold: usize,
}

/// A development federation in a folder: where each file is, and what a node must pin.
#[derive(Debug, Clone)]
pub struct Federation {
    dir: PathBuf,
}

impl Federation {
    /// Makes a federation in `dir`: CAs, certificates, keys, and a roster marked `development`.
    ///
    /// # Errors
    /// [`Error::Exists`] when there is a roster in `dir` already; otherwise when a name, a key, a certificate or the
    /// disk fails. Files made until then stay.
    pub fn create(dir: impl Into<PathBuf>, plan: &Plan) -> Result<Self, Error> {
        let made = Self { dir: dir.into() };
        if made.roster_path().exists() {
            return Err(Error::Exists(made.roster_path()));
        }
        let keys: Vec<SigningKey> =
            (0..plan.governance_keys).map(|_| SigningKey::generate()).collect::<Result<_, _>>()?;
        let governance =
            Governance { threshold: plan.threshold, keys: keys.iter().map(SigningKey::verifying_key).collect() };
        for (n, key) in keys.iter().enumerate() {
            put(&made.governance_key_path(n + 1), key.to_pem().as_bytes(), true)?;
        }
        let mut draft = Draft::first(&plan.federation, governance.clone(), true);
        for department in &plan.departments {
            let part = make_department(&made.dir, department, plan.validity)?;
            for person in department.persons()? {
                draft.put_person(person);
            }
            draft.add_department(part.department, part.origins)?;
        }
        let mut envelope = draft.finish(plan.validity.from)?;
        keys.iter().take(plan.threshold).for_each(|key| envelope.sign(key));
        let root = RootKeys::from(&governance);
        let bytes = envelope.to_bytes();
        roster::SignedRoster::verify(&bytes, &root, None, true)?;
        let root = serde_json::to_vec_pretty(&root).map_err(|e| io_error(&made.root_path(), e.into()))?;
        put(&made.root_path(), &root, false)?;
        // The roster comes last: a folder with one is a whole federation.
        put(&made.roster_path(), &bytes, false)?;
        Ok(made)
    }

    /// Uses a folder that [`Federation::create`] made. Nothing is read yet.
    pub fn open(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The signed roster's file.
    pub fn roster_path(&self) -> PathBuf {
        self.dir.join("roster.json")
    }

    /// The file of the root keys.
    pub fn root_path(&self) -> PathBuf {
        self.dir.join("root.json")
    }

    /// The file of governance key `n`, counted from 1.
    pub fn governance_key_path(&self, n: usize) -> PathBuf {
        self.dir.join("governance").join(format!("key-{n}.key"))
    }

    /// The bytes of the signed roster.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read.
    pub fn roster(&self) -> Result<Vec<u8>, Error> {
        let path = self.roster_path();
        read_bounded(&path, roster::ROSTER_BYTES_MAX).map_err(|e| io_error(&path, e))
    }

    /// The root keys to pin.
    ///
    /// # Errors
    /// [`Error::File`] when they cannot be read.
    pub fn root(&self) -> Result<RootKeys, Error> {
        let path = self.root_path();
        let bytes = read_bounded(&path, roster::ROSTER_BYTES_MAX).map_err(|e| io_error(&path, e))?;
        serde_json::from_slice(&bytes).map_err(|e| io_error(&path, e.into()))
    }

    /// A governance key, counted from 1.
    ///
    /// # Errors
    /// [`Error`] when the file cannot be read or is no key.
    pub fn governance_key(&self, n: usize) -> Result<SigningKey, Error> {
        load_signing_key(&self.governance_key_path(n))
    }

    /// A department's folder.
    pub fn department(&self, id: &DepartmentId) -> DepartmentDir {
        DepartmentDir { dir: self.dir.join(id.as_str()), id: id.clone() }
    }

    /// A node's files.
    pub fn node(&self, origin: &OriginId) -> NodeFiles {
        self.department(origin.department()).node(origin.node())
    }

    /// A client's files.
    pub fn client(&self, client: &ClientId) -> IdentityFiles {
        self.department(client.department()).client(client.name())
    }
}

/// One department's folder.
#[derive(Debug, Clone)]
pub struct DepartmentDir {
    dir: PathBuf,
    id: DepartmentId,
}

impl DepartmentDir {
    /// The folder of department `id` inside `dir`.
    pub fn new(dir: &Path, id: &DepartmentId) -> Self {
        Self { dir: dir.join(id.as_str()), id: id.clone() }
    }

    /// Whose it is.
    pub fn id(&self) -> &DepartmentId {
        &self.id
    }

    /// The CA certificate's file.
    pub fn ca_path(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The CA key's file.
    pub fn ca_key_path(&self) -> PathBuf {
        self.dir.join("ca.key")
    }

    /// A node's files.
    pub fn node(&self, name: &str) -> NodeFiles {
        let dir = self.dir.join("nodes").join(name);
        NodeFiles {
            tls: IdentityFiles { chain: dir.join("tls.pem"), key: dir.join("tls.key") },
            signing: dir.join("signing.key"),
            exercise: dir.join("exercise.key"),
        }
    }

    /// A client's certificate and key.
    pub fn client(&self, name: &str) -> IdentityFiles {
        let dir = self.dir.join("clients");
        IdentityFiles { chain: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) }
    }
}

/// A node's files.
#[derive(Debug, Clone)]
pub struct NodeFiles {
    /// Certificate and key for TLS.
    pub tls: IdentityFiles,
    /// The live signing key.
    pub signing: PathBuf,
    /// The signing key of exercises.
    pub exercise: PathBuf,
}

impl NodeFiles {
    /// The live signing key.
    ///
    /// # Errors
    /// [`Error`] when the file cannot be read or is no key.
    pub fn signing_key(&self) -> Result<SigningKey, Error> {
        load_signing_key(&self.signing)
    }

    /// The signing key of exercises.
    ///
    /// # Errors
    /// [`Error`] when the file cannot be read or is no key.
    pub fn exercise_key(&self) -> Result<SigningKey, Error> {
        load_signing_key(&self.exercise)
    }
}

/// Reads a signing key's PEM file.
///
/// # Errors
/// [`Error`] when the file cannot be read or is no key.
pub fn load_signing_key(path: &Path) -> Result<SigningKey, Error> {
    let bytes = read_bounded(path, 16 << 10).map_err(|e| io_error(path, e))?;
    Ok(SigningKey::from_pem(&String::from_utf8_lossy(&bytes))?)
}

/// What a department's folder adds to a roster.
struct Part {
    department: Department,
    origins: Vec<Origin>,
    live: Vec<SigningKey>,
    exercise: Vec<SigningKey>,
    certificates: Vec<String>,
}

/// Makes a department's folder. A folder that has a CA already is left alone.
fn make_department(dir: &Path, plan: &DepartmentPlan, validity: Validity) -> Result<Part, Error> {
    let folder = DepartmentDir::new(dir, &plan.id);
    if folder.ca_key_path().exists() {
        return Err(Error::Exists(folder.ca_key_path()));
    }
    let (ca_pem, issuer) = issue::authority(&plan.id, validity)?;
    put(&folder.ca_key_path(), issuer.key().serialize_pem().as_bytes(), true)?;
    put(&folder.ca_path(), ca_pem.as_bytes(), false)?;

    let (mut origins, mut live, mut exercise, mut certificates) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for node in &plan.nodes {
        let origin = OriginId::try_new(plan.id.clone(), node.name.clone())?;
        let files = folder.node(&node.name);
        let leaf = issue::leaf(&issuer, &SpiffeId::node(&origin), &BTreeSet::new(), &node.hosts, validity)?;
        put(&files.tls.key, leaf.key_pem.as_bytes(), true)?;
        put(&files.tls.chain, leaf.certificate_pem.as_bytes(), false)?;
        let (signing, drilling) = (SigningKey::generate()?, SigningKey::generate()?);
        put(&files.signing, signing.to_pem().as_bytes(), true)?;
        put(&files.exercise, drilling.to_pem().as_bytes(), true)?;
        let key = |key: &SigningKey, usage: KeyUse| OriginKey {
            id: key.id(),
            public: key.verifying_key(),
            usage,
            from: None,
            until: Vec::new(),
        };
        let keys = vec![key(&signing, KeyUse::Live), key(&drilling, KeyUse::Exercise)];
        origins.push(Origin { id: origin, kind: node.kind, keys });
        live.push(signing);
        exercise.push(drilling);
        certificates.push(leaf.certificate_pem);
    }
    for client in &plan.clients {
        let id = SpiffeId::client(&ClientId::try_new(plan.id.clone(), &client.name)?);
        let leaf = issue::leaf(&issuer, &id, &client.roles, &[], validity)?;
        let files = folder.client(&client.name);
        put(&files.key, leaf.key_pem.as_bytes(), true)?;
        put(&files.chain, leaf.certificate_pem.as_bytes(), false)?;
    }
    let department = Department {
        id: plan.id.clone(),
        names: plan.names.clone(),
        cas: vec![ca_pem],
        publisher: plan.publisher()?,
        rights: plan.rights.clone(),
        may_read: plan.may_read.clone(),
        delegates: plan.delegates.clone(),
    };
    Ok(Part { department, origins, live, exercise, certificates })
}

fn io_error(path: &Path, source: std::io::Error) -> Error {
    Error::File { path: path.into(), source }
}

/// Writes a file whole, making its folder; `secret` files are readable by their owner alone from the first byte.
fn put(path: &Path, bytes: &[u8], secret: bool) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| io_error(path, e))?;
    }
    write_whole(path, bytes, secret).map_err(|e| io_error(path, e))
}
