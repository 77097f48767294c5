//! A drill against five processes with etcd, run and steered by the command: it is judged as in virtual time, and one that
//! is killed leaves nothing real and can be cleared up.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use campanile_alert::{ExerciseId, Status};
use campanile_bus::record::open_header;
use campanile_client::{Filter, Query};
use campanile_discovery::testing::EtcdVersion;
use campanile_drill::verdict::{Outcome, Verdict};
use campanile_drill::{Bench, Scenario};
use campanile_log::Store as _;
use campanile_tests::process::{Processes, eventually};
use tokio::process::{Child, Command};

use crate::PROGRAM;
use crate::etcd::{etcd_directory, start_etcd};

mod guide;

const MEMBERS: [&str; 5] = ["hko/node-1", "fsd/node-1", "edb/node-1", "had/node-1", "isd/gateway-1"];
/// Clients of the nodes, by department.
const CLIENTS: [(&str, &str); 4] =
    [("hko", "forecaster"), ("fsd", "dispatch"), ("edb", "directorate-1"), ("had", "duty")];
/// The players' own clients.
const PLAYERS: [(&str, &str); 3] = [
    ("edb.duty-officer", "edb/duty-officer-1"),
    ("edb.regional-officer", "edb/regional-officer-1"),
    ("had.ecc-duty", "had/duty"),
];
const WITHIN: Duration = Duration::from_secs(60);

const SCENARIO: &str = r#"
drill: short-fire
title: {en: "A fire and red rain, in three quarters of a minute", zh-Hant: 四十五秒內的火警及紅雨}
objectives:
  O1: {text: {en: Schools near the fire are closed and shelters open, zh-Hant: 火警附近學校停課並開放庇護中心}, weight: 3}
  O2: {text: {en: Nothing leaves the exercise, zh-Hant: 演習內容不外流}, weight: 5, must: true}
mode: {status: Exercise, exercise-id: HV26, marker: {en: EXERCISE EXERCISE EXERCISE, zh-Hant: 演習}}
clock: {start: 2026-10-13T10:20+08:00, seed: 7, end: T+45s}
cast:
  nodes: {hko: script, fsd: script, edb: {engine: [PACKS/edb-fire.rules.yaml]}, had: {engine: [PACKS/had-shelter.rules.yaml]}, isd: gateway}
  players:
    edb.duty-officer: {virtual: [{on: pending, after: 2s, do: approve}, {on: message, after: 2s, do: acknowledge}]}
    edb.regional-officer: {virtual: [{on: pending, after: 4s, do: approve}]}
    had.ecc-duty: {virtual: [{on: pending, after: 2s, do: approve}]}
  controllers: [ctl.lead]
guards:
- gateways: {bound-to: sink, real-endpoints: forbidden}
- trust: {exercise-key: HV26, live-key: absent}
- directory: exercise HV26
- abort: {word: ABANDON, by: [ctl.lead], within: 5s, effect: cancel-all-and-freeze}
injects:
- {at: T+1s, id: i1, via: alert, from: hko, alert: {event: weather-signal, signal: WRAINR, point: [22.3, 114.1], expires: 6h}}
- {at: T+2s, id: i2, via: alert, from: fsd, alert: {event: fire, level: 1, point: [22.3, 114.1], expires: 6h}}
- {at: T+3s, id: i3, via: alert, from: fsd, updates: i2, alert: {level: 3}}
- {at: T+5s, id: i4, via: person, to: edb.duty-officer, say: "A principal rings. What now?"}
- {at: T+6s, id: i5, via: person, to: had.ecc-duty, say: "Never said", only-if: {not: {live: {effect: fire, level: 3}}}}
faults:
- {at: T+8s, repeat: 50, within: 1s, duplicate: i3}
expect:
- {id: asked, by: T+15s, objective: O1, node: edb, pending: {rule: edb.school-closure.fire, to: edb.duty-officer, count: 1}}
- {id: answered, by: T+25s, objective: O1, person: edb.duty-officer, acks: {rule: edb.school-closure.fire, within: 15s}}
- {id: told, by: T+20s, objective: O1, person: edb.duty-officer, acks: {inject: i4}}
- {id: closed, by: T+30s, objective: O1, live: {effect: class-suspension, target: "9900000100", chain: [i3]}}
- {id: shelter, by: T+25s, objective: O1, live: {effect: shelter-open, chain: [i1]}}
- {id: too-soon, by: T+3500ms, objective: O1, live: {effect: class-suspension}}
- {id: once, by: end, objective: O1, count: {effect: class-suspension, target: "9900000100", is: 1}}
- {id: one-fire, by: end, objective: O1, count: {effect: fire, is: 1}}
- {id: shown, by: T+35s, objective: O1, notice: {effect: class-suspension}}
- {id: nothing-real, objective: O2, never: {status: Actual}}
- {id: sinks-only, always: true, objective: O2, none: {at: gateway, outside: sink}}
- {id: same, by: end, objective: O1, same: {log-digest: across-nodes}}
score: {pass: 80%}
variants:
- {name: fire-lost, change: {drop-inject: i3}, verdict: {fails: [O1]}}
"#;

