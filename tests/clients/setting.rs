//! What the suites share: the programs they need, and the small steps that each takes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use campanile_alert::{Clock as _, OriginId, ValuePair};
use campanile_bus::transport::Channels;
use campanile_discovery::roster::{ClientId, RosterHandle};
use campanile_discovery::{Identity, IdentityFiles, SystemClock, TlsMaterial};
use campanile_tests::process::{Processes, fires};
use tonic::transport::Channel;

/// The program of a member.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_campanile-member");
pub(crate) const FSD: &str = "fsd/node-1";
pub(crate) const EDB: &str = "edb/node-1";
pub(crate) const GATEWAY: &str = "isd/gateway-1";

pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The folder that cargo builds into, and `tests/run` installs tools into.
fn target() -> PathBuf {
    repository(&std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into()))
}

/// A program by its variable, or where `tests/run` puts it; `works` runs it once. `None` after saying plainly that the
/// test is left out.
pub(crate) fn tool(variable: &str, installed: &str, works: &[&str]) -> Option<PathBuf> {
    let installed = target().join("test-tools").join(installed);
    let program = std::env::var(variable).map_or(installed, PathBuf::from);
    let runs = Command::new(&program).args(works).output().is_ok_and(|output| output.status.success());
    found(runs, &format!("{} with {works:?}", program.display())).then_some(program)
}

/// The built `campanile` beside this test's own program, of the same build.
pub(crate) fn campanile() -> Option<PathBuf> {
    let program = Path::new(PROGRAM).with_file_name("campanile");
    found(program.is_file(), &program.display().to_string()).then_some(program)
}

fn found(is_found: bool, what: &str) -> bool {
    let is_required = std::env::var("CAMPANILE_TOOLS").is_ok_and(|value| value == "required");
    assert!(is_found || !is_required, "CAMPANILE_TOOLS=required, but {what} is missing; tests/run provides it");
    if !is_found {
        eprintln!("LEFT OUT: this test needs {what}, which is not here");
    }
    is_found
}

/// Runs a program to its end, off the async threads.
pub(crate) async fn run(mut command: Command) -> (Output, String, String) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output, stdout, stderr)
}

/// Has a configured node serve its metrics on a free port.
pub(crate) fn serve_metrics(processes: &Processes, origin: &str) {
    let path = folder(processes, origin).join("config.yaml");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["member"]["metrics-listen"] = "127.0.0.1:0".into();
    std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
}

fn folder(processes: &Processes, origin: &str) -> PathBuf {
    processes.dir().join("members").join(origin.replace('/', "-"))
}

/// No thread of a member panicked, as far as its log tells.
pub(crate) fn assert_calm(processes: &Processes, origin: &str) {
    let log = std::fs::read(folder(processes, origin).join("log")).unwrap();
    let log = String::from_utf8_lossy(&log);
    let panic: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
    assert!(panic.is_empty(), "{origin}: {panic:?}");
}

/// The files of a client of the plan.
pub(crate) fn client_files(processes: &Processes, client: &str) -> IdentityFiles {
    processes.federation().client(&client.parse::<ClientId>().unwrap())
}

/// A bare channel to a running node with whatever certificate, to say what the SDK has no way to say.
pub(crate) fn channel(processes: &Processes, files: &IdentityFiles, origin: &str) -> Channel {
    let root = processes.federation().root().unwrap();
    let roster = processes.federation().roster().unwrap();
    let roster = RosterHandle::open(root, true, None, Some(&roster)).unwrap();
    let material = TlsMaterial::new(Identity::load(files).unwrap(), roster, Arc::new(SystemClock)).unwrap();
    let address = processes.ready(origin).unwrap().address.to_string();
    Channels::new(material).to(&origin.parse::<OriginId>().unwrap(), &address).unwrap()
}

/// The time of the machine, as the members take it.
pub(crate) fn now() -> jiff::Timestamp {
    SystemClock.now()
}

/// A class suspension that edb may publish.
pub(crate) fn suspension(identifier: &str) -> campanile_alert::Alert {
    let mut alert = fires::flood("edb", identifier, now()).unwrap();
    alert.infos[0].event = "class-suspension".into();
    alert.infos[0].event_codes = vec![ValuePair::new("campanile:event", "class-suspension")];
    alert
}
