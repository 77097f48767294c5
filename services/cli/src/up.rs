//! `campanile up`: a fire becomes a school closure and reaches the public, from one command.
//!
//! It starts a federation ([`crate::local`]), plays a fire from a CAP file into Fire Services' node, prints what follows
//! as it happens, and then looks at its own public feed as a stranger would: over HTTP, checking signature, area and
//! causes. A hop that is missing makes it fail.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use campanile_alert::time::DateTime;
use campanile_alert::{Alert, Clock, Point, Timestamp, geometry, xml};
use campanile_bus::record::{self, Content, PAYLOAD_TYPE};
use campanile_bus::{Arrival, Bus};
use campanile_client::Publish;
use campanile_client::admin::Envelope;
use campanile_discovery::{DirectoryConfig, SystemClock};
use campanile_log::Hash;
use campanile_proto::bus::v1 as wire;
use prost::Message as _;

use crate::local::{Local, Options};

/// How long a hop may take before it counts as missing.
const HOP_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The largest answer read from the own feed, in bytes.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// The page of the first block of the fictional estate.
const SCREEN: &str = "/screen/harbour-view-estate/hoi-king-house";
const FIRE: &str = include_str!("../data/harbour-view-fire.cap.xml");
const FIRE_RULE: &str = "edb.school-closure.fire";

/// Runs a whole federation in this process and plays a fire through it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A CAP file to play instead of the shipped fire; its times are shifted to now and it gets a new identifier.
    #[arg(long, value_name = "FILE")]
    pub cap: Option<PathBuf>,
    /// An etcd to use as directory instead of memory, for example http://127.0.0.1:2379.
    #[arg(long, value_name = "URL")]
    pub etcd: Option<String>,
    /// A broker for lift screens, for example mqtt://127.0.0.1:1883.
    #[arg(long, value_name = "URL")]
    pub mqtt: Option<String>,
    /// Leave a pack out, for example edb-fire; a hop will be missing then.
    #[arg(long, value_name = "PACK")]
    pub without: Vec<String>,
    /// Keep everything in this folder instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where the public feed is served; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub http: std::net::SocketAddr,
    /// End after the check even on a terminal.
    #[arg(long)]
    pub once: bool,
    /// Print the result as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// One hop of the cascade, for the JSON report.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Hop {
    hop: &'static str,
    at: Timestamp,
    after_ms: f64,
    what: String,
}

/// Runs it; the answer is whether every hop was there.
///
/// # Errors
/// When the federation cannot be started; a missing hop is printed and answered with `false`.
pub async fn run(args: Args) -> Result<bool> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let keep = match &args.dir {
        Some(dir) => (dir.clone(), None),
        None => {
            let dir = tempfile::Builder::new().prefix("campanile-up-").tempdir().context("failed to make a folder")?;
            (dir.path().to_path_buf(), Some(dir))
        }
    };
    let directory = match &args.etcd {
        None => DirectoryConfig::Memory,
        Some(url) => DirectoryConfig::Etcd(campanile_discovery::directory::EtcdConfig::at(url)),
    };
    let options = Options {
        dir: keep.0.clone(),
        directory,
        without: args.without.clone(),
        mqtt: args.mqtt.clone(),
        http: args.http,
        metrics: true,
    };
    let known = ["edb-fire", "had-shelter"];
    if let Some(unknown) = args.without.iter().find(|pack| !known.contains(&pack.as_str())) {
        bail!("there is no pack {unknown:?} here; the packs are {}", known.join(" and "));
    }
    let fire = fire(&args, clock.now())?;
    let local = Local::start(&options, Arc::clone(&clock)).await?;
    let say = Say { json: args.json };
    say.addresses(&local);
    let result = play(&local, fire, &clock, &say).await;
    let passed = match &result {
        Ok(hops) => {
            say.done(hops);
            true
        }
        Err(error) => {
            say.missing(error);
            false
        }
    };
    if passed && !args.once && !args.json && std::io::stdout().is_terminal() {
        say.line("Press Ctrl-C to end.");
        tokio::signal::ctrl_c().await.context("failed to wait for Ctrl-C")?;
    }
    local.shutdown().await;
    drop(keep);
    Ok(passed)
}

