//! `drill import`: a list of injects in XLSX or CSV made into a scenario.

use std::path::{Path, PathBuf};

use campanile_alert::{DateTime, ExerciseId};
use campanile_drill::import::{Plan, import};
use serde::Serialize;

use crate::alert::shown;
use crate::failure::{Answer, Next as _, Verdict, failure};
use crate::files;
use crate::out::Out;

/// What the verb takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A master scenario events list, .xlsx or .csv
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The scenario to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The time of T+0 with its offset: 2026-10-13T10:20:00+08:00
    #[arg(long, value_name = "TIME", value_parser = DateTime::parse)]
    start: DateTime,
    /// The drill's name; made from the file's when it is not given
    #[arg(long)]
    name: Option<String>,
    /// The exercise that it is played as; the drill's name when it is not given
    #[arg(long, value_name = "ID", value_parser = |text: &str| ExerciseId::try_new(text))]
    exercise: Option<ExerciseId>,
}

#[derive(Serialize)]
struct Made {
    file: String,
    injects: usize,
    expectations: usize,
    players: usize,
    notes: usize,
}

/// Reads the list and writes the scenario; with a fault in the list all are told, and nothing is written.
pub(super) fn run(args: &Args, out: Out) -> Answer {
    let drill = args.name.clone().unwrap_or_else(|| name(&args.file));
    let exercise = match &args.exercise {
        Some(exercise) => exercise.clone(),
        None => ExerciseId::try_new(drill.chars().take(32).collect::<String>()).next("give one with --exercise")?,
    };
    let plan = Plan { drill, exercise, start: args.start.clone() };
    let imported = match import(&files::read(&args.file)?, &plan) {
        Ok(imported) => imported,
        Err(faults) => {
            faults.0.iter().for_each(|fault| out.note(format!("{}: {fault}", shown(&args.file))));
            out.note(format!("{}: {} errors; nothing was written", shown(&args.file), faults.0.len()));
            return Ok(Verdict::Failed);
        }
    };
    let text = imported.yaml().map_err(|error| failure(error, "mend the texts of the list"))?;
    files::write(&args.out, text.as_bytes(), false)?;
    let scenario = &imported.scenario;
    let made = Made {
        file: shown(&args.out),
        injects: scenario.injects.len(),
        expectations: scenario.expect.len(),
        players: scenario.cast.players.len(),
        notes: imported.notes.len(),
    };
    out.show(&made, |made| {
        vec![format!(
            "{}: {} injects, {} players, {} expectations, {} notes; see `campanile drill check`",
            made.file, made.injects, made.players, made.expectations, made.notes
        )]
    })?;
    Ok(Verdict::Passed)
}

/// A drill's name from a file's: lower-case letters, digits and hyphens.
fn name(file: &Path) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let plain: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let words: Vec<&str> = plain.split('-').filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "drill".into() } else { words.join("-") }
}
