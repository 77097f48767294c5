//! The way to a node: its address, as whom, and by which roster it is known. A profile file saves repeating it.
//!
//! A profile is YAML; its paths are relative to its own folder, and every option on the command line goes before it:
//! ```yaml
//! node: 127.0.0.1:7443          # host:port
//! department: edb               # who must answer there: a department, or one node as edb/node-1
//! certificate: duty-officer-1.pem
//! key: duty-officer-1.key
//! roster: ../../roster.json     # the roster to start with
//! root: ../../root.json         # the root keys that must have signed it
//! development: true             # only for a roster that is marked so
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use campanile_alert::{DepartmentId, OriginId};
use campanile_client::{Client, Credentials, Expect, Identity, IdentityFiles, Options, RosterHandle};
use campanile_discovery::SystemClock;
use campanile_discovery::roster::RootKeys;
use serde::{Deserialize, Serialize};

use crate::failure::{Next as _, failure};
use crate::files;

/// The options of every verb that asks a node.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection (or all of it in a profile)")]
pub struct Connect {
    /// A profile file, as `pki init` writes one for each client
    #[arg(long, value_name = "FILE", env = "CAMPANILE_PROFILE")]
    pub profile: Option<PathBuf>,
    /// The node's address
    #[arg(long, value_name = "HOST:PORT", env = "CAMPANILE_NODE")]
    pub node: Option<String>,
    /// Who must answer there: a department, or one node as `edb/node-1`
    #[arg(long, value_name = "ID")]
    pub department: Option<String>,
    /// The own certificate in PEM
    #[arg(long, value_name = "CERT.PEM")]
    pub identity: Option<PathBuf>,
    /// Its private key; absent means beside the certificate, ending in .key
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The roster by which the node is known
    #[arg(long = "roster", value_name = "FILE")]
    pub roster: Option<PathBuf>,
    /// The root keys that must have signed it; absent means root.json beside the roster
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
    /// Accept a roster that is marked development
    #[arg(long)]
    pub development: bool,
}

/// A profile file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Profile {
    /// The node's address as host:port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Who must answer: a department or a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub department: Option<String>,
    /// The own certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The roster to start with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roster: Option<PathBuf>,
    /// The root keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Accept a development roster.
    pub development: bool,
}

impl Profile {
    /// Reads a profile; its paths become relative to the working folder.
    ///
    /// # Errors
    /// When it cannot be read or is no profile.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = files::read_text(path)?;
        let mut profile: Self = serde_saphyr::from_str(&text)
            .map_err(|error| anyhow::anyhow!("{}", error.without_snippet()))
            .with_context(|| format!("{} is not a profile", path.display()))
            .next("write node, department, certificate, key, roster and root, or let `campanile pki init` write one")?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let files = [&mut profile.certificate, &mut profile.key, &mut profile.roster, &mut profile.root];
        files.into_iter().flatten().for_each(|file| *file = folder.join(&*file));
        Ok(profile)
    }
}

impl Connect {
    /// The options with what the profile adds.
    ///
    /// # Errors
    /// When there is a profile and it cannot be read.
    pub fn resolve(&self) -> anyhow::Result<Profile> {
        let profile = self.profile.as_deref().map(Profile::load).transpose()?.unwrap_or_default();
        let certificate = self.identity.clone().or(profile.certificate);
        let key = match (&self.key, &self.identity) {
            (Some(key), _) => Some(key.clone()),
            (None, Some(identity)) => Some(identity.with_extension("key")),
            (None, None) => profile.key.or_else(|| certificate.as_ref().map(|path| path.with_extension("key"))),
        };
        let root = match (&self.root, &self.roster) {
            (Some(root), _) => Some(root.clone()),
            (None, Some(roster)) => Some(roster.with_file_name("root.json")),
            (None, None) => profile.root.or_else(|| profile.roster.as_ref().map(|r| r.with_file_name("root.json"))),
        };
        Ok(Profile {
            node: self.node.clone().or(profile.node),
            department: self.department.clone().or(profile.department),
            certificate,
            key,
            roster: self.roster.clone().or(profile.roster),
            root,
            development: self.development || profile.development,
        })
    }

