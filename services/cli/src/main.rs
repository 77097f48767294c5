//! The `campanile` command: everything is in the library, so that tests may call it.

use std::process::ExitCode;

fn main() -> ExitCode {
    campanile_cli::run(std::env::args_os())
}
