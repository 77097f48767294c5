//! The public pages as a stranger reads them: plain HTTP, nothing cached.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The largest answer that is taken.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

/// A web server.
#[derive(Debug, Clone, Copy)]
pub struct Web {
    address: SocketAddr,
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Web {
    /// The server at an address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Asks for a path; any status is an answer.
    ///
    /// # Errors
    /// When nothing that is HTTP comes back within 5 s.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        let ask = async {
            let mut stream = tokio::net::TcpStream::connect(self.address).await?;
            // HTTP/1.0: the answer ends with the connection and is not cut into chunks.
            let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
            stream.write_all(request.as_bytes()).await?;
            let mut bytes = Vec::new();
            stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
            Ok::<_, anyhow::Error>(bytes)
        };
        let bytes = tokio::time::timeout(Duration::from_secs(5), ask).await.context("no answer within 5 s")??;
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").context("the answer has no head")?;
        let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("the answer has no status")?;
        Ok(Answer { status, body: bytes.get(end + 4..).unwrap_or_default().to_vec() })
    }

    /// Asks for a text that must be there.
    ///
    /// # Errors
    /// When the status is not 200 or it is not UTF-8.
    pub async fn text(&self, path: &str) -> Result<String> {
        let answer = self.get(path).await?;
        ensure!(answer.status == 200, "{path} answered {}", answer.status);
        Ok(String::from_utf8(answer.body)?)
    }
}
