//! `campanile bench`: what the project costs beside a floor that does the same steps bare, in one run.
//!
//! ```text
//! publish  client ─mTLS─► fsd: [parse, judge] hash, sign, append, sync ─► answer
//! chain    client ─mTLS─► fsd ─mTLS stream─► edb: verify, [rules] hash, sign, append, sync ─► gateway: verify, append, sync
//! ```
//!
//! The floor ([`floor`]) does what is not in brackets, with the same TLS, the same gRPC library, the same keys and the
//! same payload, over a plain file and `fdatasync`. The project ([`project`]) is the shipped binary: a node for fsd, one
//! for edb with the shipped fire pack, and isd's gateway, each a process, over SQLite. Rounds of both alternate, and the
//! median over the rounds is reported, because machines are noisy. Before that the [`rules`] are measured alone.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use campanile_alert::{Clock as _, xml};
use campanile_discovery::SystemClock;
use serde::Serialize;

mod drill;
mod fires;
pub mod floor;
#[cfg(feature = "peers")]
mod peers;
pub mod project;
mod rules;
mod stats;

use fires::Fires;
use stats::{Sample, median};

/// Measures the project beside its floor.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A data set of schools to use instead of the generated one; JSON in the form of the Education Bureau's list.
    #[arg(long, value_name = "FILE")]
    pub schools: Option<PathBuf>,
    /// How often each measurement is made; the median is reported.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub rounds: u32,
    /// Calls of one round, one at a time.
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(10..=2_000))]
    pub calls: u32,
    /// Also publish this many records, and report the memory of the three that hold them; then as many again while one of
    /// them is away, and report how it catches up.
    #[arg(long, value_name = "N")]
    pub records: Option<u32>,
    /// The seed of the generated places.
    #[arg(long, default_value_t = 20_261_122)]
    pub seed: u64,
    /// Measure the rules alone, without nodes.
    #[arg(long)]
    pub rules: bool,
    /// Also measure NATS JetStream, synced as often, in the same rounds; wants `nats-server`, and a build with
    /// `--features peers`.
    #[arg(long)]
    pub peers: bool,
    /// Print the result as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// How long edb may take to hold what was published for the figures of memory.
const MANY_WITHIN: std::time::Duration = std::time::Duration::from_secs(600);

/// A part of the bench that runs as a process of its own; started by the bench itself.
#[derive(Debug, clap::Subcommand)]
pub enum Part {
    /// A floor server.
    Floor(floor::Args),
    /// The gateway, which also says when each closure is durable.
    Gateway(project::GatewayArgs),
}

/// One row of the result; times in microseconds, rates per second.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    floor_p50_us: f64,
    floor_p99_us: f64,
    p50_us: f64,
    p99_us: f64,
    ratio_p50: f64,
    ratio_p99: f64,
    floor_rate: f64,
    rate: f64,
}

impl Row {
    fn new(name: &'static str, floor: &[Sample], project: &[Sample]) -> Self {
        let over = |samples: &[Sample], value: fn(&Sample) -> f64| median(samples.iter().map(value).collect());
        let (floor_p50_us, floor_p99_us) = (over(floor, Sample::p50_us), over(floor, Sample::p99_us));
        let (p50_us, p99_us) = (over(project, Sample::p50_us), over(project, Sample::p99_us));
        Self {
            name,
            floor_p50_us,
            floor_p99_us,
            p50_us,
            p99_us,
            ratio_p50: p50_us / floor_p50_us,
            ratio_p99: p99_us / floor_p99_us,
            floor_rate: over(floor, Sample::rate),
            rate: over(project, Sample::rate),
        }
    }
}

/// Runs one of the bench's own processes.
///
/// # Errors
/// When it cannot start.
pub async fn part(part: Part) -> Result<()> {
    match part {
        Part::Floor(args) => floor::run(args).await,
        Part::Gateway(args) => project::gateway(args).await,
    }
}

