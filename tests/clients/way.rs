//! One fire's way through three processes, as `trace` and the metrics tell it.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use campanile_client::{AlertDetail, Client, Publish, Published, wanted};
use campanile_tests::cluster::web::Web;
use campanile_tests::process::{Processes, eventually, fires};
use serde_json::Value;

use crate::setting::{EDB, FSD, GATEWAY, PROGRAM, assert_calm, campanile, client_files, now, run, serve_metrics};

const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_and_the_metrics_show_one_fires_way_through_three_processes() {
    let mut processes = Processes::prepare(PROGRAM, None).unwrap();
    let pack = fires::write_pack(processes.dir(), 4).unwrap();
    processes.node(FSD, &[]).unwrap();
    processes.node(EDB, &[&pack]).unwrap();
    processes.gateway(GATEWAY).unwrap();
    for member in [FSD, EDB] {
        serve_metrics(&processes, member);
    }
    for member in [FSD, EDB, GATEWAY] {
        processes.start(member).await.unwrap();
    }
    processes.allow_closures().await.unwrap();
    let fire = fires::fire(1, now()).unwrap();
    let published = processes.client("fsd/dispatch").await.unwrap().publish(&Publish::alert(&fire)).await.unwrap();
    assert!(published.traceparent.starts_with("00-"), "{published:?}");
    let edb = processes.client("edb/directorate-1").await.unwrap();

    let (at_edb, closure) =
        eventually("fire, closure and both hand-overs at edb", WITHIN, async || whole_way(&edb, &published).await)
            .await
            .unwrap();
    follows(&published, &at_edb, &closure);
    // From either end the command shows the same way.
    if let Some(program) = campanile() {
        for asked in [&published.id, &closure.alert.alert.id()] {
            let mut command = Command::new(&program);
            let files = client_files(&processes, "edb/directorate-1");
            command.args(["trace", &asked.to_string(), "--json", "--development", "--node"]);
            command.arg(processes.ready(EDB).unwrap().address.to_string());
            command.arg("--identity").arg(files.chain).arg("--key").arg(files.key);
            command.arg("--roster").arg(processes.federation().roster_path());
            command.env_remove("CAMPANILE_PROFILE").env_remove("CAMPANILE_NODE");
            let (output, stdout, stderr) = run(command).await;
            assert!(output.status.success(), "{stdout}{stderr}");
            told(&serde_json::from_str(&stdout).unwrap(), &published, &closure, asked == &published.id);
        }
    }
    metrics(&processes).await;
    for member in [FSD, EDB, GATEWAY] {
        assert_calm(&processes, member);
    }
}

/// The fire and its closure as edb's node holds them, once gateways have said what they did with both.
async fn whole_way(edb: &Client, fire: &Published) -> Result<(AlertDetail, AlertDetail)> {
    let fire = edb.get(&wanted(&fire.id)).await?;
    let closure = fire.effects.first().context("no effect")?;
    let closure = edb.get(&wanted(&closure.alert.id())).await?;
    for (what, detail) in [("fire", &fire), ("closure", &closure)] {
        let handed = |delivery: &campanile_client::Delivery| delivery.stages.iter().any(|(stage, _)| stage == "handed");
        ensure!(detail.deliveries.iter().any(handed), "the {what} was handed to nobody: {:?}", detail.deliveries);
    }
    Ok((fire, closure))
}

fn trace_id(traceparent: &str) -> &str {
    let parts: Vec<&str> = traceparent.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{traceparent}");
    assert_ne!(parts[1], "0".repeat(32));
    parts[1]
}

/// Positions, times, causes and the trace id hang together.
fn follows(published: &Published, fire: &AlertDetail, closure: &AlertDetail) {
    assert_eq!(fire.effects.len(), 1, "{:?}", fire.effects);
    assert_eq!(fire.alert.position, published.position);
    assert_eq!((fire.alert.position.origin.as_str(), closure.alert.position.origin.as_str()), (FSD, EDB));
    assert_eq!(closure.alert.causes.iter().map(|cause| &cause.id).collect::<Vec<_>>(), [&published.id]);
    assert_eq!(closure.alert.rule.as_ref().unwrap().id, fires::RULE);
    let trace = trace_id(&published.traceparent);
    assert_eq!(trace_id(&fire.alert.traceparent), trace);
    assert_eq!(trace_id(&closure.alert.traceparent), trace);
    assert!(fire.alert.time <= fire.alert.received && fire.alert.time <= closure.alert.time);
    for detail in [fire, closure] {
        for delivery in &detail.deliveries {
            assert_eq!(delivery.channel, "feed");
            assert_eq!(delivery.id, detail.alert.alert.id());
            assert!(delivery.failures.is_empty(), "{delivery:?}");
            assert!(delivery.time.unwrap() >= detail.alert.time, "{delivery:?}");
        }
    }
}

