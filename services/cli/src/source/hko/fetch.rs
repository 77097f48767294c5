//! Where the Observatory's snapshots come from: its open-data address, or a folder of recorded files.
//!
//! ```text
//! folder/                              folder/
//!   warnsum.en.json                      20260801T102000+0800/warnsum.en.json …
//!   warnsum.tc.json                      20260801T102100+0800/warnsum.en.json …
//!   warnsum.sc.json
//!   warningInfo.{en,tc,sc}.json
//! ```
//!
//! On the left one snapshot that another program writes over (give it a name of its own first and rename it, so that no
//! half file is read); it was taken when the oldest of its `warnsum` files was written. On the right a recording: the
//! newest snapshot that is not after the clock is read, so a clock that is stepped plays it. A file may be missing; a
//! language or a text is then unknown, which is not "no warnings".

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use campanile_alert::{AlertId, Timestamp};

use super::{Config, Hko, Language, Snapshot};
use crate::source::http::{Answer, Http, Validators};
use crate::source::{Health, Publication, Source, chain};

/// The longest file or answer.
const BYTES_MAX: usize = 1 << 20;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The most snapshots in a recording.
const SNAPSHOTS_MAX: usize = 200_000;

/// Why no snapshot could be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The folder cannot be listed.
    #[error("the folder {folder} cannot be read; check its path and its permissions")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Neither files nor snapshots in the folder.
    #[error(
        "the folder {folder} holds no warnsum.<lang>.json and no snapshot up to {now}; \
         name snapshots as 20260801T102000+0800"
    )]
    Nothing {
        /// The folder.
        folder: PathBuf,
        /// The clock.
        now: Timestamp,
    },
    /// The address is not one to ask.
    #[error("{url:?} cannot be asked; write the address up to weather.php, for example {example}")]
    Url {
        /// The address as given.
        url: String,
        /// One that works.
        example: &'static str,
    },
}

/// Where snapshots come from.
#[derive(Debug)]
pub enum Fetch {
    /// The address up to `weather.php`; `dataType` and `lang` are added.
    Url {
        /// The address.
        base: reqwest::Url,
        /// The client.
        http: Http,
    },
    /// A folder as drawn at the top of this file.
    Folder(PathBuf),
}

impl Fetch {
    /// The Observatory's own address.
    pub const HKO: &'static str = "https://data.weather.gov.hk/weatherAPI/opendata/weather.php";

    /// Asks an address.
    ///
    /// # Errors
    /// [`FetchError::Url`] when it is not an http or https address.
    pub fn url(base: &str, http: Http) -> Result<Self, FetchError> {
        let refuse = || FetchError::Url { url: base.chars().take(200).collect(), example: Self::HKO };
        let base = reqwest::Url::parse(base).map_err(|_| refuse())?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(refuse());
        }
        Ok(Self::Url { base, http })
    }

    /// Gets a snapshot. Files and answers that cannot be had or read stand in its `faults`.
    ///
    /// # Errors
    /// [`FetchError`] when the folder cannot be listed or holds nothing up to `now`.
    pub async fn snapshot(&self, now: Timestamp) -> Result<Snapshot, FetchError> {
        match self {
            Self::Url { base, http } => Ok(ask(base, http, now).await),
            Self::Folder(folder) => read_folder(folder, now),
        }
    }
}

/// The parts of a snapshot: the data type, and whether it is the list.
const PARTS: [(&str, bool); 2] = [("warnsum", true), ("warningInfo", false)];

async fn ask(base: &reqwest::Url, http: &Http, now: Timestamp) -> Snapshot {
    let mut requests = Vec::new();
    for language in Language::ALL {
        for (part, is_list) in PARTS {
            let mut url = base.clone();
            url.query_pairs_mut().append_pair("dataType", part).append_pair("lang", language.api());
            requests.push(async move {
                let answer = http.get(&url, &Validators::default(), BYTES_MAX, TIMEOUT).await;
                (language, is_list, url, answer)
            });
        }
    }
    let mut snapshot = Snapshot::new(now);
    for (language, is_list, url, answer) in futures::future::join_all(requests).await {
        match answer {
            Ok(Answer::Body { bytes, .. }) => add(&mut snapshot, language, is_list, url.as_str(), &bytes),
            Ok(Answer::NotModified) => {
                snapshot.faults.push(format!("{url} answered 304 to a request without validators"))
            }
            Err(error) => snapshot.faults.push(chain(&error)),
        }
    }
    snapshot
}

fn add(snapshot: &mut Snapshot, language: Language, is_list: bool, place: &str, bytes: &[u8]) {
    if is_list {
        snapshot.add_summary(language, place, bytes);
    } else {
        snapshot.add_details(language, place, bytes);
    }
}

fn read_folder(folder: &Path, now: Timestamp) -> Result<Snapshot, FetchError> {
    let unreadable = |source| FetchError::Folder { folder: folder.into(), source };
    let mut snapshots: BTreeMap<Timestamp, PathBuf> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)?.take(SNAPSHOTS_MAX) {
        let entry = entry.map_err(unreadable)?;
        if let Some(taken) = entry.file_name().to_str().and_then(snapshot_time) {
            snapshots.insert(taken, entry.path());
        }
    }
    if let Some((taken, path)) = snapshots.range(..=now).next_back() {
        let mut snapshot = Snapshot::new(*taken);
        read_files(path, &mut snapshot);
        return Ok(snapshot);
    }
    let mut snapshot = Snapshot::new(now);
    match read_files(folder, &mut snapshot) {
        Some(written) if snapshots.is_empty() => {
            snapshot.taken = written;
            Ok(snapshot)
        }
        _ => Err(FetchError::Nothing { folder: folder.into(), now }),
    }
}