/// Measures, and prints the rows.
///
/// # Errors
/// When a process cannot be started or does not answer.
pub async fn run(args: Args) -> Result<()> {
    let mut extra = serde_json::Map::new();
    extra.insert("machine".into(), machine().into());
    say("rules: one alert beside many rules, and ten years of warnings");
    extra.insert("rules".into(), rules::measure(&args)?);
    say("drill: a day of twelve departments in virtual time");
    extra.insert("drill".into(), drill::measure()?);
    if args.rules {
        print(&args, &[], &extra);
        return Ok(());
    }
    let dir = tempfile::Builder::new().prefix("campanile-bench-").tempdir().context("failed to make a folder")?;
    let mut fires = Fires::new(&args, SystemClock.now())?;
    let project = project::Project::prepare(dir.path(), &fires)?;
    let mut samples: [Vec<Sample>; 8] = Default::default();
    let [floor_1, floor_64, publish_1, publish_64, floor_chain_1, floor_chain_64, chain_1, chain_64] = &mut samples;
    let many = args.calls * 4;
    let payload = xml::write(&fires.quiet()?).into_bytes();

    say("publish: one node, its peers away");
    let running = project.start("publish", &["fsd"]).await?;
    let floor = floor::Floor::start(&project, 1).await?;
    floor.publish(&payload, 20, 1).await?;
    running.publish(fires.quiet_many(20)?, 1).await?;
    let mut witness = Witness::start(&args, &project, &payload).await?;
    for _ in 0..args.rounds {
        floor_1.push(floor.publish(&payload, args.calls, 1).await?);
        publish_1.push(running.publish(fires.quiet_many(args.calls)?, 1).await?);
        floor_64.push(floor.publish(&payload, many * 4, 64).await?);
        publish_64.push(running.publish(fires.quiet_many(many * 4)?, 64).await?);
        witness.round(&payload, args.calls, many * 4).await?;
    }
    witness.stop(&mut extra).await;
    floor.stop().await;
    running.stop().await;

    say("chain: fire at fsd, closure at edb, durable in the gateway");
    let floor = floor::Floor::start(&project, 3).await?;
    let mut running = project.start("chain", &["fsd", "edb", "isd"]).await?;
    running.sign_envelope().await?;
    floor.chain(&payload, 20, 1).await?;
    running.chain(fires.near_schools(20)?, 1).await?;
    for _ in 0..args.rounds {
        floor_chain_1.push(floor.chain(&payload, args.calls, 1).await?);
        chain_1.push(running.chain(fires.near_schools(args.calls)?, 1).await?);
        floor_chain_64.push(floor.chain(&payload, many, 64).await?);
        chain_64.push(running.chain(fires.near_schools(args.calls * 3)?, 64).await?);
    }
    if let Some(records) = args.records {
        say("memory: many records in all three");
        let held = running.publish(fires.quiet_many(records)?, 64).await?;
        extra.insert("records_rate".into(), held.rate().into());
        extra.insert("records".into(), running.records().await?.into());
        let behind = std::time::Instant::now();
        running.caught_up(MANY_WITHIN).await?;
        extra.insert("caught_up_after_s".into(), behind.elapsed().as_secs_f64().into());
    }
    for member in ["fsd", "edb", "isd"] {
        extra.insert(format!("{member}_rss_mib"), running.rss_mib(member)?.into());
        extra.insert(format!("{member}_wal_mib"), running.wal_mib(member).into());
    }
    floor.stop().await;
    if let Some(records) = args.records {
        say("backlog: as many again while edb is away, and then it comes back");
        extra.insert("backlog".into(), backlog(&mut running, &mut fires, &args, records).await?);
    }
    running.stop().await;

    // In their order, so that a figure that grows with what is stored shows.
    let medians = |samples: &[Sample]| samples.iter().map(|sample| sample.p50_us().round()).collect::<Vec<_>>();
    extra.insert("chain_1_rounds_us".into(), medians(chain_1).into());
    extra.insert("chain_1_floor_rounds_us".into(), medians(floor_chain_1).into());
    let rows = [
        Row::new("publish_1", floor_1, publish_1),
        Row::new("publish_64", floor_64, publish_64),
        Row::new("chain_1", floor_chain_1, chain_1),
        Row::new("chain_64", floor_chain_64, chain_64),
    ];
    print(&args, &rows, &extra);
    Ok(())
}

