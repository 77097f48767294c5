//! A TCP proxy that misbehaves on purpose: it delays, holds back one way or both, resets, flips bits, and reads slowly.
//!
//! It stands in front of a member, which announces the proxy's address as its own, or in front of a client's node. Bytes
//! are never dropped or reordered, since TCP would not do so either: what is held back flows on when the fault is over,
//! unless somebody has given the connection up meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// The most connections at one time; who comes beyond them is turned away.
const CONNECTIONS_MAX: usize = 512;
/// How long the way on may take to be opened.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How much is read at one time.
const CHUNK: usize = 16 << 10;
/// How much is read at one time by a slow reader.
const CHUNK_SLOW: usize = 256;

/// What is done to connections; the default is nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Each chunk waits so long.
    pub(crate) delay: Duration,
    /// Nothing flows from who connected to the member.
    pub(crate) hold_in: bool,
    /// Nothing flows from the member to who connected.
    pub(crate) hold_out: bool,
    /// In each chunk one bit is flipped with this likelihood.
    pub(crate) corrupt: f64,
    /// Both ways are read at so many bytes a second at most.
    pub(crate) slow: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Now {
    faults: Faults,
    /// Connections of an older generation are reset.
    generation: u64,
    target: Option<SocketAddr>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicU64,
    pub(crate) corrupted: AtomicU64,
    pub(crate) reset: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// A proxy, which ends with this value.
pub(crate) struct Proxy {
    address: SocketAddr,
    now: watch::Sender<Now>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port. Where it leads to is said by [`Proxy::lead_to`].
    pub(crate) async fn bind(seed: u64) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (now, seen) = watch::channel(Now::default());
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn(accept(listener, seen, Arc::clone(&counts), seed));
        Ok(Self { address, now, counts, task })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Where connections that come from now on lead to.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.now.send_modify(|now| now.target = Some(target));
    }

    /// What is done from now on, also to connections that are open.
    pub(crate) fn set(&self, faults: Faults) {
        self.now.send_modify(|now| now.faults = faults);
    }

    /// Resets every connection that is open.
    pub(crate) fn reset(&self) {
        self.now.send_modify(|now| now.generation += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections end with their sender of changes.
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, now: watch::Receiver<Now>, counts: Arc<Counts>, seed: u64) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (Ok(permit), Some(target)) = (Arc::clone(&room).try_acquire_owned(), now.borrow().target) else { continue };
        let number = counts.connections.fetch_add(1, Ordering::SeqCst);
        let (now, counts) = (now.clone(), Arc::clone(&counts));
        tokio::spawn(async move {
            carry(stream, target, now, &counts, seed.wrapping_add(number)).await;
            drop(permit);
        });
    }
}

async fn carry(mut near: TcpStream, target: SocketAddr, mut now: watch::Receiver<Now>, counts: &Counts, seed: u64) {
    let generation = now.borrow().generation;
    let Ok(Ok(mut far)) = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(target)).await else { return };
    if near.set_nodelay(true).is_err() || far.set_nodelay(true).is_err() {
        return;
    }
    let (in_seen, out_seen) = (now.clone(), now.clone());
    let reset = {
        let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
        let both = async {
            tokio::join!(
                pump(near_read, far_write, in_seen, |faults| faults.hold_in, counts, seed),
                pump(far_read, near_write, out_seen, |faults| faults.hold_out, counts, !seed),
            )
        };
        tokio::select! {
            _ = both => false,
            changed = now.wait_for(|now| now.generation != generation) => changed.is_ok(),
        }
    };
    if reset {
        counts.reset.fetch_add(1, Ordering::SeqCst);
        // Closing with bytes to be lost is what makes a reset of it.
        drop((near.set_zero_linger(), far.set_zero_linger()));
    }
}

/// Carries one way until its end, or until the proxy goes.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut now: watch::Receiver<Now>,
    held: fn(&Faults) -> bool,
    counts: &Counts,
    seed: u64,
) -> Option<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut buffer = vec![0; CHUNK];
    loop {
        let faults = now.borrow_and_update().faults;
        if held(&faults) {
            now.changed().await.ok()?;
            continue;
        }
        let chunk = if faults.slow.is_some() { CHUNK_SLOW } else { CHUNK };
        let length = tokio::select! {
            read = from.read(&mut buffer[..chunk]) => read.unwrap_or(0),
            changed = now.changed() => {
                changed.ok()?;
                continue;
            }
        };
        if length == 0 {
            // The other side hears of the end, or of the failure, as an end.
            return to.shutdown().await.ok();
        }
        tokio::time::sleep(faults.delay).await;
        if random.random_bool(faults.corrupt) {
            buffer[random.random_range(0..length)] ^= 1 << random.random_range(0..8);
            counts.corrupted.fetch_add(1, Ordering::SeqCst);
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return None;
        }
        counts.bytes.fetch_add(length as u64, Ordering::SeqCst);
        if let Some(rate) = faults.slow {
            tokio::time::sleep(Duration::from_micros(length as u64 * 1_000_000 / rate.max(1))).await;
        }
    }
}
