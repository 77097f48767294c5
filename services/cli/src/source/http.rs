//! Asking an address: with a deadline, a limit of size, and no way to another server.

use std::time::Duration;

use reqwest::header::{ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};

/// The most redirects that are followed.
const REDIRECTS_MAX: usize = 3;
/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an address gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client could not be made.
    #[error("the HTTP client could not be made; check the system's certificates")]
    Client(#[source] reqwest::Error),
    /// No answer.
    #[error("{url} did not answer; check the address and the network")]
    NoAnswer {
        /// The address.
        url: String,
        /// What went wrong.
        #[source]
        source: reqwest::Error,
    },
    /// An answer that is not 200 or 304.
    #[error("{url} answered {status}; check the address")]
    Status {
        /// The address.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// More bytes than allowed.
    #[error("{url} answered with more than {bytes_max} bytes; check that it is the right address")]
    TooLarge {
        /// The address.
        url: String,
        /// The limit.
        bytes_max: usize,
    },
}

/// What an address said the last time, so that it may answer "not modified".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub enum Answer {
    /// 200 with a body.
    Body {
        /// The bytes.
        bytes: Vec<u8>,
        /// For the next time.
        validators: Validators,
    },
    /// 304.
    NotModified,
}

/// A client for addresses outside.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
}

impl Http {
    /// Makes a client that trusts the system's certificates.
    ///
    /// # Errors
    /// [`Error::Client`] when the system's certificates cannot be used.
    pub fn try_new() -> Result<Self, Error> {
        // The programs use ring throughout; when one is already chosen for the process, it stays.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            rustls::crypto::ring::default_provider().install_default().unwrap_or_default();
        }
        let redirects = reqwest::redirect::Policy::custom(|attempt| {
            let first = attempt.previous().first().cloned();
            if attempt.previous().len() <= REDIRECTS_MAX && first.is_some_and(|url| same_server(&url, attempt.url())) {
                attempt.follow()
            } else {
                attempt.stop()
            }
        });
        let client = reqwest::Client::builder()
            .redirect(redirects)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("campanile/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(Error::Client)?;
        Ok(Self { client })
    }

    /// Asks an address for at most `bytes_max` bytes within `timeout`.
    ///
    /// # Errors
    /// [`Error`] when there is no answer in time, another status than 200 or 304, or too long a body. A redirect to
    /// another server or scheme is not followed and counts as its own status.
    pub async fn get(
        &self,
        url: &Url,
        validators: &Validators,
        bytes_max: usize,
        timeout: Duration,
    ) -> Result<Answer, Error> {
        let no_answer = |source: reqwest::Error| Error::NoAnswer { url: url.to_string(), source: source.without_url() };
        let mut request = self.client.get(url.clone()).timeout(timeout);
        if let Some(etag) = &validators.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(time) = &validators.last_modified {
            request = request.header(IF_MODIFIED_SINCE, time);
        }
        let mut response = request.send().await.map_err(no_answer)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED => return Ok(Answer::NotModified),
            status => return Err(Error::Status { url: url.to_string(), status }),
        }
        let validators = Validators {
            etag: header(response.headers(), ETAG.as_str()),
            last_modified: header(response.headers(), LAST_MODIFIED.as_str()),
        };
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
            if bytes.len() + chunk.len() > bytes_max {
                return Err(Error::TooLarge { url: url.to_string(), bytes_max });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Answer::Body { bytes, validators })
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    // A validator is sent back as it came; an endless one is not worth keeping.
    headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| text.len() <= 256).map(String::from)
}

/// Whether two addresses are of one server: the same scheme, host and port.
pub(crate) fn same_server(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host_str() == b.host_str() && a.port_or_known_default() == b.port_or_known_default()
}
