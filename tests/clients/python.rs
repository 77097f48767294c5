//! The Python client at a real node: it publishes, watches, is refused, and resumes after the node was killed.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use campanile_alert::xml;
use campanile_tests::process::{Processes, fires};
use serde_json::Value;

use crate::setting::{FSD, PROGRAM, assert_calm, client_files, now, repository, run, tool};

/// A client in Python, as its README says to set it up.
struct Python {
    program: PathBuf,
    generated: PathBuf,
    options: Vec<String>,
}

impl Python {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-u").arg(repository("services/client/examples/python/client.py")).args(&self.options);
        command.args(arguments).env("CAMPANILE_GENERATED", &self.generated).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    async fn ends(&self, code: i32, arguments: &[&str]) -> (Vec<Value>, String) {
        let (output, stdout, stderr) = run(self.command(arguments)).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stdout}{stderr}");
        assert!(!stderr.contains("Traceback"), "{stderr}");
        (stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), stderr)
    }
}

/// A child that does not outlive the test.
struct Bound(Child);

impl Drop for Bound {
    fn drop(&mut self) {
        // It has ended already when all went well.
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn cap(folder: &Path, n: usize) -> String {
    let path = folder.join(format!("fire-{n}.xml"));
    std::fs::write(&path, xml::write(&fires::fire(n, now()).unwrap())).unwrap();
    path.to_str().unwrap().to_owned()
}

fn identifier(line: &Value) -> &str {
    line["alert"]["identifier"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_publishes_watches_and_resumes_after_the_node_was_killed() {
    let Some(program) = tool("CAMPANILE_PYTHON", "venv/bin/python", &["-c", "import grpc_tools"]) else { return };
    let mut processes = Processes::prepare(PROGRAM, None).unwrap();
    processes.node(FSD, &[]).unwrap();
    let address = processes.start(FSD).await.unwrap().address.to_string();
    let folder = processes.dir().to_owned();
    let generated = folder.join("generated");
    let mut generate = Command::new(&program);
    generate.arg(repository("services/client/examples/python/generate.py")).arg(&generated);
    let (made, _, stderr) = run(generate).await;
    assert!(made.status.success(), "{stderr}");
    let ca =
        processes.federation().department(FSD.parse::<campanile_alert::OriginId>().unwrap().department()).ca_path();
    let as_client = |client: &str| {
        let files = client_files(&processes, client);
        let paths = [("--ca", &ca), ("--cert", &files.chain), ("--key", &files.key)];
        let mut options = vec!["--address".into(), address.clone(), "--server-name".into(), "localhost".into()];
        options.extend(paths.into_iter().flat_map(|(name, path)| [name.to_owned(), path.to_str().unwrap().to_owned()]));
        Python { program: program.clone(), generated: generated.clone(), options }
    };
    let (dispatch, reader) = (as_client("fsd/dispatch"), as_client("fsd/reader"));

    let first = cap(&folder, 1);
    let (answer, _) = dispatch.ends(0, &["publish", "--cap", &first]).await;
    assert_eq!(answer[0]["position"]["origin"], FSD);
    let (again, _) = dispatch.ends(0, &["publish", "--cap", &first]).await;
    assert_eq!((&again[0]["duplicate"], &again[0]["position"]), (&Value::Bool(true), &answer[0]["position"]));

    // What makes no sense, and what is not allowed, is refused with its reason, once.
    let broken = folder.join("broken.xml");
    std::fs::write(&broken, "<alert>").unwrap();
    let (_, said) = dispatch.ends(1, &["publish", "--cap", broken.to_str().unwrap()]).await;
    assert!(said.contains("INVALID_ARGUMENT") && said.contains("cap_xml"), "{said}");
    let (_, said) = reader.ends(1, &["publish", "--cap", &first]).await;
    assert!(said.contains("PERMISSION_DENIED") && said.contains("publish"), "{said}");

    let cursor = folder.join("cursor").to_str().unwrap().to_owned();
    let watch = ["watch", "--timeout", "120", "--cursor-file", &cursor, "--count"];
    let (seen, _) = reader.ends(0, &[&watch[..], &["1", "--from-start"]].concat()).await;
    assert_eq!(seen.iter().map(identifier).collect::<Vec<_>>(), ["fire-00001"]);

    let mut command = reader.command(&[&watch[..], &["2"]].concat());
    let mut watching = Bound(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let (lines, mut shown) = tokio::sync::mpsc::channel(64);
    let output = BufReader::new(watching.0.stdout.take().unwrap());
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| lines.blocking_send(line)));
    let complaints = BufReader::new(watching.0.stderr.take().unwrap());
    let complaints =
        std::thread::spawn(move || complaints.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n"));
    let mut next = async || -> Value {
        let line = tokio::time::timeout(Duration::from_secs(90), shown.recv()).await.expect("in time").expect("a line");
        serde_json::from_str(&line).unwrap()
    };
    dispatch.ends(0, &["publish", "--cap", &cap(&folder, 2)]).await;
    assert_eq!(identifier(&next().await), "fire-00002");
    processes.kill(FSD).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    processes.start(FSD).await.unwrap();
    dispatch.ends(0, &["publish", "--cap", &cap(&folder, 3)]).await;
    // Not the second again: the stream is taken up where it broke.
    assert_eq!(identifier(&next().await), "fire-00003");
    let status = tokio::task::spawn_blocking(move || watching.0.wait().unwrap()).await.unwrap();
    let complaints = complaints.join().unwrap();
    assert!(status.success(), "{complaints}");
    assert!(complaints.contains("resuming after the last cursor"), "{complaints}");

    // A later run goes on from the file: nothing is left to see, then what comes.
    let (seen, _) = reader.ends(0, &["watch", "--timeout", "3", "--cursor-file", &cursor]).await;
    assert_eq!(seen, Vec::<Value>::new());
    dispatch.ends(0, &["publish", "--cap", &cap(&folder, 4)]).await;
    let (seen, _) = reader.ends(0, &[&watch[..], &["1"]].concat()).await;
    assert_eq!(seen.iter().map(identifier).collect::<Vec<_>>(), ["fire-00004"]);
    assert_calm(&processes, FSD);
}
