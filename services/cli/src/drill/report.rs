//! `drill report`: what a run came to, for the hot wash and for a build server.

use std::path::PathBuf;

use campanile_drill::report::{Form, Hotwash, Report};
use campanile_drill::verdict::Verdict as Judged;
use campanile_drill::{Scenario, Transcript};
use serde::Serialize;

use crate::alert::shown;
use crate::failure::{Answer, Next as _, Verdict, failure};
use crate::files;
use crate::out::Out;

/// What the verb takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder that `drill run --keep` wrote
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The scenario, when the folder has no scenario.yaml
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Where to write; the folder of the run when it is not given, `-` for stdout with one form
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// The forms: html, md, junit, json; those of the scenario, or html and md, when none is given
    #[arg(long, value_delimiter = ',', value_parser = form)]
    form: Vec<Form>,
    /// Marks of observers, owners and dates of improvements, and lessons, in YAML
    #[arg(long, value_name = "FILE")]
    hotwash: Option<PathBuf>,
}

fn form(word: &str) -> Result<Form, String> {
    match word {
        "html" => Ok(Form::Html),
        "md" => Ok(Form::Md),
        "junit" => Ok(Form::Junit),
        "json" => Ok(Form::Json),
        _ => Err("write html, md, junit or json".into()),
    }
}

#[derive(Serialize)]
struct Written {
    files: Vec<String>,
}

/// Writes the forms; what the drill came to does not matter for the exit code.
pub(super) fn run(args: &Args, out: Out) -> Answer {
    const RUN: &str = "give the folder that `campanile drill run --keep FOLDER` wrote";
    let read = |file: &str| files::read_text(&args.run.join(file)).next(RUN);
    let wrong = |file: &str, why: &dyn std::fmt::Display| {
        failure(format!("{} is not what a run wrote: {why}", shown(&args.run.join(file))), RUN)
    };
    let verdict: Judged =
        serde_json::from_str(&read("verdict.json")?).map_err(|error| wrong("verdict.json", &error))?;
    let transcript =
        Transcript::parse(&read("transcript.jsonl")?).map_err(|error| wrong("transcript.jsonl", &error))?;
    let place = args.scenario.clone().unwrap_or_else(|| args.run.join("scenario.yaml"));
    let text = files::read_text(&place).next("give the scenario of the run with --scenario")?;
    let (scenario, _) = Scenario::parse(&text)
        .map_err(|_| failure(format!("{} has errors", shown(&place)), "see `campanile drill check`"))?;
    let hotwash = match &args.hotwash {
        Some(path) => {
            let read = Hotwash::parse(&files::read_text(path)?);
            Some(read.map_err(|error| failure(format!("{}: {error}", shown(path)), "mend the file"))?)
        }
        None => None,
    };
    let report = Report::of(&scenario, &transcript, &verdict, hotwash.as_ref())
        .map_err(|error| failure(error, "look at the files that you gave"))?;
    let forms = forms(&args.form, &scenario);
    if args.out.as_ref().is_some_and(|folder| folder.as_os_str() == "-") {
        let [form] = forms[..] else { return Err(failure("stdout holds one form", "name one with --form")) };
        out.bytes(report.write(form)?.as_bytes())?;
        return Ok(Verdict::Passed);
    }
    let folder = args.out.as_ref().unwrap_or(&args.run);
    std::fs::create_dir_all(folder).next("give another folder with --out")?;
    let mut written = Vec::new();
    for form in forms {
        let path = folder.join(form.file());
        files::write(&path, report.write(form)?.as_bytes(), true)?;
        written.push(shown(&path));
    }
    out.show(&Written { files: written }, |written| written.files.clone())?;
    Ok(Verdict::Passed)
}

/// The forms that are asked for, each once.
fn forms(given: &[Form], scenario: &Scenario) -> Vec<Form> {
    let planned = scenario.after.as_ref().map(|after| after.report.clone()).unwrap_or_default();
    let mut forms = match (given, &planned[..]) {
        ([], []) => vec![Form::Html, Form::Md],
        ([], planned) => planned.to_vec(),
        (given, _) => given.to_vec(),
    };
    forms.sort_unstable();
    forms.dedup();
    forms
}