/// Reads the fire and moves it to now, with a new identifier: it is another message.
fn fire(args: &Args, now: Timestamp) -> Result<Alert> {
    let bytes = match &args.cap {
        None => FIRE.as_bytes().to_vec(),
        Some(path) => std::fs::read(path)
            .with_context(|| format!("failed to read {}; give a CAP file that exists", path.display()))?,
    };
    let document = xml::read(&bytes, &xml::Limits::default()).context("the file is not a CAP message")?;
    ensure!(document.messages.len() == 1, "the file is not one CAP message: {}", document.statement());
    let message = document.messages.into_iter().next().context("the file holds no message")?;
    let mut alert = message.result.map_err(|faults| {
        let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the CAP message is not valid: {}", texts.join("; "))
    })?;
    let by = now.duration_since(alert.sent.instant());
    let shift = |time: &DateTime| -> Result<DateTime> {
        let moved = time.instant().checked_add(by).context("a time of the message cannot be moved to now")?;
        Ok(DateTime::from_instant(moved, time.offset_minutes()))
    };
    alert.sent = shift(&alert.sent)?;
    for info in &mut alert.infos {
        for time in [&mut info.effective, &mut info.onset, &mut info.expires].into_iter().flatten() {
            *time = shift(time)?;
        }
    }
    alert.identifier = format!("{}-{}", alert.identifier, now.as_millisecond());
    // A signature would cover the old times.
    alert.signatures.clear();
    Ok(alert)
}

async fn play(local: &Local, fire: Alert, clock: &Arc<dyn Clock>, say: &Say) -> Result<Vec<Hop>> {
    sign_envelope(local, clock).await?;
    let edb = local.node("edb")?.bus().clone();
    let isd = local.gateway.bus.clone();
    let started = clock.now();
    let mut hops = Vec::new();
    let mut hop = |name: &'static str, at: Timestamp, what: String| {
        let after_ms = at.duration_since(started).as_secs_f64() * 1_000.0;
        say.hop(name, after_ms, &what);
        hops.push(Hop { hop: name, at, after_ms, what });
    };

    let dispatch = local.client("fsd/dispatch").await?;
    let published = dispatch.publish(&Publish::cap_xml(xml::write(&fire).into_bytes())).await?;
    hop("fsd published", clock.now(), format!("{} at {}", fire.identifier, published.position));

    let is_fire = |arrival: &Arrival| alert_in(arrival).is_some_and(|alert| alert.id() == fire.id());
    let seen = wait(&edb, is_fire).await.context("edb never received the fire")?;
    hop("edb received", seen.received, format!("verified, counted, arrival {}", seen.entry.arrival));

    let is_closure = |arrival: &Arrival| {
        let body = arrival.body.as_ref();
        body.is_some_and(|body| {
            body.classification.event.as_deref() == Some("class-suspension")
                && body.causes.iter().any(|cause| cause.identifier == fire.identifier)
        })
    };
    let closure = wait(&edb, is_closure).await.context("edb issued no class suspension")?;
    let headline = alert_in(&closure).and_then(|alert| headline(alert, "en")).unwrap_or_default();
    hop("edb issued", closure.received, headline);

    let arrived = wait(&isd, is_closure).await.context("the closure never reached isd's gateway")?;
    hop("isd received", arrived.received, format!("durable, arrival {}", arrived.entry.arrival));

    let web = Web::new(local.gateway.server.public_url())?;
    let hash = closure.entry.position.hash;
    let checked =
        within(|| web.check(local, hash, &fire)).await.context("the public feed does not show the closure")?;
    hop("feed shows", clock.now(), checked);

    let screen = within(|| web.screen(&fire)).await.context("the lift screen does not show the alert")?;
    hop("screen shows", clock.now(), screen);

    let is_report = |arrival: &Arrival| {
        arrival.body.as_ref().is_some_and(|body| match &body.content {
            Content::DeliveryReport(report) => report.record_hash == hash.0,
            _ => false,
        })
    };
    let report = wait(&edb, is_report).await.context("no delivery report came back to edb")?;
    hop("edb told", report.received, "isd's gateway reports the hand-over".into());
    Ok(hops)
}