/// One department comes back to a backlog of `records`: whether another's publishes take longer while it catches up.
async fn backlog(
    running: &mut project::Running<'_>,
    fires: &mut Fires,
    args: &Args,
    records: u32,
) -> Result<serde_json::Value> {
    running.edb_away().await?;
    running.publish(fires.quiet_many(records)?, 64).await?;
    let alone = running.publish(fires.quiet_many(args.calls)?, 1).await?;
    let beside = running.edb_back(MANY_WITHIN, || fires.quiet()).await?;
    Ok(serde_json::json!({
        "records": records,
        "caught_up_after_s": beside.took_s(),
        "publish_alone_p50_us": alone.p50_us(),
        "publish_alone_p99_us": alone.p99_us(),
        "publish_beside_p50_us": beside.p50_us(),
        "publish_beside_p99_us": beside.p99_us(),
        "ratio_p50": beside.p50_us() / alone.p50_us(),
        "fsd_rss_mib": running.rss_mib("fsd")?,
        "edb_rss_mib": running.rss_mib("edb")?,
        "edb_wal_mib": running.wal_mib("edb"),
    }))
}

/// NATS beside us, where it was asked for.
#[cfg(feature = "peers")]
struct Witness(Option<(peers::Nats, Vec<Sample>, Vec<Sample>)>);

#[cfg(feature = "peers")]
impl Witness {
    async fn start(args: &Args, project: &project::Project, payload: &[u8]) -> Result<Self> {
        if !args.peers {
            return Ok(Self(None));
        }
        let nats = peers::Nats::start(project).await?;
        nats.publish(payload, 20, 1).await?;
        Ok(Self(Some((nats, Vec::new(), Vec::new()))))
    }

    async fn round(&mut self, payload: &[u8], one: u32, many: u32) -> Result<()> {
        if let Some((nats, ones, manies)) = &mut self.0 {
            ones.push(nats.publish(payload, one, 1).await?);
            manies.push(nats.publish(payload, many, 64).await?);
        }
        Ok(())
    }

    async fn stop(self, extra: &mut serde_json::Map<String, serde_json::Value>) {
        let Some((nats, ones, manies)) = self.0 else { return };
        extra.insert("nats_version".into(), nats.version.clone().into());
        for (name, samples) in [("nats_publish_1", &ones), ("nats_publish_64", &manies)] {
            let over = |value: fn(&Sample) -> f64| median(samples.iter().map(value).collect()).round();
            let row = serde_json::json!({
                "p50_us": over(Sample::p50_us), "p99_us": over(Sample::p99_us), "rate": over(Sample::rate),
            });
            extra.insert(name.into(), row);
        }
        nats.stop().await;
    }
}

/// Built without witnesses.
#[cfg(not(feature = "peers"))]
struct Witness;

#[cfg(not(feature = "peers"))]
impl Witness {
    async fn start(args: &Args, _: &project::Project, _: &[u8]) -> Result<Self> {
        anyhow::ensure!(!args.peers, "this program was built without witnesses; build it with `--features peers`");
        Ok(Self)
    }

    async fn round(&mut self, _: &[u8], _: u32, _: u32) -> Result<()> {
        Ok(())
    }

    async fn stop(self, _: &mut serde_json::Map<String, serde_json::Value>) {}
}

/// Processor, cores and kernel, in one line.
fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}

#[allow(clippy::print_stderr, reason = "progress of a command that takes a minute")]
fn say(text: &str) {
    eprintln!("{text}");
}

#[allow(clippy::print_stdout, reason = "this is what the command is for")]
fn print(args: &Args, rows: &[Row], extra: &serde_json::Map<String, serde_json::Value>) {
    if args.json {
        println!("{}", serde_json::json!({"rows": rows, "extra": extra}));
        return;
    }
    println!(
        "row          floor p50   floor p99         p50         p99   ratio p50   ratio p99  floor rate        rate"
    );
    for row in rows {
        println!(
            "{:<11} {:>8.0} us {:>8.0} us {:>8.0} us {:>8.0} us {:>11.2} {:>11.2} {:>9.0}/s {:>9.0}/s",
            row.name,
            row.floor_p50_us,
            row.floor_p99_us,
            row.p50_us,
            row.p99_us,
            row.ratio_p50,
            row.ratio_p99,
            row.floor_rate,
            row.rate
        );
    }
    for (name, value) in extra {
        println!("{name}: {value}");
    }
}
