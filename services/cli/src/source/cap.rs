//! A feed of CAP messages as a source: Atom, RSS, EDXL-DE or one message, at an address or in a file.
//!
//! A message is published once, with its bytes untouched; its event is found by the mapping table of the source, whose
//! name goes with it. A feed that is only an index is followed, on its own server and nowhere else, a bounded number of
//! documents at a time. A message that has left the feed is not cancelled: only a Cancel in the feed does that.

mod links;
mod memory;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use campanile_alert::classify::MappingTable;
use campanile_alert::xml::{self, Limits};
use campanile_alert::{AlertId, MessageType, Timestamp};
use futures::StreamExt as _;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use super::http::{Answer, Http, Validators, same_server};
use super::{Health, Publication, Source};
use links::{Link, links};
use memory::Memory;

/// The most linked documents fetched in one poll; the rest follow in the next.
const DOCUMENTS_MAX: usize = 64;
/// How many linked documents are fetched at once.
const AT_ONCE: usize = 4;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Why a feed was refused at the start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an address.
    #[error("{0:?} is not an http or https address; write the whole address of the feed")]
    Url(String),
}

/// Where a feed is.
#[derive(Debug)]
pub enum Place {
    /// At an address.
    Url {
        /// The address.
        url: Url,
        /// The client.
        http: Http,
    },
    /// In a file, which another program writes over. Links are not followed from a file.
    File(PathBuf),
}

impl Place {
    /// A feed at an address.
    ///
    /// # Errors
    /// [`Error::Url`] when it is not an http or https address.
    pub fn url(url: &str, http: Http) -> Result<Self, Error> {
        let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = parsed.ok_or_else(|| Error::Url(url.chars().take(200).collect()))?;
        Ok(Self::Url { url, http })
    }
}

/// What a feed source remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CapState {
    validators: Validators,
    seen: Memory,
    documents: Memory,
    #[serde(default)]
    health: Health,
}

/// A feed as a [`Source`].
#[derive(Debug)]
pub struct CapSource {
    place: Place,
    table: MappingTable,
    limits: Limits,
    state: CapState,
}

impl CapSource {
    /// Joins a place and the mapping table of its source; nothing is seen yet.
    pub fn new(place: Place, table: MappingTable) -> Self {
        Self { place, table, limits: Limits::default(), state: CapState::default() }
    }

    /// Reads the feed; `None` when it has not changed, `Err` is the reason why the source is stale.
    async fn fetch(&self) -> Result<Option<(Vec<u8>, Validators)>, String> {
        let bytes_max = self.limits.feed_bytes_max;
        match &self.place {
            Place::Url { url, http } => match http.get(url, &self.state.validators, bytes_max, TIMEOUT).await {
                Ok(Answer::NotModified) => Ok(None),
                Ok(Answer::Body { bytes, validators }) => Ok(Some((bytes, validators))),
                Err(error) => Err(sentence(&error)),
            },
            Place::File(path) => {
                let size = std::fs::metadata(path).map(|data| data.len());
                if size.is_ok_and(|size| size > bytes_max as u64) {
                    return Err(format!("{} is longer than {bytes_max} bytes; check the file", path.display()));
                }
                let unreadable = |error| format!("{} cannot be read, check the path: {error}", path.display());
                std::fs::read(path).map(|bytes| Some((bytes, Validators::default()))).map_err(unreadable)
            }
        }
    }

    /// The messages of one document that are new and can be published, in order of `sent`.
    fn take(&mut self, document: &xml::Document, now: Timestamp) -> Vec<Publication> {
        let name = self.table.source().to_owned();
        let mut found = Vec::new();
        for message in &document.messages {
            let alert = match &message.result {
                Ok(alert) => alert,
                Err(faults) => {
                    // A message without an identity is named by its bytes, so that it is told once and not at each poll.
                    if self.state.seen.add(&String::from_utf8_lossy(&message.original)) {
                        let fault = faults.first().map(ToString::to_string).unwrap_or_default();
                        warn!(source = %name, faults = faults.len(), %fault, "Message of the feed is not CAP; left out");
                    }
                    continue;
                }
            };
            let id = alert.id();
            if !self.state.seen.add(&id.to_string()) {
                continue;
            }
            let lives = matches!(alert.msg_type, MessageType::Alert | MessageType::Update);
            if lives && alert.expires().is_some_and(|end| end <= now) {
                info!(source = %name, alert_id = %id, "Message of the feed had expired when first seen; left out");
                continue;
            }
            if lives && self.table.classify(alert).is_unclassified() {
                warn!(source = %name, alert_id = %id, "Message of the feed is unclassified; see its mapping table");
            }
            // Cut out of an envelope that declares its namespaces, or in another encoding, the bytes mean nothing by
            // themselves; the same tree is written anew then.
            let bytes = if message.stands_alone { message.original.clone() } else { xml::write(alert).into_bytes() };
            found.push((alert.sent.instant(), Publication::CapXml { id, bytes, source: name.clone() }));
        }
        found.sort_by_key(|(sent, _)| *sent);
        found.into_iter().map(|(_, publication)| publication).collect()
    }

