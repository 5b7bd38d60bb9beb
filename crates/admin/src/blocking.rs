//! Store calls from async handlers, on threads that may block.

use super::api_error::ApiError;
use portcullis::{Error, Store, wipe_stack_below};
use std::{num::NonZeroUsize, sync::LazyLock, thread::available_parallelism};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// How far below `run` copies of a key may be on the stack: unoptimised builds leave some at 25 KiB.
/// The pool may have hundreds of threads, and wiping makes this memory resident in each of them.
const WIPED_STACK_BYTES: usize = 64 * 1024;

/// Calls the store where blocking is allowed.
pub(crate) async fn call<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
) -> Result<T, ApiError> {
    let store = store.clone();
    run(move || work(&store)).await
}

/// Limits concurrent reads of many records, so that a key which requests thousands of pages leaves
/// processors to cheap requests.
static LARGE_READS: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = available_parallelism().map_or(1, NonZeroUsize::get);
    Semaphore::new(processors.div_ceil(2))
});

/// Reads a page, a search result or a range of the audit log from the store.
pub(crate) async fn read_many<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
) -> Result<T, ApiError> {
    let permit = LARGE_READS.acquire().await;
    // The closure owns the permit: the read continues if the client disconnects.
    let work = move |store: &Store| {
        let _permit = permit;
        work(store)
    };
    call(store, work).await
}

/// Runs `work` to its end, even if the client disconnects, and wipes the stack that it used.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, ApiError> {
    let wiped = move || {
        let done = work();
        // The work may have generated or parsed a key, and the pool reuses the thread.
        wipe_stack_below::<WIPED_STACK_BYTES>();
        done
    };
    match spawn_blocking(wiped).await {
        Ok(done) => Ok(done?),
        Err(stopped) => Err(ApiError::stopped(&stopped)),
    }
}
