//! The controllers' guide, its live part: the commands of services/drill/README.md word for word, on the files that it
//! shows, while the drill fills a terminal.

use std::fs;
use std::path::Path;
use std::process::Output;

use super::*;

const GUIDE: &str = include_str!("../../../services/drill/README.md");

/// The commands for the day.
fn commands() -> Vec<&'static str> {
    let block = GUIDE.split("```console\n").nth(1).and_then(|rest| rest.split("```").next());
    block.into_iter().flat_map(str::lines).collect()
}

/// The file of this name, as the guide shows it.
fn shown(name: &str) -> Result<&'static str> {
    let head = format!("```yaml\n# file: {name}\n");
    let body = GUIDE.split(&head).nth(1).and_then(|rest| rest.split("```").next());
    body.with_context(|| format!("the guide shows no {name}"))
}

/// Writes everything that the commands name.
fn lay_out(town: &Town, dir: &Path) -> Result<()> {
    for name in ["rehearsal.drill.yaml", "cast.yaml"] {
        fs::write(dir.join(name), shown(name)?)?;
    }
    // The pack, and beside it the data that it names.
    for name in ["edb-fire.rules.yaml", "harbour-view-sites.json"] {
        fs::copy(packs()?.join(name), dir.join(name))?;
    }
    fs::create_dir(dir.join("bin"))?;
    std::os::unix::fs::symlink(PROGRAM, dir.join("bin/campanile"))?;
    for client in ["fsd/dispatch", "edb/directorate-1", "edb/duty-officer-1"] {
        let to = dir.join(format!("{client}.yaml"));
        fs::create_dir_all(to.parent().context("a folder")?)?;
        fs::copy(profile(&town.processes, client)?, to)?;
    }
    Ok(())
}

/// A shell in the folder, with the command on its path.
fn shell(dir: &Path, line: &str) -> Result<Command> {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([dir.join("bin")].into_iter().chain(std::env::split_paths(&rest)))?;
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(dir).env("PATH", path).env("TERM", "xterm-256color").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

async fn ends(dir: &Path, line: &str) -> Result<Output> {
    let mut child = shell(dir, line)?.spawn().context("sh")?;
    // The program under test ends with its input.
    let input = child.stdin.take();
    let output = tokio::time::timeout(WITHIN, child.wait_with_output()).await;
    drop(input);
    Ok(output.with_context(|| format!("{line} does not end"))??)
}

/// What a terminal is sent, without blanks and without what moves and colours: blanks are moves as well.
fn letters(sent: &str) -> String {
    let mut parts = sent.split("\u{1b}[");
    let first = parts.next().unwrap_or_default();
    let rest = parts.map(|part| {
        part.trim_start_matches(|c: char| c.is_ascii_digit() || ";?".contains(c)).get(1..).unwrap_or_default()
    });
    [first].into_iter().chain(rest).flat_map(str::chars).filter(|c| !c.is_whitespace()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_controllers_guide_leads_through_a_live_drill_that_fills_the_terminal() {
    let run = async {
        let town = Town::start(None).await?;
        let dir = town.processes.dir().join("guide");
        fs::create_dir(&dir)?;
        lay_out(&town, &dir)?;
        let commands = commands();
        let verbs: Vec<&str> = commands.iter().filter_map(|line| line.split(' ').nth(2)).collect();
        let all =
            ["announce", "run", "status", "ack", "pause", "resume", "inject", "pending", "mark", "abort", "report"];
        ensure!(verbs == all, "the guide has other commands than are run here: {verbs:?}");

        let mut drill = None;
        for line in &commands {
            if line.starts_with("campanile drill run ") {
                // A terminal of 120 columns and 40 lines; what it is sent is kept.
                let terminal = format!("exec script -qefc 'stty cols 120 rows 40; {line}' seen.txt");
                drill = Some(shell(&dir, &terminal)?.spawn()?);
                continue;
            }
            // The drill begins, and the call comes, while the commands are given.
            eventually(line, WITHIN, async || {
                let output = ends(&dir, line).await?;
                ensure!(output.status.success(), "{line}: {}", told(&output));
                Ok(())
            })
            .await
            .with_context(|| fs::read_to_string(dir.join("seen.txt")).unwrap_or_default())?;
            if line.starts_with("campanile drill abort ") {
                let drill = drill.take().context("it was never begun")?;
                let output = tokio::time::timeout(WITHIN, drill.wait_with_output()).await.context("it goes on")??;
                ensure!(output.status.code() == Some(1), "a drill that was called off: {}", told(&output));
            }
        }
        let seen = fs::read_to_string(dir.join("seen.txt"))?;
        let (open, shut) = ("\u{1b}[?1049h", "\u{1b}[?1049l");
        let (_, rest) = seen.split_once(open).context("the terminal was not taken over")?;
        let (board, after) = rest.rsplit_once(shut).context("the terminal was not given back")?;
        let board = letters(board);
        for part in [
            "HV26",
            "running",
            "PAUSED",
            "fsd",
            "alert fire level 2 (i1)",
            "update fire level 3 (i3)",
            "●",
            "CALLED OFF",
        ] {
            ensure!(board.contains(&letters(part)), "{part:?} was not on the board");
        }
        ensure!(after.contains("FAILED") && after.contains("called off"), "the verdict stands below: {after}");
        let report = fs::read_to_string(dir.join("drill-HV26/report.html"))?;
        ensure!(report.contains("said who, not when"), "the observer's remark is not in the report");
        ensure!(town.in_force().await? == 0, "something is in force after it");
        anyhow::Ok(())
    };
    run.await.unwrap_or_else(|error| panic!("{error:#}"));
}