    /// Follows the links of an index. The flag is true when every one of them has been read.
    async fn follow(&mut self, index: &[u8], now: Timestamp) -> Result<(Vec<Publication>, bool), String> {
        let Place::Url { url, http } = &self.place else {
            return Err("the file is an index only, and links are not followed from a file; give its address".into());
        };
        let name = self.table.source().to_owned();
        let mut wanted: Vec<Link> = Vec::new();
        for link in links(index, url)? {
            if !same_server(&link.url, url) {
                debug!(source = %name, url = %link.url, "Link to another server is not followed");
            } else if !self.state.documents.has(&link.key) {
                wanted.push(link);
            }
        }
        let mut whole = wanted.len() <= DOCUMENTS_MAX;
        wanted.truncate(DOCUMENTS_MAX);
        let bytes_max = self.limits.message_bytes_max;
        let none = Validators::default();
        let asked: Vec<_> = wanted.iter().map(|link| http.get(&link.url, &none, bytes_max, TIMEOUT)).collect();
        let answers: Vec<_> = futures::stream::iter(asked).buffered(AT_ONCE).collect().await;
        let mut found = Vec::new();
        for (link, answer) in wanted.iter().zip(answers) {
            let read = match answer {
                Ok(Answer::Body { bytes, .. }) => xml::read(&bytes, &self.limits).map_err(|error| error.to_string()),
                Ok(Answer::NotModified) => Err("it answered 304 to a request without validators".into()),
                Err(error) => {
                    whole = false;
                    warn!(source = %name, reason = %sentence(&error), "Linked document did not come; asked again later");
                    continue;
                }
            };
            // What came and cannot be read will not be readable next time either.
            self.state.documents.add(&link.key);
            match read {
                Ok(document) => found.extend(self.take(&document, now)),
                Err(reason) => warn!(source = %name, url = %link.url, %reason, "Linked document is not CAP; left out"),
            }
        }
        Ok((found, whole))
    }

    async fn ask(&mut self, now: Timestamp) -> Result<Vec<Publication>, String> {
        let Some((bytes, validators)) = self.fetch().await? else { return Ok(Vec::new()) };
        let document = xml::read(&bytes, &self.limits).map_err(|error| format!("the feed cannot be read: {error}"))?;
        let mut found = self.take(&document, now);
        let mut whole = true;
        if document.messages.is_empty() && document.entries > 0 {
            let (linked, all) = self.follow(&bytes, now).await?;
            found.extend(linked);
            whole = all;
        }
        // "Not modified" may only be asked for when nothing of this answer is left to fetch.
        self.state.validators = if whole { validators } else { Validators::default() };
        Ok(found)
    }
}

fn sentence(error: &dyn std::error::Error) -> String {
    super::chain(error)
}

impl Source for CapSource {
    type State = CapState;

    fn name(&self) -> &str {
        self.table.source()
    }

    async fn poll(&mut self, now: Timestamp) -> Vec<Publication> {
        match self.ask(now).await {
            Ok(found) => {
                self.state.health.fresh(self.table.source(), now);
                found
            }
            Err(reason) => {
                self.state.health.stale(self.table.source(), &reason, now);
                Vec::new()
            }
        }
    }

    /// A foreign message that the bus refuses stays refused: its bytes are not ours to change.
    fn refused(&mut self, _id: &AlertId) {}

    fn state(&self) -> &CapState {
        &self.state
    }

    fn restore(&mut self, state: CapState) {
        self.state = state;
    }

    fn health(&self) -> &Health {
        &self.state.health
    }
}
