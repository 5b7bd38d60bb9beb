//! The hot walk: header → presented key → digest → index → standing → [`Principal`].

use super::{Store, core::Core};
use crate::{
    credential::{self, Encoded, KeyBuffer},
    digest::Digest,
    error::Error,
    id::KeyId,
    index::Revocation,
    principal::Principal,
    record::Record,
    refusal::Refusal,
};
use std::sync::Arc;

impl Store {
    /// Decides on the value of one `Authorization` header: from memory, without allocating, in a
    /// time that depends neither on the number of keys nor on where a digest differs.
    ///
    /// The key is the user name of Basic authentication (RFC 7617), the password is empty or not
    /// set. Use [`authenticate_all`](Self::authenticate_all) for a request, which may have several
    /// such headers.
    ///
    /// ```
    /// # let store = portcullis::Store::in_memory()?;
    /// let refused = store.authenticate(b"Basic bm90LWEta2V5Og==").unwrap_err();
    /// assert_eq!((refused.status(), refused.code()), (401, "unknown"));
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn authenticate(&self, authorization: &[u8]) -> Result<Principal, Refusal> {
        self.authenticate_encoded(Encoded::find(authorization)?)
    }

    /// Decides on all `Authorization` values of a request: none is [`Refusal::Missing`], and more
    /// than one, even the same twice, is [`Refusal::Ambiguous`].
    pub fn authenticate_all<'h>(
        &self,
        values: impl IntoIterator<Item = &'h [u8]>,
    ) -> Result<Principal, Refusal> {
        self.authenticate(credential::only(values)?)
    }

    /// A function of its own, so that what is refused at a glance saves no registers for the rest.
    #[inline(never)]
    fn authenticate_encoded(&self, encoded: Encoded<'_>) -> Result<Principal, Refusal> {
        let mut buffer = KeyBuffer::new();
        self.authenticate_user(encoded.read(&mut buffer)?)
    }

    /// Decides on what a header presents; a stranger's may turn out to be no user name at all.
    #[inline]
    fn authenticate_user(&self, presented: &[u8]) -> Result<Principal, Refusal> {
        self.authenticate_key(presented).map_err(|refusal| match refusal {
            Refusal::Unknown if !credential::is_user(presented) => Refusal::Malformed,
            refusal => refusal,
        })
    }

    /// Decides on the text of a key that came some other way than by a header.
    pub fn authenticate_key(&self, key: &[u8]) -> Result<Principal, Refusal> {
        if !self.prefix.begins(key) {
            return Err(Refusal::Unknown);
        }
        self.authenticate_digest(&self.writer.seals.digester.digest(key))
    }

    /// Decides anew on a key that was presented before, without keeping its text.
    #[doc(hidden)]
    pub fn authenticate_digest(&self, digest: &Digest) -> Result<Principal, Refusal> {
        let Core { gate, index, clock, .. } = &**self.writer;
        gate.pass(|| index.admit(digest, || clock.now()))?
    }

    /// Why a key that was refused is refused, with its record, once that is on disk: an answer that
    /// reports a key inactive waits for what it rests on.
    #[doc(hidden)]
    pub fn why_refused(&self, id: KeyId) -> Result<(Refusal, Option<Arc<Record>>), Error> {
        let core: &Core = &self.writer;
        core.again(|| {
            let plans = core.plan();
            let (planned, pending) = (core.planned(&plans, id), plans.pending_sequence(id));
            core.wait(plans, pending)?;
            let Some((record, _)) = planned else { return Ok((Refusal::Unknown, None)) };
            match record.standing().check(|| core.clock.now()) {
                Err(refusal) => Ok((refusal, Some(record))),
                // It comes back just now, or what denies it may never be on disk.
                Ok(()) => Ok((Refusal::Unavailable, None)),
            }
        })
    }

    /// A watch over the key of someone who was let in, for work that goes on: a stream, a socket.
    /// It is over at once when the key is revoked, deleted or narrowed below what it was let in
    /// with, and when it expires. Requests that end by themselves need none and pay nothing.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// # let issued = store.issue(NewKey { name: "a".into(), grant: Grant::Scopes(store.scopes(["api.read"])?),
    /// #     active: true, expiry: Expiry::Never, owner: None, metadata: Metadata::new() })?;
    /// # let key = issued.secret.reveal(|text| text.to_owned());
    /// let principal = store.authenticate_key(key.as_bytes()).unwrap();
    /// let watch = store.revocation(&principal); // a future, for any runtime
    /// assert!(!watch.is_over());
    /// store.revoke(principal.id())?;
    /// assert!(watch.is_over());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn revocation(&self, principal: &Principal) -> Revocation {
        let watch = self.writer.index.watch(principal, self.writer.clock.now());
        // Registered first: a gate that shuts after this look ends it.
        if self.writer.gate.pass(|| ()).is_err() {
            watch.end();
        }
        watch
    }
}