/// The time in the name of a snapshot's folder, `20260801T102000+0800`; `None` for another name.
fn snapshot_time(name: &str) -> Option<Timestamp> {
    jiff::fmt::strtime::parse("%Y%m%dT%H%M%S%z", name).ok()?.to_timestamp().ok()
}

/// Reads the files of one snapshot; gives the time at which the oldest of its lists was written, `None` without a list.
fn read_files(folder: &Path, snapshot: &mut Snapshot) -> Option<Timestamp> {
    let mut written: Option<Timestamp> = None;
    for language in Language::ALL {
        for (part, is_list) in PARTS {
            let path = folder.join(format!("{part}.{}.json", language.api()));
            match read_file(&path) {
                Ok(None) => {}
                Ok(Some((bytes, time))) => {
                    add(snapshot, language, is_list, &path.to_string_lossy(), &bytes);
                    if is_list {
                        written = Some(written.map_or(time, |oldest| oldest.min(time)));
                    }
                }
                Err(error) => snapshot.faults.push(format!("{} cannot be read: {error}", path.display())),
            }
        }
    }
    written
}

/// The bytes of a file and when it was written; `None` when there is none.
fn read_file(path: &Path) -> std::io::Result<Option<(Vec<u8>, Timestamp)>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let written = Timestamp::try_from(file.metadata()?.modified()?).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut bytes = Vec::new();
    // One byte beyond the limit tells a file at the limit from one over it.
    file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > BYTES_MAX {
        return Err(std::io::Error::other("it is longer than 1 MiB; check that it is the right file"));
    }
    Ok(Some((bytes, written)))
}

/// The Observatory as a [`Source`].
#[derive(Debug)]
pub struct HkoSource {
    config: Config,
    fetch: Fetch,
    hko: Hko,
}

impl HkoSource {
    /// Joins where snapshots come from and how they become alerts; nothing is known yet.
    pub fn new(config: Config, fetch: Fetch) -> Self {
        Self { config, fetch, hko: Hko::default() }
    }
}

impl Source for HkoSource {
    type State = Hko;

    fn name(&self) -> &str {
        "hko"
    }

    async fn poll(&mut self, now: Timestamp) -> Vec<Publication> {
        match self.fetch.snapshot(now).await {
            Ok(snapshot) => {
                let alerts = self.hko.poll(&self.config, &snapshot, now);
                alerts.into_iter().map(|alert| Publication::Alert(Box::new(alert))).collect()
            }
            Err(error) => {
                self.hko.failed(&chain(&error), now);
                Vec::new()
            }
        }
    }

    fn refused(&mut self, id: &AlertId) {
        self.hko.refused(id);
    }

    fn state(&self) -> &Hko {
        &self.hko
    }

    fn restore(&mut self, state: Hko) {
        self.hko = state;
    }

    fn health(&self) -> &Health {
        self.hko.health()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[tokio::test]
    async fn recording_is_played_by_the_clock() {
        let folder = tempfile::tempdir().unwrap();
        for (name, code) in [("20260801T102000+0800", "WRAINA"), ("20260801T104000+0800", "WRAINR")] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            let json = format!(r#"{{"WRAIN":{{"code":"{code}"}}}}"#);
            std::fs::write(folder.path().join(name).join("warnsum.tc.json"), json).unwrap();
        }
        let fetch = Fetch::Folder(folder.path().into());
        for (now, taken, code) in [
            ("2026-08-01T10:39:59+08:00", "2026-08-01T10:20:00+08:00", "WRAINA"),
            ("2026-08-01T10:40:00+08:00", "2026-08-01T10:40:00+08:00", "WRAINR"),
        ] {
            let snapshot = fetch.snapshot(at(now)).await.expect(now);
            assert_eq!(snapshot.taken, at(taken));
            assert_eq!(snapshot.languages[&Language::ZhHant].summary.as_ref().unwrap()["WRAIN"].code, code);
        }
        let error = fetch.snapshot(at("2026-08-01T10:19:59+08:00")).await.expect_err("before the recording");
        assert!(error.to_string().contains("holds no warnsum"), "{error}");
    }

    #[tokio::test]
    async fn flat_folder_was_taken_when_its_oldest_list_was_written() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["warnsum.en.json", "warnsum.tc.json", "warningInfo.en.json"] {
            std::fs::write(folder.path().join(name), "{}").unwrap();
        }
        let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000);
        let file = std::fs::File::options().write(true).open(folder.path().join("warnsum.tc.json")).unwrap();
        file.set_modified(old).unwrap();
        let snapshot = Fetch::Folder(folder.path().into()).snapshot(at("2026-11-22T00:00:00Z")).await.unwrap();
        assert_eq!(snapshot.taken, Timestamp::try_from(old).unwrap());
        assert!(snapshot.has_summary() && snapshot.has_details());
    }

    #[tokio::test]
    async fn file_beyond_the_limit_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("warnsum.en.json"), vec![b' '; BYTES_MAX + 1]).unwrap();
        std::fs::write(folder.path().join("warnsum.tc.json"), "{}").unwrap();
        let snapshot = Fetch::Folder(folder.path().into()).snapshot(at("2026-11-22T00:00:00Z")).await.unwrap();
        assert!(snapshot.faults[0].contains("longer than 1 MiB"), "{:?}", snapshot.faults);
        let missing = Fetch::Folder(folder.path().join("none")).snapshot(at("2026-11-22T00:00:00Z")).await;
        assert!(missing.expect_err("no folder").to_string().contains("check its path"));
    }
}
