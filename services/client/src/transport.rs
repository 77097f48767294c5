//! The one connection of a client: mutual TLS, HTTP/2 with pings, and nobody else at the other end than expected.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use campanile_alert::Clock;
use campanile_discovery::{Connector, Expect, PeerIdentity, tls};
use hyper_util::rt::TokioIo;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, transport};

use crate::options::{Credentials, Options, Roots};
use crate::{Error, Retry};

/// Opens the connection. Later it is opened again by itself when a call finds it broken.
pub(crate) async fn connect(options: &Options) -> Result<Channel, Error> {
    let endpoint = endpoint(options)?;
    let channel = match &options.credentials {
        Credentials::Roster(material) => {
            let limits = tls::Timeouts { connect: options.timeouts.connect, handshake: options.timeouts.connect };
            let connector =
                Connector::new(material, options.expect.clone(), limits).map_err(|e| Error::options(e.to_string()))?;
            endpoint.connect_with_connector(connector).await
        }
        Credentials::Roots(roots) => {
            let connector = RootsConnector::new(roots, options.expect.clone())?;
            endpoint.connect_with_connector(connector).await
        }
    };
    channel.map_err(|e| refused(&options.endpoint, &e))
}

fn endpoint(options: &Options) -> Result<Endpoint, Error> {
    let host = options.endpoint.strip_prefix("https://").unwrap_or(&options.endpoint);
    let wrong = || Error::options(format!("{host:?} is no endpoint; write host:port, for example localhost:7443"));
    // The connector does TLS. Under `https` tonic refuses any other TLS than its own, when that is compiled in.
    let uri: Uri = format!("http://{host}").parse().map_err(|_| wrong())?;
    if uri.host().is_none_or(str::is_empty) || uri.port_u16().is_none() {
        return Err(wrong());
    }
    let limits = &options.timeouts;
    Ok(Endpoint::from(uri)
        .connect_timeout(limits.connect)
        .http2_keep_alive_interval(limits.ping)
        .keep_alive_timeout(limits.pong)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

/// No connection: nothing was asked, so nothing was done. A refused certificate will be refused again.
fn refused(endpoint: &str, error: &transport::Error) -> Error {
    let mut text = format!("no connection to {endpoint}");
    let mut retry = Retry::Retryable;
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    // The chain is short; the bound is against one that points at itself.
    for _ in 0..8 {
        let Some(error) = source else { break };
        let part = error.to_string();
        if !part.is_empty() && !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        match error.downcast_ref::<tls::Error>() {
            None | Some(tls::Error::Connect { .. } | tls::Error::Timeout(_)) => {}
            Some(_) => retry = Retry::Terminal,
        }
        source = error.source();
    }
    Error::new(Code::Unavailable, retry, text)
}

/// Connects by the CAs of one department, and asks the certificate who it is.
#[derive(Clone)]
struct RootsConnector {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    expect: Expect,
}

impl RootsConnector {
    fn new(roots: &Roots, expect: Expect) -> Result<Self, Error> {
        let chain = certificates(&roots.chain_pem, "the client's certificate chain")?;
        let key = PrivateKeyDer::from_pem_slice(&roots.key_pem)
            .map_err(|_| Error::options("the client's key is not one in PEM; give the PKCS#8 file"))?;
        let mut store = RootCertStore::empty();
        for root in certificates(&roots.roots_pem, "the list of CAs")? {
            store.add(root).map_err(|e| Error::options(format!("a CA in the list cannot be used: {e}")))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let time = Arc::new(ClockTime(roots.clock.clone()));
        let mut config = ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| Error::options(e.to_string()))?
            .with_root_certificates(store)
            .with_client_auth_cert(chain, key)
            .map_err(|e| Error::options(format!("the client's certificate and key do not go together: {e}")))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = roots.server_name.clone().map(ServerName::try_from).transpose();
        let server_name = name.map_err(|e| Error::options(format!("the server name cannot be used: {e}")))?;
        Ok(Self { config: Arc::new(config), server_name, expect })
    }

    async fn open(self, uri: Uri) -> Result<TokioIo<TlsStream<TcpStream>>, tls::Error> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(443);
        let refuse =
            |e: std::io::Error| tls::Error::Connect { address: format!("{host}:{port}"), reason: e.to_string() };
        let tcp = TcpStream::connect((host, port)).await.map_err(refuse)?;
        tcp.set_nodelay(true).map_err(refuse)?;
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(|e| tls::Error::Tls(e.to_string()))?,
        };
        let connecting = TlsConnector::from(self.config.clone()).connect(name, tcp).await;
        let stream = connecting.map_err(|e| tls::Error::Tls(e.to_string()))?;
        let peer = PeerIdentity::read(stream.get_ref().1.peer_certificates().unwrap_or_default())?;
        let expected = match &self.expect {
            Expect::Origin(origin) => peer.origin().as_ref() == Some(origin),
            Expect::Department(department) => peer.origin().is_some_and(|origin| origin.department() == department),
        };
        if !expected {
            return Err(tls::Error::Tls(format!("{} answered, not {:?}", peer.spiffe(), self.expect)));
        }
        Ok(TokioIo::new(stream))
    }
}

impl tower::Service<Uri> for RootsConnector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = tls::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // The whole, TLS included, stands under the endpoint's connect timeout.
        Box::pin(self.clone().open(uri))
    }
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err(Error::options(format!("{what} holds no certificate in PEM"))),
    }
}

#[derive(Debug)]
struct ClockTime(Arc<dyn Clock>);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}
