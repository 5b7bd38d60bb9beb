//! The `portcullis` command: the library's largest example, and nothing that a host could not do.

mod cli;

use std::{alloc::System, process::ExitCode};
use zeroizing_alloc::ZeroAlloc;

/// Memory is wiped when it is freed: keys pass through buffers of the web server, of TLS and of
/// JSON, which know nothing of secrets.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    cli::run()
}
