//! Manifests: what the packs of each department can trigger, signed, in the directory and in the logs.
//!
//! The record in a department's log is what counts. The copy in the directory is the same bytes under the same node's
//! key; it is there only so that activations come one after another. A pack that a rollback would bring back stands in
//! the manifest too, and its rules are told apart by a word behind their ids.

use std::collections::BTreeMap;

use campanile_alert::DepartmentId;
use campanile_discovery::directory::Listing;
use campanile_discovery::envelope::Envelope;
use campanile_discovery::keys::SigningKey;
use campanile_discovery::roster::Roster;
use campanile_proto::rules::v1 as wire;
use campanile_rules::{Manifest, ManifestCause, ManifestRule, check_federation};
use prost::Message as _;

/// The folder of the directory.
pub const FOLDER: &str = "manifests";
/// The payload type of a manifest's envelope.
const MANIFEST_TYPE: &str = "application/vnd.campanile.manifest.v1+protobuf";
/// The longest envelope, in bytes.
const ENVELOPE_BYTES_MAX: usize = 1 << 20;
/// How many rules one manifest may have: more than a department may have in force, twice.
const RULES_MAX: usize = 128_000;

/// Manifests by department, each the newest known.
pub type Manifests = BTreeMap<DepartmentId, wire::Manifest>;

/// Signs a manifest for the directory.
pub fn sign(manifest: &wire::Manifest, key: &SigningKey) -> Vec<u8> {
    let mut envelope = Envelope::new(MANIFEST_TYPE, manifest.encode_to_vec());
    envelope.sign(key);
    envelope.to_bytes()
}

/// Reads what the directory shows, and keeps what the publishing node of the department itself has signed; the rest is
/// no manifest of anybody.
pub fn verify(listing: &Listing, roster: &Roster) -> Manifests {
    let one = |(name, bytes): (&String, &Vec<u8>)| {
        let department = DepartmentId::try_new(name).ok()?;
        let publisher = roster.publisher(&department)?;
        let envelope = Envelope::parse(bytes, MANIFEST_TYPE, ENVELOPE_BYTES_MAX).ok()?;
        if envelope.signers(roster.live_keys(publisher)).is_empty() {
            tracing::warn!(%department, "The directory shows a manifest that its department's node has not signed");
            return None;
        }
        let manifest = wire::Manifest::decode(envelope.payload()).ok()?;
        (manifest.department == *name && is_sound(&manifest)).then_some((department, manifest))
    };
    listing.values.iter().filter_map(one).collect()
}

/// Whether every name in it is one, and it is of a size that can be worked with.
pub fn is_sound(manifest: &wire::Manifest) -> bool {
    let rules = || manifest.packs.iter().flat_map(|pack| &pack.rules);
    let parsed = |rule: &wire::RuleSummary| rule.cause_from.iter().all(|from| DepartmentId::try_new(from).is_ok());
    DepartmentId::try_new(&manifest.department).is_ok()
        && rules().count() <= RULES_MAX
        && manifest.packs.iter().all(|pack| pack.digest.len() == 32)
        && rules().all(parsed)
}

/// What is wrong between manifests, one sentence each; empty when every cascade ends and nothing contradicts.
pub fn faults<'m>(manifests: impl Iterator<Item = &'m wire::Manifest>) -> Vec<String> {
    let together: Vec<Manifest> = manifests.flat_map(to_graph).collect();
    check_federation(&together).iter().map(ToString::to_string).collect()
}

/// One manifest of the graph for each pack; a pack of a rollback keeps its name and its rules get another.
fn to_graph(manifest: &wire::Manifest) -> Vec<Manifest> {
    let Ok(department) = DepartmentId::try_new(&manifest.department) else { return Vec::new() };
    let rule = |rule: &wire::RuleSummary, fallback: bool| ManifestRule {
        id: if fallback { format!("{} (of the pack that a rollback brings back)", rule.id) } else { rule.id.clone() },
        cause: ManifestCause {
            events: rule.cause_events.clone(),
            from: rule.cause_from.iter().filter_map(|from| DepartmentId::try_new(from).ok()).collect(),
        },
        effect: rule.effect_event.clone(),
        depth_max: rule.effect_depth_max,
        conflicts_asked: rule.conflicts_asked.clone(),
    };
    let pack = |pack: &wire::PackSummary| Manifest {
        department: department.clone(),
        pack: pack.pack.clone(),
        digest: pack.digest.as_slice().try_into().unwrap_or_default(),
        rules: pack.rules.iter().map(|summary| rule(summary, pack.fallback)).collect(),
    };
    manifest.packs.iter().map(pack).collect()
}