    /// Connects to the node.
    ///
    /// # Errors
    /// When an option is missing or wrong, the node cannot be reached, or somebody else answers.
    pub async fn client(&self) -> anyhow::Result<Client> {
        let profile = self.resolve()?;
        let missing = |what: &str, option: &str| {
            failure(format!("{what} is not given"), format!("give {option}, or a profile with --profile"))
        };
        let node = profile.node.clone().ok_or_else(|| missing("the node's address", "--node HOST:PORT"))?;
        let files = identity_files(&profile).ok_or_else(|| missing("the own certificate", "--identity CERT.PEM"))?;
        let identity = Identity::load(&files)
            .context("the own certificate cannot be used")
            .next("check --identity and --key; `campanile pki renew` makes a new pair")?;
        let roster = open_roster(&profile)?.ok_or_else(|| missing("the roster", "--roster FILE"))?;
        let expect = expect(profile.department.as_deref(), &identity.peer().department)?;
        let credentials = Credentials::roster(identity, roster, Arc::new(SystemClock))
            .context("the own certificate does not count")
            .next("see `campanile doctor` for its days left and the roster's word on it")?;
        let mut options = Options::new(&node, credentials, expect);
        // A person waits: what is not there after a few tries is told at once.
        options.calls.attempts_max = 3;
        Client::connect(options).await.with_context(|| format!("failed to reach the node at {node}"))
    }
}

/// The certificate and key of a profile; `None` when it names none.
pub fn identity_files(profile: &Profile) -> Option<IdentityFiles> {
    Some(IdentityFiles { chain: profile.certificate.clone()?, key: profile.key.clone()? })
}

/// Opens the roster of a profile; `None` when it names none.
///
/// # Errors
/// When a file cannot be read or the roster is refused.
pub fn open_roster(profile: &Profile) -> anyhow::Result<Option<RosterHandle>> {
    let (Some(roster), Some(root)) = (&profile.roster, &profile.root) else { return Ok(None) };
    let pinned = read_root(root)?;
    let bytes = files::read(roster)?;
    let handle = RosterHandle::open(pinned, profile.development, None, Some(&bytes))
        .with_context(|| format!("the roster {} was refused", roster.display()));
    Ok(Some(handle?))
}

/// Reads root keys as `pki init` writes them.
///
/// # Errors
/// When the file cannot be read or holds something else.
pub fn read_root(path: &Path) -> anyhow::Result<RootKeys> {
    serde_json::from_slice(&files::read(path)?)
        .with_context(|| format!("{} holds no root keys", path.display()))
        .next("give root.json as governance handed it out, with --root")
}

/// Who must answer: as said, or any node of the own department.
fn expect(text: Option<&str>, own: &DepartmentId) -> anyhow::Result<Expect> {
    match text {
        None => Ok(Expect::Department(own.clone())),
        Some(text) if text.contains('/') => {
            Ok(Expect::Origin(text.parse::<OriginId>().next("write it as department/node, for example edb/node-1")?))
        }
        Some(text) => {
            Ok(Expect::Department(DepartmentId::try_new(text).next("write a department, for example edb, or a node")?))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn options_go_before_the_profile_and_its_paths_are_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        std::fs::write(&path, "node: a:1\ndepartment: edb\ncertificate: c.pem\nroster: r/roster.json\n").unwrap();
        let connect = Connect { profile: Some(path), node: Some("b:2".into()), ..Connect::default() };
        let resolved = connect.resolve().unwrap();
        assert_eq!(resolved.node.as_deref(), Some("b:2"));
        assert_eq!(resolved.certificate, Some(folder.path().join("c.pem")));
        assert_eq!(resolved.key, Some(folder.path().join("c.key")));
        assert_eq!(resolved.root, Some(folder.path().join("r/root.json")));
    }
}
