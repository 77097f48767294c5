//! What an operator writes: one YAML file a node. Everything is read and judged before anything is bound.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use campanile_alert::classify::MappingTable;
use campanile_alert::{Clock, OriginId};
use campanile_bus::SigningKeys;
use campanile_discovery::keys::{SigningKey, VerifyingKey};
use campanile_discovery::members::{Members, MembersConfig};
use campanile_discovery::roster::{RootKeys, RosterCache, RosterHandle};
use campanile_discovery::tls::{IdentityFiles, TlsMaterial};
use campanile_discovery::{DirectoryConfig, MemoryHub};
use campanile_log::SqliteStore;
use campanile_rules::Pack;
use serde::Deserialize;

use crate::rules::{Files, Library};

/// The largest file that a configuration may name, in bytes: a data set of a whole territory fits.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What every member of the bus has: a node and a gateway alike. Paths are relative to the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Member {
    /// The federation's name.
    pub federation: String,
    /// This node, as `department/node`.
    pub origin: OriginId,
    /// Where it listens for peers and clients.
    pub listen: SocketAddr,
    /// Where others reach it, as host:port; empty means at `listen`.
    #[serde(default)]
    pub advertise: Vec<String>,
    /// The folder of its durable data.
    pub data: PathBuf,
    /// Its certificate chain, leaf first, in PEM.
    pub certificate: PathBuf,
    /// Its certificate's key in PEM.
    pub certificate_key: PathBuf,
    /// The key that signs real records, PKCS#8 in PEM.
    pub signing_key: PathBuf,
    /// The key that signs records of exercises.
    pub exercise_key: PathBuf,
    /// A roster to start with; a newer one on the disk or from peers takes its place.
    pub roster: PathBuf,
    /// The pinned root keys.
    pub root: Root,
    /// Accept a roster marked `development`; never in earnest.
    #[serde(default)]
    pub development: bool,
    /// Where nodes find each other.
    pub directory: DirectoryConfig,
    /// Peers that are known without a directory.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Where metrics and liveness are served over plain HTTP; absent means nowhere.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// An empty store has no past, an operator says; never in a file, which would say so for ever.
    #[serde(skip)]
    pub begin_anew: bool,
}

/// The root keys of the federation, pinned by the operator.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Root {
    /// How many must sign a roster.
    pub threshold: usize,
    /// The keys, in base64.
    pub keys: Vec<VerifyingKey>,
}

/// A peer that is known without a directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Peer {
    /// The peer, as `department/node`.
    pub origin: OriginId,
    /// Where it is, as host:port.
    pub addresses: Vec<String>,
}

/// A node.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// What every member has.
    pub member: Member,
    /// CAP `sender` of what this node makes: effects, Cancels and Acks, for example `edb@campanile.hk`.
    pub sender: String,
    /// The packs that are in force as long as officers have activated no others of their names; a data set lies beside
    /// the pack that names it.
    #[serde(default)]
    pub packs: Vec<PathBuf>,
    /// Mapping tables for foreign alerts, by the name that publishers give.
    #[serde(default)]
    pub sources: Vec<PathBuf>,
}

