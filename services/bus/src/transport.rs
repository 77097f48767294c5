//! The one place that knows how nodes are connected: our own acceptor in front of tonic, and one channel a peer.
//!
//! tonic's own TLS has no reload and no trust by department, and its balanced channel may keep calling a dead endpoint;
//! so connections are accepted and made here, with [`campanile_discovery::tls`], and tonic sees plain byte streams. A
//! channel has HTTP/2 keep-alive on: without it, a partition leaves the stream open and silent for ever.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use campanile_alert::OriginId;
use campanile_discovery::identity::PeerIdentity;
use campanile_discovery::tls::{Acceptor, Connector, Expect, Timeouts, TlsMaterial};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};
use tracing::{debug, warn};

use crate::metrics::Metrics;

/// How many connections a node has open at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1_024;
/// How many handshakes run at once.
const HANDSHAKES_MAX: usize = 64;
/// How many of them may come from one address; for IPv6, from one network of 64 bits.
const HANDSHAKES_OF_ADDRESS_MAX: usize = 16;
/// The window of one stream: how much a peer may send unread.
const STREAM_WINDOW: u32 = 1 << 20;
/// The window of a connection: above the credit of its streams together, so that no lane starves another.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// How many judgements of open connections are kept; beyond it they are made anew.
const STANDINGS_MAX: usize = 4_096;
/// The largest message in either direction: a record and what stands around it.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// Who is at the other end of a connection, for the handlers of its calls.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// The identity of its certificate.
    pub identity: Arc<PeerIdentity>,
    /// Its address.
    pub address: SocketAddr,
}

/// An accepted connection.
#[derive(Debug)]
pub struct PeerStream {
    tls: tokio_rustls::server::TlsStream<TcpStream>,
    peer: PeerInfo,
    _permit: OwnedSemaphorePermit,
}

impl Connected for PeerStream {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    /// Without it HTTP/2 sends a frame in two pieces, each with a TLS record and a packet of its own.
    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

/// Judges peers of open connections again: TLS looks at a certificate only when the connection is made.
///
/// The end of the certificate is looked at on every call; chain, CA and revocation once for each roster, since that is
/// when they can change.
#[derive(Debug)]
pub struct Standing {
    material: TlsMaterial,
    /// By fingerprint, the roster under which the certificate was last found good.
    good: Mutex<HashMap<[u8; 32], u64>>,
}

impl Standing {
    /// Nothing judged yet.
    pub fn new(material: TlsMaterial) -> Self {
        Self { material, good: Mutex::default() }
    }

