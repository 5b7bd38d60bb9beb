//! Wipes the unused part of a stack, where functions that have returned left copies of a key.

use std::hint::black_box;

/// The bytes below its caller that [`wipe_stack`] overwrites. In an unoptimised build, whose frames
/// are the largest, copies of a key were found at up to 160 KiB.
const WIPED_BYTES: usize = 256 * 1024;

/// Overwrites the unused part of the calling thread's stack, 256 KiB from the caller's frame down.
///
/// A key that passes through a function may stay on the stack after the function has returned.
/// Compilers spill registers and move values, and wipe neither. Call this when a thread that handled
/// keys becomes idle. The stack must have room for it.
///
/// The server calls it before a worker of its runtime waits:
///
/// ```
/// let runtime = tokio::runtime::Builder::new_multi_thread()
///     .enable_all()
///     .on_thread_park(portcullis::wipe_stack)
///     .build()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn wipe_stack() {
    wipe_stack_below::<WIPED_BYTES>();
}

/// Like [`wipe_stack`], but overwrites `BYTES` bytes below the caller. The process keeps that memory in use
/// from then on, so many threads with small frames should pass less.
#[inline(never)]
pub fn wipe_stack_below<const BYTES: usize>() {
    // A variable, since a reference to a constant array would point at one in the program's file.
    // `black_box` makes the compiler write the zeros, as if they were read.
    let mut zeros = [0u8; BYTES];
    black_box(&mut zeros);
}
