//! How simulated nodes call each other: the real service over turmoil's connections, one connection a call.
//!
//! HTTP/2 is left out because its implementation forgets streams by the machine's clock, so that one seed would not give
//! one run; real processes have it. What the bus gets from it is kept: a side that has nothing to say sends a sign of
//! life every 2 s, and a side that hears nothing for 5 s gives the connection up.
//!
//! ```text
//! caller ──► name of its department ─► path ─► frames of the request
//!        ◄── headers of the response ◄─ frames ◄─ trailers               frame: kind, length, bytes
//! ```
//!
//! Nobody lies about its department: that nobody can is the matter of TLS, which tests over real connections look at.
//! What a node says of records may be a lie: [`crate::lies`].
//!
//! Calls to the model etcd go the same way, with their headers in the place of the name.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use campanile_bus::transport::PeerInfo;
use http_body::{Body as _, Frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tower::{BoxError, Service};
use turmoil::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use turmoil::net::{TcpListener, TcpStream};

use crate::federation::Setting;
use crate::lies::{Lies, Tongue};

/// Where every node listens.
const PORT: u16 = 7443;
/// Where etcd listens.
const ETCD_PORT: u16 = 2379;
/// As with real connections.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const SILENCE_MAX: Duration = Duration::from_secs(5);
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// How many frames wait for their reader.
const FRAMES_MAX: usize = 16;

/// What a frame is.
const HEADERS: u8 = 1;
const DATA: u8 = 2;
const TRAILERS: u8 = 3;
const END: u8 = 4;
const LIFE: u8 = 5;

/// A body whose frames come from a connection.
struct Incoming(mpsc::Receiver<Result<Frame<Bytes>, BoxError>>);

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx)
    }
}

/// Calls the service of the node of `to`.
pub(crate) async fn call(from: String, to: String, request: Request<Body>) -> Result<Response<Body>, BoxError> {
    talk(to, PORT, &from, request).await
}

/// Calls etcd.
pub(crate) async fn call_etcd(request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let headers = headers_text(request.headers());
    talk(crate::etcd::HOST.into(), ETCD_PORT, &headers, request).await
}

async fn talk(to: String, port: u16, first: &str, request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let stream = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect((to, port))).await??;
    let (mut reading, mut writing) = stream.into_split();
    let (parts, body) = request.into_parts();
    write_text(&mut writing, first).await?;
    write_text(&mut writing, parts.uri.path()).await?;
    let requests = tokio::spawn(async move {
        // The connection stays open for the answer.
        let _held = send(writing, body, None).await;
        std::future::pending::<()>().await;
    });
    let (HEADERS, bytes) = read_frame(&mut reading).await? else { return Err("no headers came first".into()) };
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = headers_of(&bytes)?;
    let (frames, receiver) = mpsc::channel(FRAMES_MAX);
    tokio::spawn(async move {
        receive(reading, frames).await;
        // Nothing can be asked any more on a connection that has answered to the end.
        requests.abort();
    });
    *response.body_mut() = Body::new(Incoming(receiver));
    Ok(response)
}

/// Serves calls to the node of `speaker` for as long as it lives.
pub(crate) async fn serve<S>(service: S, speaker: String, lies: Arc<Lies>) -> io::Result<()>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    tokio::spawn(async move {
        while let Ok((stream, address)) = listener.accept().await {
            let (service, speaker, lies) = (service.clone(), speaker.clone(), Arc::clone(&lies));
            tokio::spawn(async move {
                // A call that breaks off is over; the caller makes another.
                let _broken = answer(service, stream, address, &speaker, &lies).await;
            });
        }
    });
    Ok(())
}

/// Serves calls to etcd for as long as it lives.
pub(crate) async fn serve_etcd<S>(service: S) -> io::Result<()>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let listener = TcpListener::bind(("0.0.0.0", ETCD_PORT)).await?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let answer = async {
                    let (mut reading, writing) = stream.into_split();
                    let headers = headers_of(read_text(&mut reading).await?.as_bytes())?;
                    let mut request = Request::post(read_text(&mut reading).await?);
                    if let Some(there) = request.headers_mut() {
                        *there = headers;
                    }
                    respond(service, reading, writing, request, None).await
                };
                let _broken: Result<(), BoxError> = answer.await;
            });
        }
    });
    Ok(())
}

