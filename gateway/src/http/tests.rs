//! What a reader sees, over real HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use campanile_log::Hash;
use futures::StreamExt as _;
use reqwest::{Client, Response, StatusCode, header};

use crate::config::{Config, ExercisesConfig};
use crate::member::Member;
use crate::server::Server;
use crate::testing::{ESTATES, InMemory, at, cancel, exercise_fire, fire, wait_for};

struct Site {
    member: Arc<InMemory>,
    server: Server,
    client: Client,
    _directory: tempfile::TempDir,
}

impl Site {
    async fn open() -> Self {
        // A second test may have set it already.
        let _set = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().expect("a directory");
        let estates = directory.path().join("estates.json");
        std::fs::write(&estates, ESTATES).expect("a file");
        let any = "127.0.0.1:0".parse().expect("an address");
        let mut config = Config::new(any, Some(estates));
        config.exercises = Some(ExercisesConfig { http: any, ids: vec!["hv26".parse().expect("an id")] });
        let member = InMemory::new();
        let server = Server::bind_on(config, member.clone()).await.expect("a server");
        let client = Client::builder().no_proxy().build().expect("a client");
        Self { member, server, client, _directory: directory }
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.server.public_url())).send().await.expect("an answer")
    }

    async fn text(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.text().await.expect("text")
    }

    async fn shows(&self, what: &str) {
        wait_for(what, || async { self.text("/alerts.json").await.contains(what) }).await;
    }
}

#[tokio::test]
async fn the_atom_feed_is_well_formed_in_each_language_and_leads_to_cap_that_reads_back() {
    let site = Site::open().await;
    let first = site.member.arrive(fire("f1"));
    site.shows("\"f1\"").await;
    for (tag, title) in [("en", "No. 3 alarm fire in Tai Po"), ("zh-Hant", "大埔三級火警"), ("zh-Hans", "大埔三級火警")]
    {
        let xml = site.text(&format!("/feed/{tag}/atom.xml")).await;
        let document = roxmltree::Document::parse(&xml).expect("well-formed XML");
        let atom = "http://www.w3.org/2005/Atom";
        let find = |node: roxmltree::Node<'_, '_>, name: &'static str| {
            node.children()
                .find(|child| child.has_tag_name((atom, name)))
                .map(|child| child.text().unwrap_or("").to_owned())
        };
        let root = document.root_element();
        assert!(root.has_tag_name((atom, "feed")) && find(root, "id").is_some() && find(root, "updated").is_some());
        let entry = root.children().find(|child| child.has_tag_name((atom, "entry"))).expect("an entry");
        assert_eq!(find(entry, "title").as_deref(), Some(title));
        assert_eq!(find(entry, "id"), Some(format!("urn:campanile:record:{}", first.record)));
        assert_eq!(find(entry, "updated").as_deref(), Some("2026-11-22T00:00:01Z"));
        assert!(find(entry, "summary").expect("a summary").contains('&'), "the sender's text, unescaped once");
        let circle = entry.children().find(|child| child.has_tag_name("circle")).and_then(|child| child.text());
        assert_eq!(circle, Some("22.4501 114.1702 100"));
        let link = entry
            .children()
            .find(|child| child.has_tag_name((atom, "link")) && child.attribute("type") == Some("application/cap+xml"));
        let cap = link.and_then(|link| link.attribute("href")).expect("a link to CAP").to_owned();
        let bytes = site.client.get(cap).send().await.expect("an answer").bytes().await.expect("bytes");
        let read = campanile_alert::xml::read(&bytes, &campanile_alert::xml::Limits::default()).expect("CAP");
        let alert = read.messages.first().expect("a message").result.as_ref().expect("valid CAP");
        assert_eq!(alert, &*first.alert, "every element came through");
    }
    assert_eq!(site.get("/feed/fr/atom.xml").await.status(), StatusCode::NOT_FOUND);
    site.server.shutdown().await;
}