    /// Judges a peer by the clock and the roster in force.
    ///
    /// # Errors
    /// When a handshake would be refused now.
    pub fn check(&self, peer: &PeerIdentity) -> Result<(), campanile_discovery::tls::Error> {
        let roster = self.material.roster().current().number;
        let in_time = self.material.clock().now() < peer.not_after;
        if in_time && self.good.lock().get(&peer.fingerprint) == Some(&roster) {
            return Ok(());
        }
        self.material.still_good(peer)?;
        let mut good = self.good.lock();
        if good.len() >= STANDINGS_MAX {
            good.clear();
        }
        good.insert(peer.fingerprint, roster);
        Ok(())
    }
}

/// Accepts connections until `stop`, each with its handshake in a task of its own.
pub fn incoming(
    listener: TcpListener,
    material: &TlsMaterial,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> tokio_stream::wrappers::ReceiverStream<std::io::Result<PeerStream>> {
    let (sender, receiver) = mpsc::channel(HANDSHAKES_MAX);
    let acceptor = Acceptor::new(material.clone(), Timeouts::default());
    tokio::spawn(async move {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let crowd = Crowd::default();
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
            let Ok(turn) = Arc::clone(&handshakes).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let (tcp, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely; waiting lets some close.
                    warn!(%error, "A connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let place = crowd.enter(address.ip());
            let (acceptor, sender, metrics) = (acceptor.clone(), sender.clone(), Arc::clone(&metrics));
            tokio::spawn(async move {
                let _turn = turn;
                let shaken = tokio::select! {
                    shaken = acceptor.accept(tcp) => shaken,
                    () = place.given_up.cancelled() => {
                        metrics.handshakes_failed.inc();
                        return debug!(%address, "A handshake was given up for a newer one from the same address");
                    }
                };
                drop(place);
                match shaken {
                    Ok((tls, identity)) => {
                        let peer = PeerInfo { identity: Arc::new(identity), address };
                        // The server has ended when nobody receives; the connection is dropped with it.
                        let _ended = sender.send(Ok(PeerStream { tls, peer, _permit: permit })).await;
                    }
                    Err(error) => {
                        metrics.handshakes_failed.inc();
                        debug!(%address, %error, "A handshake failed");
                    }
                }
            });
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

/// The handshakes that each address has under way, oldest first.
#[derive(Debug, Clone, Default)]
struct Crowd(Arc<Mutex<HashMap<IpAddr, VecDeque<CancellationToken>>>>);

/// One handshake of an address; over when dropped.
#[derive(Debug)]
struct Place {
    crowd: Crowd,
    address: IpAddr,
    /// Cancelled when newer ones of its address need the room.
    given_up: CancellationToken,
}

impl Crowd {
    /// Where an address has as many as it may have, the oldest makes room: who means it is done in milliseconds.
    fn enter(&self, address: IpAddr) -> Place {
        let address = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(whole) => IpAddr::V6((u128::from(whole) >> 64 << 64).into()),
        };
        let given_up = CancellationToken::new();
        let mut crowd = self.0.lock();
        let places = crowd.entry(address).or_default();
        if places.len() >= HANDSHAKES_OF_ADDRESS_MAX
            && let Some(oldest) = places.pop_front()
        {
            oldest.cancel();
        }
        places.push_back(given_up.clone());
        drop(crowd);
        Place { crowd: self.clone(), address, given_up }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // One that was given up is listed no more.
        self.given_up.cancel();
        let mut crowd = self.crowd.0.lock();
        if let Some(places) = crowd.get_mut(&self.address) {
            places.retain(|place| !place.is_cancelled());
            if places.is_empty() {
                crowd.remove(&self.address);
            }
        }
    }
}

/// A tonic server with the limits every node has.
pub fn server() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(256)
        .max_frame_size(64 << 10)
        .http2_max_header_list_size(Some(16 << 10))
        .tcp_nodelay(true)
}

/// One channel a peer, made on first use and kept.
#[derive(Debug)]
pub struct Channels {
    material: TlsMaterial,
    open: Mutex<HashMap<OriginId, (String, Channel)>>,
}

/// Why no channel could be made.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The address is not host:port.
    #[error("{address:?} is not an address; write host:port")]
    Address {
        /// The text.
        address: String,
    },
    /// The connector could not be made.
    #[error("failed to prepare TLS")]
    Tls(#[from] campanile_discovery::tls::Error),
}

impl Channels {
    /// No channels yet.
    pub fn new(material: TlsMaterial) -> Self {
        Self { material, open: Mutex::default() }
    }

    /// The channel to `origin` at `address`; another address than last time makes a new one.
    ///
    /// The connection is made by the first call on it, and made again after a failure.
    ///
    /// # Errors
    /// [`ChannelError`] when the address is unusable.
    pub fn to(&self, origin: &OriginId, address: &str) -> Result<Channel, ChannelError> {
        let mut open = self.open.lock();
        if let Some((known, channel)) = open.get(origin)
            && known == address
        {
            return Ok(channel.clone());
        }
        let timeouts = Timeouts { connect: Duration::from_secs(2), handshake: Duration::from_secs(5) };
        let connector = Connector::new(&self.material, Expect::Origin(origin.clone()), timeouts)?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| ChannelError::Address { address: address.into() })?
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(3))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .tcp_nodelay(true);
        let channel = endpoint.connect_with_connector_lazy(connector);
        open.insert(origin.clone(), (address.into(), channel.clone()));
        Ok(channel)
    }

    /// Forgets the channel to a peer, so that the next call makes a new connection.
    pub fn forget(&self, origin: &OriginId) {
        self.open.lock().remove(origin);
    }
}
