//! Making and taking connections, each within a time limit.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, ProtocolVersion};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{Error, Expect, TlsMaterial};
use crate::identity::{PeerIdentity, PeerKind};

/// How long the steps of a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For TCP.
    pub connect: Duration,
    /// For TLS.
    pub handshake: Duration,
}

impl Default for Timeouts {
    /// 3 s to connect, 5 s to shake hands.
    fn default() -> Self {
        Self { connect: Duration::from_secs(3), handshake: Duration::from_secs(5) }
    }
}

/// Takes TCP connections through the handshake. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Acceptor {
    material: TlsMaterial,
    timeouts: Timeouts,
}

impl Acceptor {
    /// Accepts with this material. Only the handshake limit applies.
    pub fn new(material: TlsMaterial, timeouts: Timeouts) -> Self {
        Self { material, timeouts }
    }

    /// Shakes hands, and says who is there.
    ///
    /// # Errors
    /// [`Error`] when the peer is refused, is a node that speaks less than TLS 1.3, or takes too long.
    pub async fn accept(&self, tcp: TcpStream) -> Result<(server::TlsStream<TcpStream>, PeerIdentity), Error> {
        // Small frames must not wait for large ones; a socket that refuses the option still works.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "Socket kept its delay");
        }
        let acceptor = TlsAcceptor::from(self.material.server_config());
        let stream = timeout(self.timeouts.handshake, acceptor.accept(tcp))
            .await
            .map_err(|_| Error::Timeout("the TLS handshake of the caller"))?
            .map_err(|e| tls_error(&e))?;
        let (_, session) = stream.get_ref();
        let peer = PeerIdentity::read(session.peer_certificates().unwrap_or_default())?;
        if peer.kind == PeerKind::Node && session.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return Err(Error::Tls("a node called with less than TLS 1.3".into()));
        }
        Ok((stream, peer))
    }
}

/// Connects to one peer: a service from `Uri`, for tonic's `Endpoint::connect_with_connector`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    timeouts: Timeouts,
}

impl Connector {
    /// Connects with this material, and only to `expect`. The certificate in place at the time of each call is used.
    ///
    /// # Errors
    /// [`Error::Tls`] when rustls refuses the configuration.
    pub fn new(material: &TlsMaterial, expect: Expect, timeouts: Timeouts) -> Result<Self, Error> {
        Ok(Self { config: material.client_config(expect)?, timeouts })
    }

    /// Connects to `host` and `port`; the host is a name, an IPv4 or an IPv6 address without brackets.
    ///
    /// # Errors
    /// [`Error`] when the address cannot be reached in time, or somebody else answers.
    pub async fn connect(&self, host: &str, port: u16) -> Result<client::TlsStream<TcpStream>, Error> {
        let address = format!("{host}:{port}");
        let refuse = |e: std::io::Error| Error::Connect { address: address.clone(), reason: e.to_string() };
        let tcp = timeout(self.timeouts.connect, TcpStream::connect((host, port)))
            .await
            .map_err(|_| Error::Timeout("the TCP connection"))?
            .map_err(refuse)?;
        tcp.set_nodelay(true).map_err(refuse)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|e| Error::Tls(e.to_string()))?;
        let connector = TlsConnector::from(self.config.clone());
        timeout(self.timeouts.handshake, connector.connect(name, tcp))
            .await
            .map_err(|_| Error::Timeout("the TLS handshake of the called"))?
            .map_err(|e| tls_error(&e))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<client::TlsStream<TcpStream>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            let port = uri.port_u16().unwrap_or(443);
            connector.connect(host, port).await.map(TokioIo::new)
        })
    }
}

/// Brings our own refusal back out of rustls's wrapping, so that the log names the certificate and the reason.
fn tls_error(error: &std::io::Error) -> Error {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other))) = inner
        && let Some(ours) = other.0.downcast_ref::<Error>()
    {
        return ours.clone();
    }
    Error::Tls(error.to_string())
}
