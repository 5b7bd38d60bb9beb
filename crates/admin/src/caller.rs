//! The caller of a request: a key, or a local user of this host.

use super::{api_error::ApiError, blocking, rate_limited_log::RateLimitedLog};
use axum::{
    extract::FromRequestParts,
    http::{Extensions, request::Parts},
};
use portcullis::{
    Acting, Actor, Error, Grant, KeyId, Principal, Refusal, Scope, Store,
    audit::Attempt,
    error::Forbidden,
    web::{Authentication, client_address},
};
use std::net::IpAddr;

static REFUSALS: RateLimitedLog = RateLimitedLog::new();

/// A request extension that authenticates a local user of this host. **It grants root's rights.**
/// No header can create it: only code that has verified the peer's credentials inserts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalUser(u32);

impl LocalUser {
    /// Creates the extension for the user with this uid.
    pub fn new(uid: u32) -> Self {
        Self(uid)
    }

    /// Returns the user's uid.
    pub fn uid(self) -> u32 {
        self.0
    }
}

/// The authenticated caller. axum does not call a handler that takes a `Caller` without one.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// A key, and the address of the request where it is known.
    Key(Principal, Option<IpAddr>),
    /// A local user of this host.
    Local(LocalUser),
}

impl FromRequestParts<Store> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, store: &Store) -> Result<Self, Refusal> {
        if let Some(user) = parts.extensions.get::<LocalUser>() {
            return Ok(Self::Local(*user));
        }
        let peer = peer(&parts.extensions);
        let (headers, extensions) = (&parts.headers, &parts.extensions);
        let authentication = Authentication::recorded_or_new(store, headers, extensions);
        match authentication.into_outcome() {
            Ok(principal) => Ok(Self::Key(principal, peer)),
            Err(refusal) => {
                log_refusal(&refusal, peer);
                Err(refusal)
            }
        }
    }
}

/// Logs why authentication failed. The response does not say it.
pub(crate) fn log_refusal(refusal: &Refusal, peer: Option<IpAddr>) {
    if let Some(suppressed) = REFUSALS.permit() {
        let peer = peer.map(tracing::field::display);
        tracing::warn!(reason = refusal.code(), peer, suppressed, "refused a caller");
    }
}

/// Returns the address of the request, where it is known.
pub(crate) fn peer(extensions: &Extensions) -> Option<IpAddr> {
    client_address(extensions)
}

impl Caller {
    /// Returns the actor of the caller's acts.
    pub(crate) fn actor(&self) -> Actor {
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

    /// Returns the caller's key; `None` for a local user.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Key(principal, _) => Some(principal),
            Self::Local(_) => None,
        }
    }

    /// Returns the id of the caller's key; `None` for a local user.
    pub(crate) fn id(&self) -> Option<KeyId> {
        self.principal().map(Principal::id)
    }

    /// Returns whether the caller is this key.
    pub(crate) fn is(&self, id: KeyId) -> bool {
        self.id() == Some(id)
    }

    /// Accepts a local user, and a key that has `scope`. Records any other caller's attempt in the
    /// audit log and returns an error.
    pub(crate) async fn require(
        &self,
        store: &Store,
        scope: &Scope,
        attempt: Attempt,
        key: Option<KeyId>,
    ) -> Result<(), ApiError> {
        let refusal = match self {
            Self::Local(_) => return Ok(()),
            Self::Key(principal, _) => match principal.require(scope) {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal,
            },
        };
        self.record_refusal(store, attempt, key, refusal.to_string()).await;
        Err(refusal.into())
    }

    /// Accepts a local user and a root key. Records any other caller's attempt to change the scopes.
    pub(crate) async fn require_root(&self, store: &Store) -> Result<(), ApiError> {
        self.require_root_for(store, Attempt::ChangeScopes).await
    }

    /// Like [`require_root`](Self::require_root), for this attempt.
    pub(crate) async fn require_root_for(
        &self,
        store: &Store,
        attempt: Attempt,
    ) -> Result<(), ApiError> {
        match self {
            Self::Key(principal, _) if *principal.grant() != Grant::All => {
                let refused = match attempt {
                    Attempt::SetPolicy => Forbidden::PolicyIsRoots,
                    _ => Forbidden::ScopesAreRoots,
                };
                self.record_refusal(store, attempt, None, refused.to_string()).await;
                Err(Error::from(refused).into())
            }
            _ => Ok(()),
        }
    }

    /// Records a refused act. The caller is refused even if the audit entry cannot be written.
    async fn record_refusal(
        &self,
        store: &Store,
        attempt: Attempt,
        key: Option<KeyId>,
        reason: String,
    ) {
        let recorded = self.act(store, move |acting| {
            acting.refuse_or_log(attempt, key, &reason);
            Ok(())
        });
        drop(recorded.await);
    }

    /// Returns the store on behalf of this caller. Only for calls that do not block.
    pub(crate) fn acting<'s>(&self, store: &'s Store) -> Acting<'s> {
        let acting = store.acting_as(self.actor());
        self.source().map_or(acting, |address| acting.with_address(address))
    }

    /// Reads many records as this caller: see [`blocking::read_many`].
    pub(crate) async fn read_many<T: Send + 'static>(
        &self,
        store: &Store,
        work: impl FnOnce(Acting<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, ApiError> {
        let caller = self.clone();
        blocking::read_many(store, move |store| work(caller.acting(store))).await
    }

    /// Refuses a caller with an owner, since the request concerns the keys of all owners.
    pub(crate) async fn require_every_owner(
        &self,
        store: &Store,
        attempt: Attempt,
    ) -> Result<(), ApiError> {
        self.act(store, move |acting| acting.require_every_owner(attempt)).await
    }

    /// Runs `work` as this caller, on a thread that may block. The work completes even if the
    /// client disconnects.
    pub(crate) async fn act<T: Send + 'static>(
        &self,
        store: &Store,
        work: impl FnOnce(Acting<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (store, caller) = (store.clone(), self.clone());
        blocking::run(move || work(caller.acting(&store))).await
    }
}
