//! A network that delays, holds back, resets, corrupts and reads slowly, between nodes and before clients.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use campanile_tests::process::seed;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use crate::load::{Load, healed, judge};
use crate::proxy::{Faults, Proxy};
use crate::town::{self, HEAL_WITHIN, rounds};
use crate::{EDB, FSD};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Delay,
    HoldIn,
    HoldOut,
    BlackHole,
    Resets,
    Corrupt,
    Slow,
}

const FAULTS: [Fault; 7] =
    [Fault::Delay, Fault::HoldIn, Fault::HoldOut, Fault::BlackHole, Fault::Resets, Fault::Corrupt, Fault::Slow];

/// Breaks the ways through these proxies for a while.
async fn suffer(proxies: &[&Proxy], fault: Fault, random: &mut StdRng) {
    let mut faults = Faults::default();
    match fault {
        Fault::Delay => faults.delay = Duration::from_millis(random.random_range(20..200)),
        Fault::HoldIn => faults.hold_in = true,
        Fault::HoldOut => faults.hold_out = true,
        Fault::BlackHole => (faults.hold_in, faults.hold_out) = (true, true),
        Fault::Resets => {}
        Fault::Corrupt => faults.corrupt = 0.2,
        Fault::Slow => faults.slow = Some(random.random_range(4_000..40_000)),
    }
    // Long enough, at times, for who waits to give the connection up.
    let slices = if matches!(fault, Fault::BlackHole) { random.random_range(20..40) } else { 8 };
    for proxy in proxies {
        proxy.set(faults);
    }
    for _ in 0..slices {
        if fault == Fault::Resets {
            proxies.iter().for_each(|proxy| proxy.reset());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    proxies.iter().for_each(|proxy| proxy.set(Faults::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_r1_nodes_behind_a_bad_network_lose_and_double_nothing_and_are_equal_thirty_seconds_after() {
    let seed = seed("network between nodes");
    let run = async {
        let mut random = StdRng::seed_from_u64(seed);
        let proxies = [Proxy::bind(seed).await?, Proxy::bind(!seed).await?];
        let mut town = town::prepare()?;
        for (member, proxy) in [FSD, EDB].into_iter().zip(&proxies) {
            town.configure(member, |config| config["advertise"] = json!([proxy.address().to_string()]))?;
        }
        for (member, proxy) in [FSD, EDB].into_iter().zip(&proxies) {
            town.start(member).await?;
            proxy.lead_to(town.ready(member)?.address);
        }
        town.allow_closures().await?;
        let mut load = Load::start(town::dispatch(&town, 4).await?, 0, Duration::from_millis(40));
        load.more(20, HEAL_WITHIN).await?;
        for _ in 0..rounds() {
            let mut order = FAULTS;
            order.shuffle(&mut random);
            for fault in order {
                let before = load.acknowledged();
                suffer(&[&proxies[0], &proxies[1]], fault, &mut random).await;
                let came = load.acknowledged() - before;
                // Clients reach their own node, and peers do not hold up an acknowledgement.
                ensure!(came > 10, "{came} fires were acknowledged while peers suffered {fault:?}");
            }
        }
        let ledger = load.end().await?;
        let took = healed(&mut town, &[FSD, EDB], &ledger).await?;
        for member in [FSD, EDB] {
            judge(&town, member, &ledger)?;
        }
        tell("between nodes", &ledger, &proxies, took)
    };
    run.await.unwrap_or_else(|error: anyhow::Error| panic!("seed {seed}: {error:#}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_d1_clients_behind_a_bad_network_have_each_fire_acknowledged_once_as_they_sent_it() {
    let seed = seed("network before clients");
    let run = async {
        let mut random = StdRng::seed_from_u64(seed);
        let proxy = Proxy::bind(seed).await?;
        let mut town = town::prepare()?;
        town::start(&mut town).await?;
        proxy.lead_to(town.ready(FSD)?.address);
        let mut clients = Vec::new();
        for _ in 0..4 {
            let patience = |options: &mut campanile_client::Options| options.timeouts.call = Duration::from_secs(3);
            clients.push(town.client_by("fsd/dispatch", proxy.address(), patience).await?);
        }
        let mut load = Load::start(clients, 0, Duration::from_millis(40));
        load.more(20, HEAL_WITHIN).await?;
        for _ in 0..rounds() {
            let mut order = FAULTS;
            order.shuffle(&mut random);
            for fault in order {
                suffer(&[&proxy], fault, &mut random).await;
                load.more(4, HEAL_WITHIN).await.with_context(|| format!("after {fault:?}"))?;
            }
        }
        let ledger = load.end().await?;
        ensure!(ledger.failed > 0, "no call failed");
        let took = healed(&mut town, &[FSD, EDB], &ledger).await?;
        for member in [FSD, EDB] {
            judge(&town, member, &ledger)?;
        }
        tell("before clients", &ledger, &[proxy], took)
    };
    run.await.unwrap_or_else(|error: anyhow::Error| panic!("seed {seed}: {error:#}"));
}

fn tell(place: &str, ledger: &crate::load::Ledger, proxies: &[Proxy], took: Duration) -> Result<()> {
    let sum = |count: fn(&crate::proxy::Counts) -> u64| proxies.iter().map(|p| count(p.counts())).sum::<u64>();
    let corrupted = sum(|counts| counts.corrupted.load(Ordering::SeqCst));
    let reset = sum(|counts| counts.reset.load(Ordering::SeqCst));
    ensure!(corrupted > 0 && reset > 0, "{corrupted} bits were flipped and {reset} connections reset");
    eprintln!(
        "{place}: {} fires, {} calls failed, {} had been stored all the same; {} connections, {reset} reset, {corrupted} \
         bits flipped; equal {:.2} s after",
        ledger.acknowledged.len(),
        ledger.failed,
        ledger.repeated,
        sum(|counts| counts.connections.load(Ordering::SeqCst)),
        took.as_secs_f64(),
    );
    Ok(())
}
