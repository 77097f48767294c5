//! A member of the bus as a process for tests: what `campanile node run`, `campanile gateway run`, `campanile drill` and
//! `campanile alert` run, and nothing else but a bound on its life: it ends when its standard input does, so no test that
//! dies leaves it behind.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use campanile_cli::node_run::{self, GatewayArgs, NodeArgs};
use tracing_subscriber::EnvFilter;

fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    end_with_input();
    if words.first().is_some_and(|word| ["drill", "alert"].contains(&word.as_str())) {
        return Ok(campanile_cli::run(std::env::args()));
    }
    member(&words).map(|()| ExitCode::SUCCESS)
}

fn member(words: &[String]) -> Result<()> {
    let [kind, run, flag, file] = words else { bail!("usage: campanile-member node|gateway run --config FILE") };
    if run != "run" || flag != "--config" {
        bail!("usage: campanile-member node|gateway run --config FILE");
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    let config = PathBuf::from(file);
    let runtime = tokio::runtime::Runtime::new()?;
    match kind.as_str() {
        "node" => runtime.block_on(node_run::node(NodeArgs { config, begin_anew: false })),
        "gateway" => runtime.block_on(node_run::gateway(GatewayArgs { config, begin_anew: false })),
        other => bail!("{other:?} is neither node nor gateway"),
    }
}

/// Ends the process once nobody holds its standard input.
fn end_with_input() {
    std::thread::spawn(|| {
        let mut ignored = Vec::new();
        drop(std::io::stdin().read_to_end(&mut ignored));
        std::process::exit(3);
    });
}
