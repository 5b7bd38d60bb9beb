//! Changes of a store from async handlers.

use crate::{Store, wipe_stack_below};
use std::{future::pending, panic::resume_unwind};
use tokio::task::spawn_blocking;

/// How far below the work copies of a key may be on the stack: unoptimised builds leave some at 25 KiB.
const WIPED_STACK_BYTES: usize = 64 * 1024;

/// Runs changes of a store on a thread of tokio that may block, and returns their result.
///
/// [`Store::issue`] and the other changes block until the change is durable. An async handler calls them
/// through this function. The work runs to its end even if the caller stops waiting, for example because
/// the client disconnects. The stack of the thread is wiped afterwards.
///
/// ```
/// use portcullis::{Error, Expiry, Issued, NewKey, Store, web::unblock};
///
/// async fn issue(store: &Store, name: String) -> Result<Issued, Error> {
///     unblock(store, |store| {
///         store.issue(NewKey::new(name, store.scopes(["api.read"])?, Expiry::Never))
///     })
///     .await
/// }
/// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
/// # let runtime = tokio::runtime::Runtime::new().unwrap();
/// # assert!(runtime.block_on(issue(&store, "a".into())).is_ok());
/// # Ok::<(), Error>(())
/// ```
///
/// # Panics
/// If the work panics, or without a runtime of tokio.
pub async fn unblock<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> T + Send + 'static,
) -> T {
    let store = store.clone();
    let wiped = move || {
        let done = work(&store);
        wipe_stack_below::<WIPED_STACK_BYTES>();
        done
    };
    match spawn_blocking(wiped).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime shuts down, and polls no future again.
        Err(Err(_)) => pending().await,
    }
}
