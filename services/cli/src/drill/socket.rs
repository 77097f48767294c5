//! The way in for controllers: a Unix socket in the run's folder, one command and one answer a connection, in JSON lines.
//!
//! Who may enter the folder may steer the drill, and nobody else: it belongs to who started the run. Who speaks is
//! written into the transcript, and must be one of the scenario's controllers.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use campanile_drill::live::{Command, Request};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::failure::{Next as _, failure};

/// The socket's name in the folder.
const NAME: &str = "control.sock";
/// The longest command or answer, in bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// How long a command and its answer may take.
const WITHIN: Duration = Duration::from_secs(10);
/// How many connections are served at once.
const CONNECTIONS_MAX: usize = 16;

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    /// It was done.
    Done(String),
    /// It was not.
    Refused(String),
}

/// The listening socket; it is taken away with this value.
#[derive(Debug)]
pub(super) struct Listening {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
        // One that is left behind is found dead by the next run.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Listens in a run's folder.
///
/// # Errors
/// When a drill runs there already, or the socket cannot be made.
pub(super) async fn serve(folder: &Path, to: mpsc::Sender<Request>) -> anyhow::Result<Listening> {
    let path = folder.join(NAME);
    if UnixStream::connect(&path).await.is_ok() {
        return Err(failure(
            format!("a drill runs in {} already", folder.display()),
            "wait for its end, abort it, or give another folder with --run-dir",
        ));
    }
    // What a run that was killed has left behind.
    drop(std::fs::remove_file(&path));
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("failed to listen at {}", path.display()))
        .next("give a shorter path with --run-dir")?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).context("failed to guard the socket")?;
    let bound = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(permit) = Arc::clone(&bound).acquire_owned().await else { return };
            let to = to.clone();
            tokio::spawn(async move {
                // A caller who does not go on is left; so is one who does not listen.
                drop(tokio::time::timeout(WITHIN, take(stream, to)).await);
                drop(permit);
            });
        }
    });
    Ok(Listening { path, task })
}

async fn take(stream: UnixStream, to: mpsc::Sender<Request>) -> std::io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reading).take(LINE_BYTES_MAX).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Command>(&line) {
        Err(error) => Answer::Refused(format!("that is no command: {error}")),
        Ok(command) => {
            let (answer, answered) = oneshot::channel();
            match to.send(Request { command, answer }).await {
                Err(_) => Answer::Refused("the drill is over".into()),
                Ok(()) => match answered.await {
                    Ok(Ok(done)) => Answer::Done(done),
                    Ok(Err(why)) => Answer::Refused(why),
                    Err(_) => Answer::Refused("the drill is over".into()),
                },
            }
        }
    };
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    writing.write_all(&bytes).await
}

/// Tells a running drill something; `None` when none runs there.
///
/// # Errors
/// When it does not answer.
pub(super) async fn tell(folder: &Path, command: &Command) -> anyhow::Result<Option<Answer>> {
    let Ok(stream) = UnixStream::connect(folder.join(NAME)).await else { return Ok(None) };
    let ask = async {
        let (reading, mut writing) = stream.into_split();
        let mut bytes = serde_json::to_vec(command)?;
        bytes.push(b'\n');
        writing.write_all(&bytes).await?;
        let mut line = String::new();
        BufReader::new(reading).take(LINE_BYTES_MAX).read_line(&mut line).await?;
        anyhow::Ok(serde_json::from_str::<Answer>(&line)?)
    };
    let answer = tokio::time::timeout(WITHIN, ask).await.map_err(|_| anyhow::anyhow!("no answer"));
    let answer = answer.and_then(|answer| answer).context("the drill did not answer");
    answer.next("look at its console; `drill abort` clears up when it has ended").map(Some)
}