/// Two persons of edb's directorate allow the fire rule to act at once, for a month.
async fn sign_envelope(local: &Local, clock: &Arc<dyn Clock>) -> Result<()> {
    let edb = local.node("edb")?;
    edb.bus().ready().await?;
    if edb.rules().lock().engine.rule(FIRE_RULE).is_none() {
        return Ok(());
    }
    let until = clock.now().checked_add(jiff::SignedDuration::from_hours(24 * 30)).context("the clock is too late")?;
    for client in ["edb/directorate-1", "edb/directorate-2"] {
        let envelope = Envelope { rule: FIRE_RULE.into(), valid_from: None, valid_to: until };
        local.client(client).await?.sign_envelope(&envelope).await?;
    }
    Ok(())
}

fn alert_in(arrival: &Arrival) -> Option<&Arc<Alert>> {
    match &arrival.body.as_ref()?.content {
        Content::Alert { alert, .. } => Some(alert),
        _ => None,
    }
}

fn headline(alert: &Alert, language: &str) -> Option<String> {
    let info = alert.infos.iter().find(|info| info.language().starts_with(language))?;
    info.headline.clone()
}

/// Waits for a stored record that fits, looking at all that is held.
async fn wait(bus: &Bus, fits: impl Fn(&Arrival) -> bool) -> Result<Arc<Arrival>> {
    let mut changed = bus.changed();
    let look = async {
        let mut after = 0;
        loop {
            changed.borrow_and_update();
            loop {
                let page = bus.arrivals(after, 256).await?;
                let Some(last) = page.last() else { break };
                after = last.entry.arrival;
                if let Some(found) = page.into_iter().find(|arrival| fits(arrival)) {
                    return Ok(found);
                }
            }
            changed.changed().await?;
        }
    };
    match tokio::time::timeout(HOP_WITHIN, look).await {
        Ok(found) => found,
        Err(_) => bail!("it did not come within {} s", HOP_WITHIN.as_secs()),
    }
}

