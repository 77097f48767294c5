//! A crowd at the door from one address: it gets its share of the handshakes, and others get theirs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use campanile_tests::cluster::LIMIT;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::setting::harbour_view;

/// Twice what a node shakes at once.
const CALLERS: usize = 128;

/// Connects from 127.0.0.2 again and again and never says a word.
async fn crowd(door: SocketAddr, tried: Arc<AtomicUsize>) {
    let mut byte = [0];
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
        if let Ok(mut tcp) = socket.connect(door).await {
            tried.fetch_add(1, Ordering::SeqCst);
            // Until the node closes it.
            let _closed = tcp.read(&mut byte).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_crowds_the_door_keeps_no_other_out() {
    let cluster = harbour_view().start().await.unwrap();
    let (door, tried) = (cluster.node("fsd/node-1").unwrap().address(), Arc::<AtomicUsize>::default());
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(crowd(door, Arc::clone(&tried)));
    }
    // Each has been turned away more than once by now.
    let end = tokio::time::Instant::now() + LIMIT;
    while tried.load(Ordering::SeqCst) < CALLERS * 4 {
        assert!(tokio::time::Instant::now() < end, "only {} came", tried.load(Ordering::SeqCst));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // Were all handshakes theirs, each of these would wait for one of 5 s to end; the client gives up long before.
    for _ in 0..20 {
        let client = cluster.client("fsd/dispatch").await.unwrap();
        client.status().await.unwrap();
    }
    callers.shutdown().await;
    cluster.shutdown().await;
}