/// Why a configuration cannot be used; the sentence names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("failed to read {path}; check that it exists and that this user may read it")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is larger than it may be.
    #[error("{path} has more than 64 MiB; give a smaller file")]
    FileSize {
        /// Which.
        path: PathBuf,
    },
    /// A file is not what it should be.
    #[error("{path}: {reason}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong, with the place where it is known.
        reason: String,
    },
    /// The store cannot be opened.
    #[error("failed to open the store")]
    Store(#[from] campanile_log::Error),
    /// The roster is refused.
    #[error("the roster was refused")]
    Roster(#[from] campanile_discovery::roster::Error),
    /// The certificate is refused.
    #[error("the certificate of this node was refused")]
    Tls(#[from] campanile_discovery::tls::Error),
    /// The directory cannot be used.
    #[error("the directory cannot be used")]
    Directory(#[from] campanile_discovery::directory::Error),
}

/// The opened parts that every member has.
pub struct Opened {
    /// The durable store.
    pub store: Arc<SqliteStore>,
    /// The rosters.
    pub roster: RosterHandle,
    /// Certificate, key and trust.
    pub material: TlsMaterial,
    /// The keys that sign.
    pub keys: SigningKeys,
    /// Where nodes find each other.
    pub members: Members,
    /// The token of this installation.
    pub instance: String,
}

impl Config {
    /// Reads and checks a file; its paths become relative to the working folder.
    ///
    /// # Errors
    /// [`Error`] with the place in the file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let mut config: Self = read_yaml(path)?;
        let base = path.parent().unwrap_or(Path::new("."));
        config.member.rebase(base);
        for path in config.packs.iter_mut().chain(&mut config.sources) {
            *path = base.join(&*path);
        }
        Ok(config)
    }

    /// Reads the packs, and puts the data sets that they name into the library.
    ///
    /// # Errors
    /// [`Error`] with file, line and remedy.
    pub fn load_packs(&self, library: &Library) -> Result<Vec<Files>, Error> {
        let mut packs = Vec::new();
        for path in &self.packs {
            let text = read_text(path)?;
            let file = path.display().to_string();
            let base = path.parent().unwrap_or(Path::new("."));
            let mut data = BTreeMap::new();
            let mut tables = campanile_rules::Files::new();
            for name in Pack::files_of(&text) {
                let file = base.join(&name);
                let bytes = read_bytes(&file)?;
                data.insert(name.clone(), library.put(&bytes).map_err(|source| Error::File { path: file, source })?);
                tables.insert(name, bytes);
            }
            let (pack, warnings) = Pack::parse_with(&text, &tables).map_err(|refusal| {
                let faults: Vec<String> = refusal.0.iter().map(|fault| fault.render(&file, &text)).collect();
                content(path, faults.join("\n"))
            })?;
            for warning in warnings {
                tracing::warn!(pack = pack.name, "{}", warning.render(&file, &text));
            }
            for (name, reference) in &pack.data {
                let file = base.join(&reference.file);
                let digest = library.put(&read_bytes(&file)?).map_err(|source| Error::File { path: file, source })?;
                data.insert(name.clone(), digest);
            }
            let files = Files { text, data };
            files.read(library).map_err(|unfit| content(path, unfit.to_string()))?;
            packs.push(files);
        }
        Ok(packs)
    }

    /// Reads the mapping tables.
    ///
    /// # Errors
    /// [`Error`] with the file.
    pub fn load_sources(&self) -> Result<Vec<MappingTable>, Error> {
        let parse =
            |path: &PathBuf| MappingTable::parse(&read_text(path)?).map_err(|error| content(path, chain(&error)));
        self.sources.iter().map(parse).collect()
    }
}

impl Member {
    /// Makes the paths relative to `base` instead of to the file.
    pub fn rebase(&mut self, base: &Path) {
        for path in [
            &mut self.data,
            &mut self.certificate,
            &mut self.certificate_key,
            &mut self.signing_key,
            &mut self.exercise_key,
            &mut self.roster,
        ] {
            *path = base.join(&*path);
        }
        if let DirectoryConfig::File { path, .. } = &mut self.directory {
            *path = base.join(&*path);
        }
    }

    /// Opens everything that a member stands on. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error`]; nothing is left open then.
    pub fn open(&self, clock: &Arc<dyn Clock>, hub: &MemoryHub) -> Result<Opened, Error> {
        let roster = self.open_roster()?;
        let keys = self.load_keys()?;
        let files = IdentityFiles { chain: self.certificate.clone(), key: self.certificate_key.clone() };
        let material = TlsMaterial::open(files, roster.clone(), Arc::clone(clock))?;
        let store = Arc::new(SqliteStore::open(&self.data.join("store"), &campanile_log::sqlite::Options::default())?);
        let instance = self.instance()?;
        let members = Members::start(MembersConfig {
            directory: self.directory.open(&self.federation, hub)?,
            roster: roster.clone(),
            cache: Some(self.data.join("members")),
            clock: Arc::clone(clock),
        });
        Ok(Opened { store, roster, material, keys, members, instance })
    }

    /// Opens the rosters: the newest of the file and the cache.
    ///
    /// # Errors
    /// [`Error`] when neither is acceptable.
    pub fn open_roster(&self) -> Result<RosterHandle, Error> {
        let initial = read_bytes(&self.roster)?;
        let pinned = RootKeys { threshold: self.root.threshold, keys: self.root.keys.clone() };
        let cache = RosterCache::open(self.data.join("rosters"))?;
        Ok(RosterHandle::open(pinned, self.development, Some(cache), Some(&initial))?)
    }

    /// Reads the two signing keys.
    ///
    /// # Errors
    /// [`Error`] naming the file; never its content.
    pub fn load_keys(&self) -> Result<SigningKeys, Error> {
        let key =
            |path: &PathBuf| SigningKey::from_pem(&read_text(path)?).map_err(|error| content(path, error.to_string()));
        Ok(SigningKeys { live: key(&self.signing_key)?, exercise: key(&self.exercise_key)? })
    }

    /// Where others reach this member, once it listens at `bound`.
    pub fn addresses(&self, bound: SocketAddr) -> Vec<String> {
        if self.advertise.is_empty() { vec![bound.to_string()] } else { self.advertise.clone() }
    }

    /// The token of this installation: made once, kept beside the store.
    fn instance(&self) -> Result<String, Error> {
        use rand::RngCore as _;
        let path = self.data.join("instance");
        match std::fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::File { path, source }),
        }
        let token = format!("{:016x}", rand::rng().next_u64());
        std::fs::write(&path, &token).map_err(|source| Error::File { path, source })?;
        Ok(token)
    }
}

/// Reads a YAML file strictly.
///
/// # Errors
/// [`Error`] with the place.
pub fn read_yaml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    serde_saphyr::from_str(&read_text(path)?).map_err(|error| content(path, error.to_string()))
}

fn read_text(path: &Path) -> Result<String, Error> {
    String::from_utf8(read_bytes(path)?).map_err(|_| content(path, "it is not UTF-8 text".into()))
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::File { path: path.into(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(Error::FileSize { path: path.into() });
    }
    std::fs::read(path).map_err(failed)
}

fn content(path: &Path, reason: String) -> Error {
    Error::Content { path: path.into(), reason }
}

/// An error with everything under it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
