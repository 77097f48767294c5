//! `drill check`: everything that can be found wrong with scenarios before they are played.

use std::path::PathBuf;

use super::load;
use crate::failure::{Answer, Verdict};
use crate::out::Out;
use crate::rules::Found;

/// What the verb takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenarios in YAML
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Checks scenarios; fails when there is an error among the findings.
pub(super) fn run(args: &Args, out: Out) -> Answer {
    let all: Vec<load::Loaded> = args.files.iter().map(|path| load::scenario(path)).collect::<anyhow::Result<_>>()?;
    let found: usize = all.iter().map(|one| one.found.len()).sum();
    let errors: usize = all.iter().map(load::Loaded::errors).sum();
    if out.is_json() {
        let list = all.iter().flat_map(|one| one.found.iter().map(|finding| Found { file: &one.file, finding }));
        out.document(&list.collect::<Vec<_>>())?;
    } else {
        for line in all.iter().flat_map(load::Loaded::rendered) {
            out.line(line)?;
        }
        out.line(format!("{} scenarios, {errors} errors, {} warnings", all.len(), found - errors))?;
    }
    Ok(Verdict::of(errors == 0))
}
