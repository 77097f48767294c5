//! Prints alerts as JSON lines: `watch HOST:PORT DEPARTMENT CA.pem CERT.pem KEY.pem CURSOR-FILE`.
//!
//! Goes on after the last alert that an earlier run has printed, over restarts of the node and of itself. The
//! certificate must carry the role `read`.

use anyhow::{Context as _, bail};
use campanile_alert::DepartmentId;
use campanile_client::{Client, Credentials, Cursor, Event, Expect, Filter, Options, Start};

#[tokio::main]
#[allow(clippy::print_stdout, clippy::print_stderr)]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, department, ca, certificate, key, kept] = arguments.as_slice() else {
        bail!("give HOST:PORT DEPARTMENT CA.pem CERT.pem KEY.pem CURSOR-FILE");
    };
    let read = |path: &String| std::fs::read(path).with_context(|| format!("failed to read {path}"));
    let credentials = Credentials::roots(read(certificate)?, read(key)?, read(ca)?);
    let expect = Expect::Department(DepartmentId::try_new(department.as_str())?);
    let client = Client::connect(Options::new(endpoint.as_str(), credentials, expect)).await?;

    let start = match std::fs::read_to_string(kept) {
        Ok(text) => Start::After(text.parse::<Cursor>()?),
        Err(_) => Start::Beginning,
    };
    let mut watch = client.watch(start, &Filter::default());
    while let Some(event) = watch.next().await {
        match event? {
            Event::Alert(record) => println!("{}", serde_json::to_string(&record)?),
            Event::Unreadable { faults, .. } => eprintln!("an alert that this version cannot read: {faults:?}"),
            Event::Resumed { gap: true } => eprintln!("the stream broke before its first cursor; list what was missed"),
            Event::Resumed { gap: false } | Event::Heartbeat(_) => {}
        }
        // Kept only after the alert was dealt with, so that none is lost between two runs.
        if let Some(cursor) = watch.cursor() {
            std::fs::write(kept, cursor.to_string()).with_context(|| format!("failed to write {kept}"))?;
        }
    }
    Ok(())
}