async fn answer<S>(
    service: S,
    stream: TcpStream,
    address: std::net::SocketAddr,
    speaker: &str,
    lies: &Lies,
) -> Result<(), BoxError>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let (mut reading, writing) = stream.into_split();
    let from = read_text(&mut reading).await?;
    let path = read_text(&mut reading).await?;
    let identity = Setting::shared().peer(&from).ok_or("nobody of that name")?;
    let tongue = path.ends_with("/Pull").then(|| Tongue::new(lies, speaker, &from));
    let mut request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    if let Some(extensions) = request.extensions_mut() {
        extensions.insert(PeerInfo { identity: Arc::new(identity), address });
    }
    respond(service, reading, writing, request, tongue).await
}

/// Has the service answer one call whose frames are still to come.
async fn respond<S>(
    mut service: S,
    reading: OwnedReadHalf,
    mut writing: OwnedWriteHalf,
    request: tonic::codegen::http::request::Builder,
    tongue: Option<Tongue<'_>>,
) -> Result<(), BoxError>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let (frames, receiver) = mpsc::channel(FRAMES_MAX);
    let requests = tokio::spawn(receive(reading, frames));
    let request = request.body(Body::new(Incoming(receiver)))?;
    let Ok(response) = service.call(request).await;
    let (parts, body) = response.into_parts();
    write_frame(&mut writing, HEADERS, headers_text(&parts.headers).as_bytes()).await?;
    send(writing, body, tongue).await?;
    requests.abort();
    Ok(())
}

/// Writes what a body has to say, as `tongue` has it, and signs of life meanwhile.
async fn send(
    mut writing: OwnedWriteHalf,
    mut body: Body,
    mut tongue: Option<Tongue<'_>>,
) -> io::Result<OwnedWriteHalf> {
    loop {
        let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        match tokio::time::timeout(SIGN_OF_LIFE, next).await {
            Err(_) => write_frame(&mut writing, LIFE, &[]).await?,
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(io::Error::other(error)),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    let data = tongue.as_mut().map_or_else(|| data.clone(), |tongue| tongue.say(data.clone()));
                    write_frame(&mut writing, DATA, &data).await?;
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    write_frame(&mut writing, TRAILERS, headers_text(&trailers).as_bytes()).await?;
                }
            },
        }
    }
    write_frame(&mut writing, END, &[]).await?;
    Ok(writing)
}

/// Reads frames into a body until its end, until nobody reads it, or until the connection is dead.
async fn receive(mut reading: OwnedReadHalf, frames: mpsc::Sender<Result<Frame<Bytes>, BoxError>>) {
    loop {
        let frame = tokio::select! {
            biased;
            () = frames.closed() => return,
            frame = read_frame(&mut reading) => frame,
        };
        let frame = match frame {
            Ok((LIFE, _)) => continue,
            Ok((END, _)) => return,
            Ok((DATA, bytes)) => Ok(Frame::data(bytes)),
            Ok((TRAILERS, bytes)) => headers_of(&bytes).map(Frame::trailers),
            Ok((kind, _)) => Err(format!("a frame of kind {kind}").into()),
            Err(error) => Err(error.into()),
        };
        let is_over = frame.is_err();
        if frames.send(frame).await.is_err() || is_over {
            return;
        }
    }
}

async fn write_text(writing: &mut OwnedWriteHalf, text: &str) -> io::Result<()> {
    write_frame(writing, HEADERS, text.as_bytes()).await
}

async fn read_text(reading: &mut OwnedReadHalf) -> Result<String, BoxError> {
    Ok(String::from_utf8(read_frame(reading).await?.1.to_vec())?)
}

async fn write_frame(writing: &mut OwnedWriteHalf, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let mut frame = Vec::with_capacity(bytes.len() + 5);
    frame.push(kind);
    frame.extend_from_slice(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes());
    frame.extend_from_slice(bytes);
    writing.write_all(&frame).await
}

async fn read_frame(reading: &mut OwnedReadHalf) -> io::Result<(u8, Bytes)> {
    let read = async {
        let kind = reading.read_u8().await?;
        let mut bytes = vec![0; reading.read_u32().await? as usize];
        reading.read_exact(&mut bytes).await?;
        Ok((kind, Bytes::from(bytes)))
    };
    tokio::time::timeout(SILENCE_MAX, read).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn headers_text(headers: &HeaderMap) -> String {
    let lines = headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap_or_default()));
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines.concat()
}

fn headers_of(bytes: &[u8]) -> Result<HeaderMap, BoxError> {
    let lines = std::str::from_utf8(bytes)?.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(name, value)| Ok((name.parse::<HeaderName>()?, value.parse::<HeaderValue>()?))).collect()
}
