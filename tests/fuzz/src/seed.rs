//! Writes the seeds of every target into folders: `campanile-fuzz-seeds FOLDER`. Without a folder it lists the targets.
#![allow(clippy::print_stdout, reason = "its output is read by a script")]

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        for target in campanile_fuzz::TARGETS {
            println!("{}", target.name);
        }
        return Ok(());
    };
    for target in campanile_fuzz::TARGETS {
        let own = folder.join(target.name);
        std::fs::create_dir_all(&own)?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(own.join(format!("seed-{number:03}")), seed)?;
        }
    }
    Ok(())
}
