//! A running node, as it says itself.

use campanile_alert::{Clock as _, Timestamp};
use campanile_client::Client;
use campanile_client::admin::{NodeStatus, Peer};
use campanile_discovery::SystemClock;

use super::{Findings, days};
use crate::connect::Connect;
use crate::failure::sentence;
use crate::operate::{behind, seconds};

/// The node's clock may differ from ours by so many milliseconds, its answer's way included.
const CLOCK_MS_OFF: i128 = 1_000;
/// Beyond so many, certificates and expiry are judged wrongly.
const CLOCK_MS_WRONG: i128 = 60_000;
/// Bookmarks come every 5 s, so silence for so long is no accident.
const SILENCE_MS_MAX: u64 = 20_000;
/// Days left of the node's certificate below which it is time to act.
const DAYS_MIN: i64 = 2;
/// Free bytes below which it is time to act.
const FREE_MIN: u64 = 512 << 20;

/// Asks the node and judges what it says.
pub(super) async fn look(connect: &Connect, now: Timestamp, findings: &mut Findings) {
    let client = match connect.client().await {
        Ok(client) => client,
        Err(error) => {
            let help = "check that the node runs, and its address";
            findings.fail("node", sentence(&error, help), "start the node, or mend what is named");
            return;
        }
    };
    match client.status().await {
        Ok(answer) => status(&answer, now, findings),
        Err(error) => {
            findings.fail("node", sentence(&error.into(), "it did not answer"), "use a certificate with the role read");
        }
    }
    peers(&client, findings).await;
    rules(&client, findings).await;
}

fn status(status: &NodeStatus, now: Timestamp, findings: &mut Findings) {
    findings.ok("node", format!("{} runs, version {}, {} records", status.origin, status.version, status.records));
    if let Some(time) = status.time {
        let off = SystemClock.now().duration_since(time).as_millis().abs();
        let detail = format!("the node's clock and this one are {off} ms apart");
        let next = "set both clocks by the same source (chrony or systemd-timesyncd)";
        match off {
            off if off > CLOCK_MS_WRONG => findings.fail("node's clock", detail, next),
            off if off > CLOCK_MS_OFF => findings.warn("node's clock", detail, next),
            _ => findings.ok("node's clock", detail),
        }
    }
    if let Some(end) = status.certificate_expires {
        let left = days(now, end);
        let detail = format!("the node's has {left} days left");
        let next = "renew it with `campanile pki renew`, then let the node reload";
        if left < DAYS_MIN {
            findings.warn("certificate", detail, next);
        } else {
            findings.ok("certificate", detail);
        }
    }
    let heard = status.directory_age_ms;
    let detail = format!(
        "{}, {}",
        status.directory,
        heard.map_or_else(|| "never heard".to_owned(), |ms| format!("heard {} ago", seconds(ms)))
    );
    if heard.is_some_and(|ms| ms < 60_000) || status.directory == "memory" {
        findings.ok("directory", detail);
    } else {
        let next = "check the directory; traffic between known nodes goes on, new members are not found";
        findings.warn("directory", detail, next);
    }
    match status.disk_free_bytes {
        Some(free) if free < FREE_MIN => {
            let next = "free space now: when the disk is full, alerts are refused";
            findings.fail("node's disk", format!("{} MiB free", free >> 20), next);
        }
        Some(free) => findings.ok("node's disk", format!("{} MiB free", free >> 20)),
        None => {}
    }
    if status.not_counted > 0 {
        let next = "see `campanile alert watch --from-start` for which, and tell their departments";
        findings.warn("records", format!("{} are held but not counted", status.not_counted), next);
    }
    for fork in &status.forks {
        let next = "two records stand at one place: tell governance, whose next roster gives the origin a new key";
        findings.fail("fork", fork.to_string(), next);
    }
}

async fn peers(client: &Client, findings: &mut Findings) {
    let peers = match client.peers().await {
        Ok(peers) => peers,
        Err(error) => {
            findings.fail(
                "peers",
                sentence(&error.into(), "it did not answer"),
                "use a certificate with the role read",
            );
            return;
        }
    };
    if peers.is_empty() {
        findings.warn("peers", "the node knows none", "check the directory, and that the roster lists others");
    }
    peers.iter().for_each(|peer| self::peer(peer, findings));
}

fn peer(peer: &Peer, findings: &mut Findings) {
    let check = format!("peer {}", peer.origin);
    if let Some(error) = peer.last_error.as_ref().filter(|_| !peer.connected) {
        findings.warn(check, format!("not connected: {error}"), "check the peer and the network between");
        return;
    }
    if !peer.connected {
        findings.warn(check, "not connected", "check the peer and the network between; it is tried every 10 s");
        return;
    }
    let late: Vec<String> = peer
        .logs
        .iter()
        .filter(|log| behind(log).is_some_and(|n| n > 0) || log.heard_age_ms.is_some_and(|ms| ms > SILENCE_MS_MAX))
        .map(|log| {
            let heard = log.heard_age_ms.map_or_else(|| "never".to_owned(), |ms| format!("{} ago", seconds(ms)));
            format!("{} is {} behind, heard {heard}", log.lane, behind(log).unwrap_or_default())
        })
        .collect();
    match late.is_empty() {
        true => findings.ok(check, "connected, and level in every lane"),
        false => findings.warn(check, late.join("; "), "look again; if it stays, check the peer's load and disk"),
    }
}

async fn rules(client: &Client, findings: &mut Findings) {
    let Ok(rules) = client.rules().await else { return };
    let paused: Vec<&str> = rules
        .rules
        .iter()
        .filter(|state| state.paused)
        .filter_map(|state| state.rule.as_ref())
        .map(|rule| rule.id.as_str())
        .collect();
    if !paused.is_empty() {
        findings.warn("rules", format!("paused: {}", paused.join(", ")), "resume with `campanile rules resume RULE`");
    }
    if !rules.pending.is_empty() {
        let detail = format!("{} proposals wait for persons", rules.pending.len());
        findings.warn("rules", detail, "see `campanile alert pending`");
    }
}
