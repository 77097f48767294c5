//! Feeds served on loopback by a server that speaks just enough HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use campanile_alert::ManualClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::source::{PublishError, Published, Runner, StateFile, Timing};

const TABLE: &str = "source: test\nrows:\n- {when: {event-code: {value: bushFire}}, gives: {event: fire}}\n";

fn now() -> Timestamp {
    "2026-08-01T10:00:00+08:00".parse().unwrap()
}

fn alert_xml(identifier: &str, sent: &str) -> String {
    format!(
        "<alert xmlns=\"urn:oasis:names:tc:emergency:cap:1.2\"><identifier>{identifier}</identifier>\
         <sender>a@b.example</sender><sent>2026-08-01T{sent}:00+08:00</sent><status>Actual</status>\
         <msgType>Alert</msgType><scope>Public</scope><info><category>Fire</category><event>Bushfire</event>\
         <urgency>Immediate</urgency><severity>Severe</severity><certainty>Observed</certainty>\
         <eventCode><valueName>x</valueName><value>bushFire</value></eventCode>\
         <expires>2026-08-01T12:00:00+08:00</expires><area><areaDesc>here</areaDesc>\
         <circle>22.3,114.1 1</circle></area></info></alert>"
    )
}

type Pages = Arc<Mutex<BTreeMap<String, String>>>;

/// Serves pages, with `ETag: "1"` on each and 304 to who sends it back; gives its address and the requests it had.
async fn serve(pages: Pages) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = log.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut buffer = vec![0; 8192];
            let read = socket.read(&mut buffer).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&buffer[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            seen.lock().unwrap().push(path.clone());
            let page = pages.lock().unwrap().get(&path).cloned();
            let answer = match page {
                Some(_) if request.to_lowercase().contains("if-none-match: \"1\"") => {
                    "HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n".to_owned()
                }
                Some(page) if page.starts_with("http") => {
                    format!("HTTP/1.1 302 Found\r\nlocation: {page}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                }
                Some(page) => format!(
                    "HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
                    page.len()
                ),
                None => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
            };
            if socket.write_all(answer.as_bytes()).await.is_err() {
                continue;
            }
        }
    });
    (address, log)
}

fn source(url: &str) -> CapSource {
    let table = MappingTable::parse(TABLE).expect("a table");
    CapSource::new(Place::url(url, Http::try_new().unwrap()).expect("a place"), table)
}

fn names(publications: &[Publication]) -> Vec<String> {
    publications.iter().map(|publication| publication.id().identifier().to_string()).collect()
}

#[tokio::test]
async fn messages_are_published_once_in_order_with_their_bytes() {
    let (b, a) = (alert_xml("b", "09:30"), alert_xml("a", "09:00"));
    let old = alert_xml("old", "01:00").replace("T12:00:00", "T02:00:00");
    let feed = format!(
        "<feed xmlns=\"http://www.w3.org/2005/Atom\"><entry><content>{b}</content></entry>\
        <entry><content>{a}</content></entry><entry><content>{old}</content></entry></feed>"
    );
    let pages = Pages::default();
    pages.lock().unwrap().insert("/feed".into(), feed);
    let (address, log) = serve(pages.clone()).await;
    let mut source = source(&format!("{address}/feed"));
    let found = source.poll(now()).await;
    assert_eq!(names(&found), ["a", "b"], "in order of sent, without the one that had expired");
    let Publication::CapXml { bytes, source: name, .. } = &found[0] else { panic!("not CAP") };
    assert_eq!((String::from_utf8_lossy(bytes).as_ref(), name.as_str()), (a.as_str(), "test"));
    assert!(source.poll(now()).await.is_empty(), "not modified");
    assert_eq!(log.lock().unwrap().len(), 2);
    // Another feed without the messages: nothing is cancelled.
    source.state.validators = Validators::default();
    pages.lock().unwrap().insert("/feed".into(), "<feed xmlns=\"http://www.w3.org/2005/Atom\"/>".into());
    assert!(source.poll(now()).await.is_empty());
    assert!(!source.health().is_stale());
}

#[tokio::test]
async fn index_is_followed_on_its_own_server_only() {
    let pages = Pages::default();
    let (address, log) = serve(pages.clone()).await;
    let (other, other_log) = serve(pages.clone()).await;
    let entry = |url: &str| format!("<entry><link type=\"application/cap+xml\" href=\"{url}\"/></entry>");
    let feed = ["/1", "/lost", &format!("{other}/1"), "/away"].map(entry).concat();
    let feed = format!("<feed xmlns=\"http://www.w3.org/2005/Atom\">{feed}</feed>");
    pages.lock().unwrap().insert("/feed".into(), feed);
    pages.lock().unwrap().insert("/1".into(), alert_xml("one", "09:00"));
    pages.lock().unwrap().insert("/away".into(), format!("{other}/1"));
    let mut source = source(&format!("{address}/feed"));
    assert_eq!(names(&source.poll(now()).await), ["one"]);
    assert!(other_log.lock().unwrap().is_empty(), "neither a link nor a redirect leads to another server");
    pages.lock().unwrap().insert("/lost".into(), alert_xml("two", "09:10"));
    assert_eq!(names(&source.poll(now()).await), ["two"], "what did not come is asked for again");
    assert_eq!(log.lock().unwrap().iter().filter(|path| *path == "/1").count(), 1, "what came is not");
}

