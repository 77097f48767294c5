//! A node or gateway by its configuration: its files, store, packs and directory, whether it runs or not.

use std::path::Path;
use std::time::Duration;

use campanile_alert::Timestamp;
use campanile_discovery::directory::Update;
use campanile_discovery::pki::load_signing_key;
use campanile_discovery::roster::{KeyUse, RootKeys, RosterCache};
use campanile_discovery::{DirectoryConfig, Hint, IdentityFiles, MemoryHub, RosterHandle};
use campanile_log::{SqliteStore, Store as _};
use campanile_node::config::{Config, Member};
use campanile_node::rules::Library;

use super::{Findings, disk, trust};
use crate::failure::sentence;
use crate::files;
use crate::node_run::GatewayConfig;

/// How long the directory may take to answer.
const DIRECTORY_WITHIN: Duration = Duration::from_secs(5);

/// Looks at everything that the configuration names.
pub(super) async fn look(path: &Path, now: Timestamp, findings: &mut Findings) {
    let Some(member) = load(path, findings) else { return };
    let roster = roster(&member, findings);
    if let Some(roster) = &roster {
        trust::roster(&roster.current(), now, findings);
        keys(&member, roster, findings);
    }
    let pair = IdentityFiles { chain: member.certificate.clone(), key: member.certificate_key.clone() };
    trust::certificate(&pair, roster.as_ref(), now, findings);
    if member.data.is_dir() {
        disk::look(&member.data, findings);
        store(&member.data.join("store"), findings);
    } else {
        let next = "make it for the user of the node; it is filled at the first start";
        findings.warn("data", format!("the folder {} does not exist yet", member.data.display()), next);
    }
    directory(&member, roster.as_ref(), findings).await;
}

/// Reads the configuration of a node, or else of a gateway.
fn load(path: &Path, findings: &mut Findings) -> Option<Member> {
    let node = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            return match GatewayConfig::load(path) {
                Ok(config) => {
                    findings.ok("configuration", format!("{} is a gateway's", path.display()));
                    Some(config.member)
                }
                // A file that names channels was meant for a gateway.
                Err(of_gateway) => {
                    let meant = files::read_text(path).is_ok_and(|text| text.contains("\ngateway:"));
                    let error = if meant { of_gateway } else { error.into() };
                    let next = "mend the file; deploy has samples of both kinds";
                    findings.fail("configuration", sentence(&error, "it cannot be used"), next);
                    None
                }
            };
        }
    };
    findings.ok("configuration", format!("{} is that of {}", path.display(), node.member.origin));
    // Nothing is written: the data sets are read into memory.
    match node.load_packs(&Library::memory()) {
        Ok(packs) if packs.is_empty() => findings.ok("packs", "the configuration names none"),
        Ok(_) => {
            let names: Vec<String> = node.packs.iter().map(|path| path.display().to_string()).collect();
            findings.ok("packs", format!("{}; `campanile rules packs` says what is in force", names.join(", ")));
        }
        Err(error) => {
            let detail = sentence(&error.into(), "it cannot be used");
            findings.fail("packs", detail, "see `campanile rules check` for every finding");
        }
    }
    if let Err(error) = node.load_sources() {
        findings.fail("sources", sentence(&error.into(), "it cannot be used"), "mend the mapping table");
    }
    Some(node.member)
}

/// The newest of the configured roster and those in the data folder. Nothing is written.
fn roster(member: &Member, findings: &mut Findings) -> Option<RosterHandle> {
    let next = "put the roster that governance signed in place, and compare the root keys with governance's";
    let initial = match files::read(&member.roster) {
        Ok(bytes) => bytes,
        Err(error) => {
            findings.fail("roster", sentence(&error, "it cannot be read"), next);
            return None;
        }
    };
    let pinned = RootKeys { threshold: member.root.threshold, keys: member.root.keys.clone() };
    let kept = Some(member.data.join("rosters")).filter(|folder| folder.is_dir());
    let opened = RosterHandle::open(pinned.clone(), member.development, None, Some(&initial));
    let newest = kept.and_then(|folder| {
        let cache = RosterCache::open(folder).ok()?;
        RosterHandle::open(pinned, member.development, Some(cache), None).ok()
    });
    match (opened, newest) {
        (Ok(configured), Some(newest)) if newest.current().number > configured.current().number => Some(newest),
        (Ok(configured), _) => Some(configured),
        (Err(error), Some(newest)) => {
            findings.warn(
                "roster",
                format!("the configured one was refused: {error}; the newest kept one counts"),
                next,
            );
            Some(newest)
        }
        (Err(error), None) => {
            findings.fail("roster", sentence(&error.into(), "it was refused"), next);
            None
        }
    }
}

