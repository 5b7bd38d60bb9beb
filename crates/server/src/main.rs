//! The `portcullis` program. It uses only the public API of the libraries.

mod cli;

use std::{alloc::System, process::ExitCode};
use zeroizing_alloc::ZeroAlloc;

/// Wipes memory when it is freed: keys pass through buffers of the web server, of TLS and of JSON, which
/// do not wipe secrets.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    cli::run()
}