/// Asks again until the answer is good or the time is up; the last reason is told.
async fn within<T, F: Future<Output = Result<T>>>(ask: impl Fn() -> F) -> Result<T> {
    let end = tokio::time::Instant::now() + HOP_WITHIN;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if tokio::time::Instant::now() >= end => return Err(error),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// The own public feed, read as a stranger reads it.
struct Web {
    http: reqwest::Client,
    base: String,
}

impl Web {
    fn new(base: &str) -> Result<Self> {
        // The client wants a provider even for plain HTTP; one that is installed already serves as well.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build()?;
        Ok(Self { http, base: base.into() })
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let url = format!("{}{path}", self.base);
        let answer = self.http.get(&url).send().await.with_context(|| format!("{url} did not answer"))?;
        ensure!(answer.status().is_success(), "{url} answered {}", answer.status());
        let bytes = answer.bytes().await?;
        ensure!(bytes.len() <= ANSWER_BYTES_MAX, "{url} answered more than 8 MiB");
        Ok(bytes.to_vec())
    }

    /// The closure in every feed, its record's signature, its area and its causes.
    async fn check(&self, local: &Local, hash: Hash, fire: &Alert) -> Result<String> {
        for language in ["en", "zh-Hant"] {
            let atom = String::from_utf8(self.get(&format!("/feed/{language}/atom.xml")).await?)?;
            ensure!(atom.contains(&hash.to_string()), "the Atom feed in {language} has no entry for the closure");
        }
        let cap = self.get(&format!("/cap/{hash}.xml")).await?;
        let document = xml::read(&cap, &xml::Limits::default())?;
        let message = document.messages.into_iter().next().context("the CAP file holds no message")?;
        let alert = message.result.map_err(|_| anyhow::anyhow!("the CAP file of the feed is not valid"))?;
        let record = wire::Record::decode(self.get(&format!("/records/{hash}")).await?.as_slice())?;
        ensure!(Hash::of(&record.header) == hash, "the record's hash is not the one in the feed");
        let header = record::open_header(&record.header)?;
        let body = record::open_body(&header, &record.body.clone().context("the feed gives no body")?)?;
        let roster = local.node("edb")?.bus().roster().current();
        let signatures = record::signatures_from_wire(&record.signatures)?;
        let lane = campanile_bus::verify::key_lane(header.log.lane);
        let good = signatures.iter().any(|signature| {
            let key = roster.key(&header.origin, signature.key_id, lane, header.epoch, header.seq);
            key.is_ok_and(|key| key.verify(PAYLOAD_TYPE, &record.header, signature).is_ok())
        });
        ensure!(good, "the signature of the record does not verify with edb's key");
        let signed = match &body.content {
            Content::Alert { alert, .. } => alert,
            _ => bail!("the record holds no alert"),
        };
        ensure!(signed.id() == alert.id(), "the CAP file and the signed record are two messages");
        let caused = body.causes.iter().any(|cause| cause.identifier == fire.identifier);
        ensure!(caused, "the signed record does not name the fire as its cause");
        let near = near(fire, signed)?;
        Ok(format!("signature good, {near:.0} m from the fire, cause {}", fire.identifier))
    }

    /// The page of a block of the fictional estate.
    async fn screen(&self, fire: &Alert) -> Result<String> {
        let html = String::from_utf8(self.get(SCREEN).await?)?;
        let shown = headline(fire, "en").unwrap_or_default();
        ensure!(html.contains(&shown), "the page of the block does not show the fire");
        Ok(format!("{}{SCREEN}", self.base))
    }
}

/// How far the closure's site lies from the fire's area, in metres.
fn near(fire: &Alert, closure: &Alert) -> Result<f64> {
    let areas: Vec<_> = fire.infos.iter().flat_map(|info| info.areas.iter().cloned()).collect();
    let circle = closure.infos.iter().flat_map(|info| &info.areas).flat_map(|area| &area.circles).next();
    let site: Point = circle.context("the closure names no place")?.centre();
    let metres = geometry::distance_to_areas_m(&areas, site).context("the fire names no place")?;
    ensure!(metres <= 500.0, "the closed site is {metres:.0} m from the fire, beyond 500 m");
    Ok(metres)
}

/// What the person at the terminal reads.
struct Say {
    json: bool,
}

#[allow(clippy::print_stdout, reason = "this is what the command is for")]
impl Say {
    fn line(&self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }

    fn addresses(&self, local: &Local) {
        self.line("A federation of five departments is up, in this process, over mutual TLS on loopback.");
        for (department, node) in &local.nodes {
            let metrics =
                node.metrics_address().map(|at| format!("   metrics http://{at}/metrics")).unwrap_or_default();
            self.line(&format!("  {department:<4} node     {}{metrics}", node.address()));
        }
        self.line(&format!("  isd  gateway  {}", local.gateway.address));
        let base = local.gateway.server.public_url();
        self.line(&format!("  public feed   {base}/"));
        self.line(&format!("  lift screen   {base}{SCREEN}"));
        self.line("");
        self.line("A fire is published by Fire Services. What follows, by itself:");
    }

    fn hop(&self, name: &str, after_ms: f64, what: &str) {
        self.line(&format!("  {after_ms:>8.1} ms  {name:<14} {what}"));
    }

    fn done(&self, hops: &[Hop]) {
        if self.json {
            let report = serde_json::json!({"passed": true, "hops": hops});
            println!("{report}");
        }
        self.line("");
        self.line("Every hop was there: the fire became a closure and reached the public.");
    }

    fn missing(&self, error: &anyhow::Error) {
        if self.json {
            let report = serde_json::json!({"passed": false, "missing": format!("{error:#}")});
            println!("{report}");
        }
        self.line("");
        self.line(&format!("A hop is missing: {error:#}"));
    }
}