#[tokio::test]
async fn an_imported_message_is_served_byte_for_byte() {
    let site = Site::open().await;
    let bytes = b"<alert>as it came</alert>".to_vec();
    let original = Some((bytes.clone().into(), "application/cap+xml".to_owned()));
    let first = site.member.arrive(crate::incoming::Incoming { original, ..fire("f1") });
    site.shows("\"f1\"").await;
    assert_eq!(site.text(&format!("/cap/{}.xml", first.record)).await.into_bytes(), bytes);
    site.server.shutdown().await;
}

#[tokio::test]
async fn json_names_causes_position_and_record_and_an_unknown_hash_is_not_found() {
    let site = Site::open().await;
    let first = site.member.arrive(fire("f1"));
    site.shows("\"f1\"").await;
    let list: serde_json::Value = serde_json::from_str(&site.text("/alerts.json").await).expect("JSON");
    let alert = &list["alerts"][0];
    assert_eq!(alert["state"], "in-force");
    assert_eq!(alert["position"]["origin"], "fsd/node-1");
    assert_eq!(alert["causes"][0]["identifier"], "cause");
    assert_eq!(alert["areas"][0]["circles"][0], "22.4501,114.1702 0.1");
    let record = site.text(alert["recordUrl"].as_str().expect("a path")).await;
    assert_eq!(record, "a record");
    assert!(site.text(&format!("/alerts/{}.json", first.record)).await.contains("in-force"));
    let other = Hash::of(b"another");
    for path in [format!("/records/{other}"), format!("/cap/{other}.xml"), "/cap/x.xml".into(), "/alerts/..%2f".into()]
    {
        assert_eq!(site.get(&path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    site.server.shutdown().await;
}

#[tokio::test]
async fn an_unchanged_feed_is_answered_with_304_and_a_changed_one_is_not() {
    let site = Site::open().await;
    site.member.arrive(fire("f1"));
    site.shows("\"f1\"").await;
    for path in ["/", "/feed/en/atom.xml", "/alerts.json"] {
        let url = format!("{}{path}", site.server.public_url());
        let first = site.get(path).await;
        let etag = first.headers()[header::ETAG].clone();
        assert!(first.headers()[header::CACHE_CONTROL].to_str().expect("text").starts_with("public, max-age="));
        let ask = || site.client.get(&url).header(header::IF_NONE_MATCH, &etag).send();
        assert_eq!(ask().await.expect("an answer").status(), StatusCode::NOT_MODIFIED, "{path}");
        let head = site.client.head(&url).send().await.expect("an answer");
        assert_eq!((head.status(), &head.headers()[header::ETAG]), (StatusCode::OK, &etag));
        assert!(head.bytes().await.expect("bytes").is_empty());
    }
    let etag = site.get("/alerts.json").await.headers()[header::ETAG].clone();
    site.member.arrive(fire("f2"));
    site.shows("\"f2\"").await;
    let url = format!("{}/alerts.json", site.server.public_url());
    let answer = site.client.get(url).header(header::IF_NONE_MATCH, etag).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_cancel_is_shown_for_an_hour_and_an_expired_alert_is_gone_at_once() {
    let site = Site::open().await;
    let first = site.member.arrive(fire("f1"));
    site.member.arrive(fire("f2"));
    site.shows("\"f2\"").await;
    let stop = site.member.arrive(cancel("c1", &first));
    site.shows("\"cancelled\"").await;
    let atom = site.text("/feed/zh-Hant/atom.xml").await;
    assert!(atom.contains("已取消：大埔三級火警") && atom.contains(&format!("/cap/{}.xml", stop.record)));
    assert!(site.text("/").await.contains("Ended in the last hour"));
    site.member.clock.set(at("2026-11-22T12:00:00+08:00"));
    let list = site.text("/alerts.json").await;
    assert!(!list.contains("\"f2\"") && !list.contains("\"c1\""), "{list}");
    assert!(site.text("/").await.contains("No alert is in force"));
    site.server.shutdown().await;
}

async fn next_event(stream: &mut (impl futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin)) -> String {
    let next = tokio::time::timeout(std::time::Duration::from_secs(5), stream.next());
    let chunk = next.await.expect("an event in time").expect("an open stream").expect("bytes");
    String::from_utf8(chunk.to_vec()).expect("text")
}

#[tokio::test]
async fn events_resume_after_the_last_id() {
    let site = Site::open().await;
    let url = format!("{}/events", site.server.public_url());
    let mut stream = site.client.get(&url).send().await.expect("an answer").bytes_stream();
    assert!(next_event(&mut stream).await.contains("event: snapshot"));
    site.member.arrive(fire("f1"));
    let event = next_event(&mut stream).await;
    assert!(event.contains("event: alert") && event.contains("\"f1\""), "{event}");
    let id = event.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    drop(stream);
    site.member.arrive(fire("f2"));
    site.shows("\"f2\"").await;
    let again = site.client.get(&url).header("last-event-id", id).send().await.expect("an answer");
    let event = next_event(&mut again.bytes_stream()).await;
    assert!(event.contains("\"f2\"") && !event.contains("snapshot") && !event.contains("\"f1\""), "{event}");
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_screen_shows_its_blocks_alerts_and_no_others() {
    let site = Site::open().await;
    site.member.arrive(fire("f1"));
    let path = "/screen/tai-po-estate/block-1";
    wait_for("the screen", || async { site.text(&format!("{path}/state.json")).await.contains("大埔三級火警") }).await;
    let page = site.text(path).await;
    assert!(page.contains("大埔邨 一座") && page.contains("Block 1, Tai Po Estate"));
    // Only the page's own two script elements: a sender's markup stays text.
    assert_eq!(page.matches("<script").count(), 2);
    assert!(!page.contains("<b>now</b>"), "a sender's markup stands in the page");
    assert!(!page.contains("http://") && !page.contains("https://"), "the page fetches from elsewhere");
    assert!(!site.text("/screen/far-estate/block-1/state.json").await.contains("火警"));
    assert_eq!(site.get("/screen/tai-po-estate/block-9").await.status(), StatusCode::NOT_FOUND);
    let url = format!("{}{path}/events", site.server.public_url());
    let event = next_event(&mut site.client.get(url).send().await.expect("an answer").bytes_stream()).await;
    assert!(event.contains("event: state") && event.contains("\"f1\""));
    site.server.shutdown().await;
}

#[tokio::test]
async fn t3_nothing_of_a_drill_is_on_the_public_address() {
    let site = Site::open().await;
    let drill = site.member.arrive(exercise_fire("secret-drill"));
    site.member.arrive(fire("f1"));
    site.shows("\"f1\"").await;
    for path in ["/", "/alerts.json", "/feed/en/atom.xml", "/feed/zh-Hant/atom.xml", "/feed/zh-Hans/atom.xml"] {
        let text = site.text(path).await;
        assert!(!text.contains("secret-drill") && !text.contains(&drill.record.to_string()), "{path}");
    }
    let screen = site.text("/screen/tai-po-estate/block-1/state.json").await;
    assert!(!screen.contains("secret-drill"));
    for path in ["/cap/R.xml", "/alerts/R.json", "/records/R", "/exercise/hv26/alerts.json"] {
        let path = path.replace('R', &drill.record.to_string());
        assert_eq!(site.get(&path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let sink = site.server.addresses().exercises.expect("an address");
    let read = |id: &str| site.client.get(format!("http://{sink}/exercise/{id}/alerts.json")).send();
    let text = read("hv26").await.expect("an answer").text().await.expect("text");
    assert!(
        text.contains("EXERCISE EXERCISE EXERCISE No. 3 alarm fire") && text.contains("演習 演習 演習 大埔三級火警")
    );
    assert_eq!(read("other").await.expect("an answer").status(), StatusCode::NOT_FOUND);
    site.server.shutdown().await;
}

#[tokio::test]
async fn metrics_and_health_answer() {
    let site = Site::open().await;
    site.member.arrive(fire("f1"));
    site.shows("\"f1\"").await;
    assert_eq!(site.text("/healthz").await, "ok\n");
    let metrics = site.text("/metrics").await;
    assert!(metrics.contains("campanile_notices_handed_total{channel=\"feed\"} 1"), "{metrics}");
    assert!(site.member.origin().to_string().starts_with("isd/"));
    site.server.shutdown().await;
}
