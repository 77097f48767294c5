//! The `campanile` command: everything is in the library, so that tests may call it.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// The system's allocator gives the memory of each commit back and takes it again with the next, page by page; this one
/// keeps it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, of which a node fills the smallest part: some 25 MiB for nothing.
    #[cfg(target_os = "linux")]
    let _with_or_without = rustix::thread::disable_transparent_huge_pages(true);
    campanile_cli::run(std::env::args_os())
}
