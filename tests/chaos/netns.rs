//! Members in network namespaces of their own, cut off from each other by nft.
//!
//! ```text
//!   test ── bridge 10.77.n.254 ─┬─ veth ── namespace of fsd 10.77.n.1
//!                               └─ veth ── namespace of edb 10.77.n.2
//! ```
//! The rules of nft stand inside the namespaces alone, so nothing of the machine's own network is touched.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use campanile_tests::process::{Processes, free_port, seed};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use crate::load::{Load, healed, judge};
use crate::town::{self, HEAL_WITHIN, left_out, rounds, tool_missing};
use crate::{EDB, FSD};

fn run(words: &str) -> Result<()> {
    let mut parts = words.split_whitespace();
    let program = parts.next().context("no program")?;
    // Debian keeps both in sbin, which is not on the PATH of every user.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(parts).env("PATH", path).output();
    let output = output.with_context(|| format!("failed to run {words}"))?;
    ensure!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// A bridge and a namespace for each of two members; gone with this value.
struct Net {
    name: String,
    subnet: u32,
}

impl Net {
    fn make() -> Result<Self> {
        let id = std::process::id();
        // Names of interfaces have 15 characters at most.
        let net = Self { name: format!("cmp{}", id % 100_000), subnet: id % 250 };
        net.remove();
        run(&format!("ip link add {} type bridge", net.name))?;
        run(&format!("ip addr add {}/24 dev {}", net.address(254), net.name))?;
        run(&format!("ip link set {} up", net.name))?;
        for host in [1, 2] {
            let (space, outside) = (net.space(host), format!("{}v{host}", net.name));
            run(&format!("ip netns add {space}"))?;
            run(&format!("ip link add {outside} type veth peer name eth0 netns {space}"))?;
            run(&format!("ip link set {outside} master {} up", net.name))?;
            run(&format!("ip -n {space} link set lo up"))?;
            run(&format!("ip -n {space} addr add {}/24 dev eth0", net.address(host)))?;
            run(&format!("ip -n {space} link set eth0 up"))?;
            run(&format!("ip netns exec {space} nft add table ip cut"))?;
            run(&format!(
                "ip netns exec {space} nft add chain ip cut in {{ type filter hook input priority 0 ; policy accept ; }}"
            ))?;
        }
        Ok(net)
    }

    fn address(&self, host: u32) -> String {
        format!("10.77.{}.{host}", self.subnet)
    }

    fn space(&self, host: u32) -> String {
        format!("{}n{host}", self.name)
    }

    /// What `from` sends reaches `to` no more.
    fn cut(&self, from: u32, to: u32) -> Result<()> {
        run(&format!("ip netns exec {} nft add rule ip cut in ip saddr {} drop", self.space(to), self.address(from)))
    }

    /// Of what `from` sends to `to`, so many of a hundred packets are lost.
    fn lose(&self, from: u32, to: u32, percent: u32) -> Result<()> {
        let (space, from) = (self.space(to), self.address(from));
        run(&format!(
            "ip netns exec {space} nft add rule ip cut in ip saddr {from} numgen random mod 100 < {percent} drop"
        ))
    }

    fn heal(&self) -> Result<()> {
        for host in [1, 2] {
            run(&format!("ip netns exec {} nft flush chain ip cut in", self.space(host)))?;
        }
        Ok(())
    }

    fn remove(&self) {
        // What is not there cannot be removed, and need not be.
        for host in [1, 2] {
            drop(run(&format!("ip netns del {}", self.space(host))));
        }
        drop(run(&format!("ip link del {}", self.name)));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Puts a member into a namespace.
fn house(town: &mut Processes, net: &Net, member: &str, host: u32) -> Result<()> {
    let listen = format!("{}:{}", net.address(host), free_port()?);
    town.configure(member, |config| config["listen"] = json!(listen))?;
    town.launch(member, &["ip", "netns", "exec", &net.space(host)], &[])
}

#[derive(Debug, Clone, Copy)]
enum Cut {
    Both,
    FsdUnheard,
    EdbUnheard,
    Loss,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_r1_departments_cut_off_one_way_or_both_go_on_publishing_and_are_equal_thirty_seconds_after() {
    if let Err(error) = run("ip -V").and_then(|()| run("nft --version")) {
        return tool_missing(&format!("{error:#}"));
    }
    let net = match Net::make() {
        Ok(net) => net,
        Err(error) => return left_out(&format!("no network namespaces: {error:#}")),
    };
    let seed = seed("partitions");
    let run = async {
        let mut random = StdRng::seed_from_u64(seed);
        let mut town = town::prepare()?;
        house(&mut town, &net, FSD, 1)?;
        house(&mut town, &net, EDB, 2)?;
        town::start(&mut town).await?;
        let mut load = Load::start(town::dispatch(&town, 4).await?, 0, Duration::from_millis(100));
        load.more(20, HEAL_WITHIN).await?;
        let mut slowest = Duration::ZERO;
        for _ in 0..rounds() {
            let mut cuts = [Cut::Both, Cut::FsdUnheard, Cut::EdbUnheard, Cut::Loss];
            cuts.shuffle(&mut random);
            for cut in cuts {
                match cut {
                    Cut::Both => net.cut(1, 2).and_then(|()| net.cut(2, 1))?,
                    Cut::FsdUnheard => net.cut(1, 2)?,
                    Cut::EdbUnheard => net.cut(2, 1)?,
                    Cut::Loss => net.lose(1, 2, 20).and_then(|()| net.lose(2, 1, 20))?,
                }
                let before = load.acknowledged();
                tokio::time::sleep(Duration::from_millis(random.random_range(3_000..6_000))).await;
                let came = load.acknowledged() - before;
                ensure!(came > 10, "{came} fires were acknowledged under {cut:?}");
                net.heal()?;
                // What was published meanwhile crosses before the next cut.
                let tried = load.acknowledged();
                let begun = Instant::now();
                crate::load::holds(&town, EDB, tried, HEAL_WITHIN).await.with_context(|| format!("after {cut:?}"))?;
                slowest = slowest.max(begun.elapsed());
                eprintln!(
                    "{cut:?}: {came} fires meanwhile, they had crossed {:.2} s after",
                    begun.elapsed().as_secs_f64()
                );
            }
        }
        let ledger = load.end().await?;
        let took = healed(&mut town, &[FSD, EDB], &ledger).await?;
        for member in [FSD, EDB] {
            judge(&town, member, &ledger)?;
        }
        ensure!(slowest < HEAL_WITHIN, "what was published under a cut took {slowest:?} to cross");
        eprintln!("{} fires; equal {:.2} s after", ledger.acknowledged.len(), took.as_secs_f64());
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
}
