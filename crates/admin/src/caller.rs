//! Who acts: a key that was presented, or a user of this machine.

use super::{denied::Denied, sparingly::Sparingly};
use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{Extensions, request::Parts},
};
use portcullis::{
    Acting, Actor, Attempt, Error, KeyId, Principal, Refusal, Scope, Store, internal::wipe, web,
};
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    sync::LazyLock,
    thread::available_parallelism,
};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// How far below `run` copies of a key may be: in an unoptimised build they were found at 25 KiB.
/// There may be hundreds of these threads, and the memory that is wiped is in use from then on.
const REACH: usize = 64 * 1024;

static REFUSALS: Sparingly = Sparingly::new();

/// A user of this machine, as an extension of a request. **It has root's rights**, and no header
/// can make one: only code that has checked who is at the other end inserts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalUser(u32);

impl LocalUser {
    /// The user with this number.
    pub fn new(uid: u32) -> Self {
        Self(uid)
    }

    /// The user's number.
    pub fn uid(self) -> u32 {
        self.0
    }
}

/// Who acts. A handler that takes a `Caller` cannot be reached without one.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// The holder of a key, and the address that it came from where that is known.
    Key(Principal, Option<IpAddr>),
    /// A user of this machine.
    Local(LocalUser),
}

impl FromRequestParts<Store> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, store: &Store) -> Result<Self, Refusal> {
        if let Some(user) = parts.extensions.get::<LocalUser>() {
            return Ok(Self::Local(*user));
        }
        let peer = peer(&parts.extensions);
        match web::authenticate(store, &parts.headers) {
            Ok(principal) => Ok(Self::Key(principal, peer)),
            Err(refusal) => {
                log(&refusal, peer);
                Err(refusal)
            }
        }
    }
}

/// Says why a caller was refused, which the caller is not told.
pub(crate) fn log(refusal: &Refusal, peer: Option<IpAddr>) {
    if let Some(unsaid) = REFUSALS.permit() {
        let peer = peer.map(tracing::field::display);
        tracing::warn!(reason = refusal.code(), peer, unsaid, "refused a caller");
    }
}

/// The address that a request came from, where that is known.
pub(crate) fn peer(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip())
}

impl Caller {
    fn actor(&self) -> Actor {
        match self {
            Self::Key(principal, _) => Actor::Key(principal.id()),
            Self::Local(user) => Actor::Local(user.uid()),
        }
    }

    fn source(&self) -> Option<IpAddr> {
        match self {
            Self::Key(_, source) => *source,
            Self::Local(_) => None,
        }
    }

    /// Whether the caller is this key.
    pub(crate) fn is(&self, id: KeyId) -> bool {
        matches!(self, Self::Key(principal, _) if principal.id() == id)
    }

    /// Passes a user of this machine, and a key that is entitled to `scope`. Another is turned
    /// away, which is written to the trail.
    pub(crate) async fn require(
        &self,
        store: &Store,
        scope: &Scope,
        attempt: Attempt,
        key: Option<KeyId>,
    ) -> Result<(), Denied> {
        let refusal = match self {
            Self::Local(_) => return Ok(()),
            Self::Key(principal, _) => match principal.require(scope) {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal,
            },
        };
        let reason = refusal.to_string();
        let noted = self.act(store, move |acting| {
            acting.turn_away(attempt, key, &reason);
            Ok(())
        });
        // Whether or not that could be written, the caller is turned away.
        drop(noted.await);
        Err(refusal.into())
    }

    /// Runs `work` as this caller, where waiting for the disk blocks nobody else. It is carried
    /// through even if the client goes away meanwhile.
    pub(crate) async fn act<T: Send + 'static>(
        &self,
        store: &Store,
        work: impl FnOnce(Acting<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Denied> {
        let (store, actor, source) = (store.clone(), self.actor(), self.source());
        run(move || work(store.acting_as(actor, source))).await
    }
}

/// Asks the store something that may take a while.
pub(crate) async fn ask<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
) -> Result<T, Denied> {
    let store = store.clone();
    run(move || work(&store)).await
}

/// Reads of many records that run at once. A key that asks for thousands of pages waits for its own
/// turn, and leaves the processors to requests that need little of them.
static LARGE_READS: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = available_parallelism().map_or(1, NonZeroUsize::get);
    Semaphore::new(processors.div_ceil(2))
});

/// Asks the store for a page, a search or a part of the audit log.
pub(crate) async fn read_many<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
) -> Result<T, Denied> {
    let turn = LARGE_READS.acquire().await;
    // The turn ends with the work, also where the client goes away meanwhile.
    let work = move |store: &Store| {
        let _turn = turn;
        work(store)
    };
    ask(store, work).await
}

async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Denied> {
    let wiped = move || {
        let done = work();
        // A new secret was made here, or a key was found in a text; the thread stays for others.
        wipe::<REACH>();
        done
    };
    match spawn_blocking(wiped).await {
        Ok(done) => Ok(done?),
        Err(stopped) => Err(Denied::stopped(&stopped)),
    }
}