/// The command's tree: the fire above, the closure below it, each with its hand-overs.
fn told(report: &Value, published: &Published, closure: &AlertDetail, asked_for_fire: bool) {
    let roots = report["roots"].as_array().unwrap();
    assert_eq!(roots.len(), 1, "{report:#}");
    let below = roots[0]["effects"].as_array().unwrap();
    assert_eq!(below.len(), 1, "{report:#}");
    let (fire, effect) = (&roots[0], &below[0]);
    assert_eq!((fire["asked"].as_bool(), effect["asked"].as_bool()), (Some(asked_for_fire), Some(!asked_for_fire)));
    assert_eq!(fire["id"]["identifier"], *published.id.identifier());
    assert_eq!(effect["id"]["identifier"], closure.alert.alert.identifier.as_str());
    for (node, origin, event) in [(fire, FSD, "fire"), (effect, EDB, "class-suspension")] {
        let held = &node["held"];
        assert_eq!(held["event"], event, "{report:#}");
        assert_eq!(held["state"], "in-force", "{report:#}");
        assert_eq!(held["position"]["origin"], origin);
        assert!(held["position"]["seq"].as_u64().unwrap() >= 1);
        assert_eq!(trace_id(held["traceparent"].as_str().unwrap()), trace_id(&published.traceparent));
        let sealed = time(&held["time"]);
        assert!(sealed <= time(&held["received"]), "{held:#}");
        let deliveries = held["deliveries"].as_array().unwrap();
        assert!(!deliveries.is_empty(), "{report:#}");
        for delivery in deliveries {
            assert_eq!(delivery["channel"], "feed");
            assert!(time(&delivery["time"]) >= sealed, "{delivery:#}");
        }
    }
    assert!(time(&effect["held"]["time"]) >= time(&fire["held"]["time"]));
    assert!(effect["held"]["rule"].as_str().unwrap().starts_with(fires::RULE), "{report:#}");
}

fn time(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

async fn metrics(processes: &Processes) {
    let of = |member: &str| {
        let ready = processes.ready(member).unwrap();
        ready.metrics.or(ready.http).unwrap()
    };
    let fsd = read(of(FSD)).await;
    assert_eq!(fsd.sum("campanile_publish_calls_total", "outcome=\"stored\""), 1.0);
    assert_eq!(fsd.sum("campanile_publish_seconds_count", ""), 1.0);
    assert_eq!(fsd.sum("campanile_records_stored_total", "origin=\"fsd/node-1\",lane=\"urgent\""), 1.0);
    assert_eq!(fsd.sum("campanile_effects_issued_total", ""), 0.0);
    let edb = read(of(EDB)).await;
    assert_eq!(edb.sum("campanile_effects_issued_total", ""), 1.0);
    assert_eq!(edb.sum("campanile_records_stored_total", "origin=\"fsd/node-1\",lane=\"urgent\""), 1.0);
    assert!(edb.sum("campanile_records_stored_total", "origin=\"edb/node-1\",lane=\"urgent\"") >= 1.0);
    assert!(edb.sum("campanile_records_stored_total", "origin=\"isd/gateway-1\"") >= 2.0);
    assert!(edb.sum("campanile_arrival_seconds_count", "") >= 4.0);
    assert!(edb.sum("campanile_commit_seconds_count", "") >= 1.0);
    assert_eq!(edb.sum("campanile_records_not_counted_total", ""), 0.0);
    let gateway = read(of(GATEWAY)).await;
    assert_eq!(gateway.sum("campanile_notices_handed_total", "channel=\"feed\""), 2.0);
    assert_eq!(gateway.sum("campanile_gateway_alerts_total", "board=\"actual\""), 2.0);
    assert_eq!(gateway.sum("campanile_notices_failed_total", ""), 0.0);
    assert!(gateway.sum("campanile_delivery_reports_total", "") >= 2.0);
    assert!(gateway.sum("campanile_handover_seconds_count", "channel=\"feed\"") >= 2.0);
}

/// Metrics in the text format of Prometheus.
struct Scrape(String);

async fn read(at: SocketAddr) -> Scrape {
    let answer = Web::new(at).get("/metrics").await.unwrap();
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
    Scrape(text)
}

impl Scrape {
    /// The sum over the samples of that name that have those labels; a family that counted nothing is not served.
    fn sum(&self, name: &str, labels: &str) -> f64 {
        let samples = self.0.lines().filter_map(|line| {
            let (sample, value) = line.rsplit_once(' ')?;
            let (called, have) = sample.split_once('{').unwrap_or((sample, ""));
            (called == name && have.contains(labels)).then(|| value.parse::<f64>().unwrap())
        });
        samples.sum()
    }
}