/// The federation, its files for the command, and the folder of the run.
struct Town {
    processes: Processes,
    scenario: PathBuf,
    cast: PathBuf,
    run: PathBuf,
}

impl Town {
    async fn start(directory: Option<serde_json::Value>) -> Result<Self> {
        let mut processes = Processes::prepare(PROGRAM, directory)?;
        let packs = packs()?;
        for member in MEMBERS {
            match member {
                "edb/node-1" => processes.node(member, &[&packs.join("edb-fire.rules.yaml")])?,
                "had/node-1" => processes.node(member, &[&packs.join("had-shelter.rules.yaml")])?,
                "isd/gateway-1" => processes.gateway_for(member, &["HV26"])?,
                _ => processes.node(member, &[])?,
            }
            processes.start(member).await?;
        }
        let dir = processes.dir().to_owned();
        std::fs::write(dir.join("roster.json"), processes.federation().roster()?)?;
        std::fs::write(dir.join("root.json"), serde_json::to_vec(&processes.federation().root()?)?)?;
        let mut cast = String::from("nodes:\n");
        for (department, client) in CLIENTS {
            let profile = profile(&processes, &format!("{department}/{client}"))?;
            cast += &format!("  {department}: {}\n", profile.display());
        }
        cast += "players:\n";
        for (role, client) in PLAYERS {
            cast += &format!("  {role}: {}\n", profile(&processes, client)?.display());
        }
        let (scenario, cast_file) = (dir.join("short.drill.yaml"), dir.join("cast.yaml"));
        std::fs::write(&cast_file, cast)?;
        std::fs::write(&scenario, SCENARIO.replace("PACKS", &packs.display().to_string()))?;
        let run = dir.join("run");
        let town = Self { processes, scenario, cast: cast_file, run };
        town.gateway_is_seen().await?;
        Ok(town)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("drill").args(words).stdin(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    async fn drill(&self, words: &[&str]) -> Result<Output> {
        let mut child =
            self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("the command")?;
        let input = child.stdin.take();
        let output = tokio::time::timeout(WITHIN * 2, child.wait_with_output()).await.context("it does not end")??;
        drop(input);
        Ok(output)
    }

    /// Waits until every node has read in the directory that the gateway has sinks: no drill begins before that.
    async fn gateway_is_seen(&self) -> Result<()> {
        let sees = async |department: &str, client: &str| {
            let peers = self.processes.client(&format!("{department}/{client}")).await?.peers().await?;
            let bound = |ids: &Vec<String>| ids.iter().any(|id| id == "HV26");
            let is_bound =
                peers.iter().any(|peer| peer.gateway && peer.registered && peer.sinks.as_ref().is_some_and(bound));
            ensure!(is_bound, "{department} does not see the gateway's sinks");
            Ok(())
        };
        for (department, client) in CLIENTS {
            eventually("the gateway is seen", WITHIN, async || sees(department, client).await).await?;
        }
        Ok(())
    }

    async fn announce(&self) -> Result<()> {
        let profile = profile(&self.processes, "fsd/dispatch")?;
        let profile = profile.to_str().context("a path")?;
        let output = self.drill(&["announce", "HV26", "--for", "1h", "--profile", profile]).await?;
        ensure!(output.status.success(), "not announced: {}", told(&output));
        Ok(())
    }

    fn live(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let words = ["run", "--live", "--players", "virtual", "--cast"].map(String::from);
        let rest = [path(&self.cast), "--run-dir".into(), path(&self.run), "--json".into(), path(&self.scenario)];
        words.into_iter().chain(rest).collect()
    }

    async fn in_force(&self) -> Result<usize> {
        let mut count = 0;
        for (department, client) in CLIENTS {
            let client = self.processes.client(&format!("{department}/{client}")).await?;
            let filter = Filter { exercise: Some(ExerciseId::try_new("HV26")?), ..Filter::default() };
            count += client.list(&Query { filter, ..Query::default() }).await?.alerts.len();
        }
        Ok(count)
    }
}

/// The folder of the shipped packs.
fn packs() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/rules/packs").canonicalize()?)
}

/// A profile file for a client of the federation.
fn profile(processes: &Processes, client: &str) -> Result<PathBuf> {
    let files = processes.federation().client(&client.parse()?);
    let department = client.split('/').next().context("a department")?;
    let address = processes.ready(&format!("{department}/node-1"))?.address;
    let dir = processes.dir();
    let text = serde_json::json!({
        "node": address, "department": department, "certificate": files.chain, "key": files.key,
        "roster": dir.join("roster.json"), "root": dir.join("root.json"), "development": true,
    });
    let path = dir.join(format!("{}.profile.yaml", client.replace('/', "-")));
    std::fs::write(&path, text.to_string())?;
    Ok(path)
}

fn told(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The outcomes by expectation.
fn outcomes(verdict: &Verdict) -> Vec<(String, Outcome)> {
    verdict.items.iter().map(|item| (item.id.clone(), item.outcome)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scenario_gives_the_same_verdicts_in_virtual_time_and_on_five_processes_with_etcd() {
    let run = async {
        let Some(etcd) = start_etcd(EtcdVersion::V34).await? else { return Ok(()) };
        let town = Town::start(Some(etcd_directory(&etcd))).await?;
        let words = town.live();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();

        // Nothing begins before it is announced, nor with a fault that nobody can bring about.
        let refused = town.drill(&words).await?;
        ensure!(!refused.status.success(), "it began without being announced");
        ensure!(told(&refused).contains("campanile drill announce HV26"), "{}", told(&refused));
        town.announce().await?;
        let output = town.drill(&words).await?;
        let live: Verdict = serde_json::from_slice(&output.stdout).with_context(|| told(&output))?;

        let text = std::fs::read_to_string(&town.scenario)?;
        let (scenario, _) = Scenario::parse(&text).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
        let bench = Bench::load(&scenario.cast.nodes, &|file| std::fs::read(file).ok());
        let bench = bench.map_err(|wrong| anyhow::anyhow!("{}", wrong.join("; ")))?;
        let played = campanile_drill::play(&scenario, &bench, 7)?;
        let (live_is, virtual_is) = (outcomes(&live), outcomes(&played.verdict));
        ensure!(live_is == virtual_is, "live {live_is:#?}\nvirtual {virtual_is:#?}\n{}", told(&output));
        let missed = live_is.iter().filter(|(_, outcome)| *outcome != Outcome::Met).count();
        ensure!(missed == 1, "only too-soon is to be missed: {live_is:#?}");
        ensure!(live.score == played.verdict.score && live.passed == played.verdict.passed, "the scores differ");
        ensure!(output.status.success() == live.passed, "the exit code says something else");
        ensure!(town.in_force().await? == 0, "something is in force after the end");

        let folder = town.run.display().to_string();
        let report = town.drill(&["report", &folder, "--form", "md", "--out", "-"]).await?;
        ensure!(report.status.success() && told(&report).contains("too-soon"), "{}", told(&report));
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("{error:#}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_drill_that_is_killed_leaves_nothing_real_and_is_cleared_up_by_an_abort() {
    let run = async {
        let town = Town::start(None).await?;
        town.announce().await?;
        let words = town.live();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let folder = town.run.display().to_string();
        let who = ["HV26", "--as", "ctl.lead", "--run-dir", &folder];
        let say = |verb: &'static str| [&[verb], &who[..]].concat();
        let said = town.processes.dir().join("said.txt");
        let begin = || -> Result<Child> {
            let log = std::fs::File::create(&said)?;
            Ok(town.command(&words).stdout(Stdio::null()).stderr(log).spawn()?)
        };
        let closed = async || match town.in_force().await? {
            0..4 => anyhow::bail!("little is in force; the drill said: {}", std::fs::read_to_string(&said)?),
            many => Ok(many),
        };

        let mut child = begin()?;
        let many = eventually("the drill has effects", WITHIN, closed).await?;
        let paused = town.drill(&say("pause")).await?;
        ensure!(paused.status.success() && told(&paused).contains("paused at"), "{}", told(&paused));
        child.kill().await?;
        eprintln!("killed with {many} messages of the exercise at four nodes");
        // What is left is of the exercise, every record of it.
        for member in ["fsd/node-1", "edb/node-1", "isd/gateway-1"] {
            let store = town.processes.store(member)?;
            let mut after = 0;
            loop {
                let page = store.arrivals(after, 512, 8 << 20)?;
                let Some(last) = page.last() else { break };
                after = last.arrival;
                for entry in &page {
                    let header = open_header(&entry.header)?;
                    let real = header.kind == campanile_bus::record::Kind::Alert && header.status == Status::Actual;
                    ensure!(!real, "{member} holds a real alert at {:?}", entry.position);
                }
            }
        }
        let begun = std::time::Instant::now();
        let aborted = town.drill(&say("abort")).await?;
        ensure!(aborted.status.success(), "{}", told(&aborted));
        eventually("nothing is in force", WITHIN, async || match town.in_force().await? {
            0 => Ok(()),
            left => anyhow::bail!("{left} are"),
        })
        .await?;
        eprintln!("cleared {:.2} s after the command began", begun.elapsed().as_secs_f64());

        // The next run finds nothing in its way; an abort from another process ends it.
        let mut child = begin()?;
        let input = child.stdin.take();
        eventually("the drill has effects again", WITHIN, closed).await?;
        let begun = std::time::Instant::now();
        let aborted = town.drill(&say("abort")).await?;
        ensure!(aborted.status.success(), "{}", told(&aborted));
        let status = tokio::time::timeout(WITHIN, child.wait()).await.context("it goes on")??;
        eprintln!("called off in {:.2} s", begun.elapsed().as_secs_f64());
        drop(input);
        ensure!(status.code() == Some(1), "an aborted drill ended with {status}");
        ensure!(town.in_force().await? == 0, "something is in force after the abort");
        let over = town.drill(&say("resume")).await?;
        ensure!(told(&over).contains("no drill runs in"), "{}", told(&over));
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("{error:#}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_interrupt_ends_a_live_drill_that_cannot_be_cleared_yet_and_says_how_it_will_be() {
    let run = async {
        let mut town = Town::start(None).await?;
        town.announce().await?;
        let words = town.live();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut child = town.command(&words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        eventually("the drill has effects", WITHIN, async || match town.in_force().await? {
            0..4 => anyhow::bail!("little is in force"),
            _ => Ok(()),
        })
        .await?;
        // With edb silent, calling the drill off takes the five seconds that it may.
        town.processes.signal("edb/node-1", "-STOP").await?;
        let pid = child.id().context("it has ended by itself")?.to_string();
        for _ in 0..2 {
            let sent = Command::new("kill").args(["-INT", &pid]).status().await?;
            ensure!(sent.success(), "it ended at the first interrupt");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let output = tokio::time::timeout(WITHIN, child.wait_with_output()).await.context("it goes on")??;
        drop(input);
        town.processes.signal("edb/node-1", "-CONT").await?;
        let said = told(&output);
        ensure!(!output.status.success() && said.contains("ended before everything of it was cancelled"), "{said}");
        // What it says is to be done clears everything up.
        let next = said.split("campanile drill ").nth(1).and_then(|rest| rest.lines().next()).context("no command")?;
        let aborted =
            town.drill(&next.split_whitespace().map(|word| word.trim_matches('\'')).collect::<Vec<_>>()).await?;
        ensure!(aborted.status.success(), "{}", told(&aborted));
        ensure!(town.in_force().await? == 0, "something is in force after it");
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("{error:#}"));
}