fn keys(member: &Member, roster: &RosterHandle, findings: &mut Findings) {
    let roster = roster.current();
    let keys =
        [("signing key", &member.signing_key, KeyUse::Live), ("exercise key", &member.exercise_key, KeyUse::Exercise)];
    for (name, path, usage) in keys {
        match load_signing_key(path) {
            Ok(key) => trust::signing_key(name, &key, usage, &member.origin, &roster, findings),
            Err(error) => {
                let detail = sentence(&error.into(), "it cannot be used");
                findings.fail(name, detail, "restore the key file from its backup, or list a new key");
            }
        }
    }
}

fn store(folder: &Path, findings: &mut Findings) {
    if !folder.join("log.db").is_file() {
        findings.warn("store", format!("there is none in {} yet", folder.display()), "start the node; it makes one");
        return;
    }
    match SqliteStore::open_read_only(folder) {
        Ok(store) => {
            let logs = store.logs().len();
            findings.ok("store", format!("{logs} logs; `campanile log verify {}` verifies them", folder.display()));
        }
        Err(error) => {
            let detail = sentence(&error.into(), "it cannot be read");
            findings.fail("store", detail, "restore the folder from a backup, or let peers fill a new one");
        }
    }
}

/// Asks the directory. It is a hint only: when it is away, what stops is new members and wider rights.
async fn directory(member: &Member, roster: Option<&RosterHandle>, findings: &mut Findings) {
    if member.directory == DirectoryConfig::Memory {
        let next = "use etcd, a shared folder, or list the peers in the configuration";
        findings.warn("directory", "it is in the memory of one process, so other processes are not found", next);
        return;
    }
    let directory = match member.directory.open(&member.federation, &MemoryHub::new()) {
        Ok(directory) => directory,
        Err(error) => {
            let detail = sentence(&error.into(), "it cannot be opened");
            findings.fail("directory", detail, "mend `directory` in the configuration");
            return;
        }
    };
    let away = "check its address, certificates and health; traffic between known nodes goes on meanwhile";
    match tokio::time::timeout(DIRECTORY_WITHIN, directory.roster()).await {
        Ok(Ok(Some(bytes))) => {
            findings.ok("directory", "it answers, and holds a roster");
            if let Some(roster) = roster {
                let before = roster.current().number;
                match roster.offer(&bytes) {
                    Ok(_) if roster.current().number > before => {
                        let detail = format!("the directory has roster {}, here is {before}", roster.current().number);
                        findings.warn("roster", detail, "start the node; it takes the newer one by itself");
                    }
                    Ok(_) | Err(campanile_discovery::roster::Error::RollBack { .. }) => {}
                    Err(error) => {
                        let detail = sentence(&error.into(), "the roster in the directory was refused");
                        findings.fail("roster", detail, "ask governance which roster counts");
                    }
                }
            }
        }
        Ok(Ok(None)) => {
            findings.warn("directory", "it answers, but holds no roster", "publish it with `campanile roster publish`");
        }
        Ok(Err(error)) => {
            findings.warn("directory", sentence(&error.into(), "it does not answer"), away);
            return;
        }
        Err(_) => {
            findings.warn("directory", format!("no answer within {DIRECTORY_WITHIN:?}"), away);
            return;
        }
    }
    let mut updates = directory.watch();
    let Some(roster) = roster else { return };
    if let Ok(Some(Update::Reset(entries))) = tokio::time::timeout(DIRECTORY_WITHIN, updates.recv()).await {
        let current = roster.current();
        let good = |entry: &&campanile_discovery::directory::Entry| {
            Hint::verify(&entry.envelope, &entry.origin, &current).is_ok()
        };
        let signed = entries.iter().filter(good).count();
        let own = entries.iter().filter(good).any(|entry| entry.origin == member.origin);
        let detail = format!("{signed} of {} hints are signed by listed keys", entries.len());
        match own {
            true => findings.ok("registration", detail),
            false => {
                let next = "start the node; while it runs it registers by itself";
                findings.warn("registration", format!("{detail}; this node is not registered"), next);
            }
        }
    }
}
