//! The interface of an implementation under test, the report of a violation, and the timeouts.

use crate::cluster::{ConsensusError, ConsensusStore};
use std::{fmt, future::Future, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// The timeout for events that must happen soon. It allows for a busy host.
const SOON: Duration = Duration::from_secs(30);
/// The pause before a call without an answer is repeated.
const PAUSE: Duration = Duration::from_millis(50);

/// An implementation under test. No method can fail: a fixture that cannot do its task panics.
pub trait Fixture {
    /// The implementation.
    type Store: ConsensusStore;

    /// Creates an empty consensus store, and returns a client of it.
    fn create(&mut self) -> impl Future<Output = Self::Store>;

    /// Returns another client of the consensus store that was created last, as another process would
    /// have it.
    fn connect(&mut self) -> impl Future<Output = Self::Store>;

    /// Discards the history before the newest revision: earlier revisions must be reported as compacted.
    /// An implementation that discards nothing by itself needs a way to do it for this check.
    fn compact(&mut self) -> impl Future<Output = ()>;

    /// Makes all nodes hang: they keep their connections and answer nothing until [`start`](Self::start).
    ///
    /// From now on no call may succeed, and open watches must be lost within seconds. A store in memory has
    /// no nodes. Its fixture needs a switch after which each call fails as unavailable and each watch ends.
    fn stop(&mut self) -> impl Future<Output = ()>;

    /// Starts the nodes again, and returns once they answer. Crashes them first, if their state survives a
    /// crash.
    ///
    /// Everything that was reported as written must be there, with the same revisions and the whole history.
    fn start(&mut self) -> impl Future<Output = ()>;
}

/// A violation of the contract by an implementation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The clause of the contract, by its number and name in the documentation.
    pub clause: &'static str,
    /// The observed behaviour.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.clause, self.found)
    }
}

impl std::error::Error for Violation {}

/// Returns a violation unless this holds.
pub(super) fn require(
    holds: bool,
    clause: &'static str,
    found: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { clause, found: found() }) }
}

pub(super) fn violation<T>(clause: &'static str, found: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { clause, found: found.into() })
}

/// Waits for an event that must happen soon.
pub(super) async fn soon<T>(
    clause: &'static str,
    what: &str,
    future: impl Future<Output = T>,
) -> Result<T, Violation> {
    match timeout(SOON, future).await {
        Ok(value) => Ok(value),
        Err(_) => violation(clause, format!("{what} did not come within {SOON:?}")),
    }
}

/// Repeats a call until it is answered. On a busy host any node may miss a timeout.
pub(super) async fn answer<T, E: Future<Output = Result<T, ConsensusError>>>(
    mut call: impl FnMut() -> E,
) -> Result<T, Violation> {
    const CLAUSE: &str = "17 timeouts";
    let start = Instant::now();
    loop {
        match soon(CLAUSE, "an answer", call()).await? {
            Ok(value) => return Ok(value),
            Err(ConsensusError::Unavailable(reason)) if start.elapsed() > SOON => {
                return violation(CLAUSE, format!("no call is answered: {reason}"));
            }
            Err(ConsensusError::Unavailable(_)) => sleep(PAUSE).await,
            Err(error) => return violation("errors", format!("a valid call failed: {error:?}")),
        }
    }
}
