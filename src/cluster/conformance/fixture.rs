//! What the suite needs of an implementation, what it reports, and how long it waits.

use crate::cluster::{ConsensusError, ConsensusStore};
use std::{fmt, future::Future, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// The longest time that anything may take which must happen soon, on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// The pause before a call is repeated that got no answer.
const PAUSE: Duration = Duration::from_millis(50);

/// An implementation under test.
pub trait Fixture {
    /// The implementation.
    type Store: ConsensusStore;

    /// Creates an empty consensus store, and returns a client of it.
    fn create(&mut self) -> impl Future<Output = Self::Store>;

    /// Returns another client of the consensus store that was created last, as another process would
    /// have it.
    fn connect(&mut self) -> impl Future<Output = Self::Store>;

    /// Discards the history before the newest revision.
    fn compact(&mut self) -> impl Future<Output = ()>;

    /// Makes all nodes hang: they keep their connections and answer nothing.
    fn stop(&mut self) -> impl Future<Output = ()>;

    /// Crashes the nodes that hang, where they have a state that may survive it, and starts them again.
    fn start(&mut self) -> impl Future<Output = ()>;
}

/// A sentence of the contract that an implementation breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The part of the contract, by the number and the name that its documentation gives.
    pub clause: &'static str,
    /// What happened instead.
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

/// Waits for what must come soon.
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

/// Repeats a call until it is answered: a busy machine may keep any node from answering in time.
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