#[tokio::test]
async fn feed_that_cannot_be_read_is_stale_and_ends_nothing() {
    let pages = Pages::default();
    let (address, _) = serve(pages.clone()).await;
    let mut source = source(&format!("{address}/feed"));
    for page in [None, Some("<html/>"), Some("<!DOCTYPE a [<!ENTITY b 'c'>]><alert/>")] {
        if let Some(page) = page {
            pages.lock().unwrap().insert("/feed".into(), page.into());
        }
        assert!(source.poll(now()).await.is_empty());
        assert!(source.health().is_stale(), "{page:?}");
    }
    let mut gone = super::CapSource::new(Place::File("/nowhere/feed.xml".into()), source.table.clone());
    assert!(gone.poll(now()).await.is_empty() && gone.health().is_stale());
    assert!(Place::url("ftp://x/y", Http::try_new().unwrap()).is_err());
}

#[tokio::test]
async fn crash_between_acknowledgement_and_note_publishes_the_same_bytes_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (feed, state) = (folder.path().join("feed.xml"), folder.path().join("state.json"));
    std::fs::write(&feed, alert_xml("a", "09:00")).unwrap();
    let open = || {
        let table = MappingTable::parse(TABLE).unwrap();
        let timing = Timing { attempts: 2, backoff: Duration::from_millis(1), ..Timing::default() };
        Runner::open(CapSource::new(Place::File(feed.clone()), table), StateFile::at(&state), timing).unwrap()
    };
    let clock = ManualClock::new(now());
    let handed = Arc::new(Mutex::new(Vec::new()));
    let ok = |id: AlertId| Published { id, position: String::new(), duplicate: false };

    // The node is away: two attempts, and the message waits on the disk.
    let tries = handed.clone();
    let mut away = move |publication: Publication| {
        tries.lock().unwrap().push(publication);
        async { Err(PublishError::Retryable("away".into())) }
    };
    let step = open().step(&clock, &mut away).await.unwrap();
    assert_eq!((step.waiting, step.published.len()), (1, 0));
    assert_eq!(handed.lock().unwrap().len(), 2);

    // After a restart the same bytes go out, although the feed has lost them; once acknowledged, never again.
    std::fs::write(&feed, "<feed xmlns=\"http://www.w3.org/2005/Atom\"/>").unwrap();
    let tries = handed.clone();
    let mut back = move |publication: Publication| {
        let id = publication.id();
        tries.lock().unwrap().push(publication);
        async move { Ok(ok(id)) }
    };
    assert_eq!(open().step(&clock, &mut back).await.unwrap().published.len(), 1);
    let all = handed.lock().unwrap().clone();
    assert!(all.len() == 3 && all.iter().all(|publication| *publication == all[0]));
    std::fs::write(&feed, alert_xml("a", "09:00")).unwrap();
    assert!(open().step(&clock, &mut back).await.unwrap().published.is_empty());

    // A refusal for good does not wait and does not hold up what follows.
    std::fs::write(&feed, alert_xml("c", "09:40")).unwrap();
    let mut no = |_| async { Err(PublishError::Terminal("no right".into())) };
    let step = open().step(&clock, &mut no).await.unwrap();
    assert_eq!((step.refused.len(), step.waiting), (1, 0));
}

#[test]
fn shipped_table_of_nsw_rfs_reads_and_names_the_fires() {
    let text = include_str!("../../../../../deploy/sources/nsw-rfs.mapping.yaml");
    let table = MappingTable::parse(text).expect("the shipped table");
    assert_eq!(table.source(), "nsw-rfs");
    let name = "urn:oasis:names:tc:emergency:cap:1.2:profile:CAP-AU:1.0:AUeventLIST:1.0";
    for (code, event) in [("bushFire", Some("fire")), ("roadCrash", Some("road-accident")), ("other", None)] {
        let xml = alert_xml("a", "09:00").replace("<valueName>x<", &format!("<valueName>{name}<"));
        let xml = xml.replace(">bushFire<", &format!(">{code}<")).replace("a@b.example", "webmaster@rfs.nsw.gov.au");
        let document = xml::read(xml.as_bytes(), &Limits::default()).unwrap();
        let words = table.classify(document.messages[0].result.as_ref().unwrap());
        assert_eq!(words.event.as_deref(), event, "{code}");
    }
}

#[test]
fn shipped_configuration_of_hko_is_the_default() {
    let text = include_str!("../../../../../deploy/sources/hko.yaml");
    let config: crate::source::hko::Config = serde_saphyr::from_str(text).expect("the shipped configuration");
    assert_eq!(config, crate::source::hko::Config::default());
}
