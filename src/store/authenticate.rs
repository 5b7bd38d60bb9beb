//! Authentication, the hot path: header → presented key → digest → index → standing → [`Principal`].

use super::{core::Core, handle::Store};
use crate::{
    credential::{self, Encoded, KeyBuffer},
    digest::Digest,
    index::Revocation,
    principal::Principal,
    refusal::Refusal,
};
use std::fmt;

impl Store {
    /// Authenticates a request by all its `Authorization` header values. Runs in memory without
    /// allocating; its time depends neither on the number of keys nor on where two digests differ.
    ///
    /// The key is the user name of Basic authentication (RFC 7617), the password is empty or not
    /// set. No value is [`Refusal::Missing`]. More than one value, even the same one twice, is
    /// [`Refusal::Ambiguous`]: another program in the chain could read the other value.
    ///
    /// ```
    /// # let store = portcullis::Store::in_memory()?;
    /// // With the crate `http`: store.authenticate(headers.get_all(AUTHORIZATION).iter())
    /// let values = ["Basic bm90LWEta2V5Og=="];
    /// let refused = store.authenticate(values.iter()).unwrap_err();
    /// assert_eq!((refused.status(), refused.code()), (401, "unknown"));
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    ///
    /// An `Option` is no iterator, so the first of several values cannot be passed by mistake:
    ///
    /// ```compile_fail,E0277
    /// # let store = portcullis::Store::in_memory()?;
    /// let values = ["Basic bm90LWEta2V5Og=="];
    /// let refused = store.authenticate(values.first());
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn authenticate(
        &self,
        values: impl Iterator<Item: AsRef<[u8]>>,
    ) -> Result<Principal, Refusal> {
        self.authenticate_header(credential::only(values)?.as_ref())
    }

    /// Authenticates one `Authorization` header value, where the host knows that the request has no
    /// other. Use [`authenticate`](Self::authenticate) for a request.
    pub fn authenticate_header(&self, authorization: &[u8]) -> Result<Principal, Refusal> {
        self.authenticate_encoded(Encoded::find(authorization)?)
    }

    // A separate function, so that the fast path of a refusal saves no registers for the rest.
    #[inline(never)]
    fn authenticate_encoded(&self, encoded: Encoded<'_>) -> Result<Principal, Refusal> {
        let mut buffer = KeyBuffer::new();
        self.authenticate_user(encoded.read(&mut buffer)?)
    }

    /// Looks up first, and validates the user-name syntax only on a miss: a hit is valid by
    /// construction.
    #[inline]
    fn authenticate_user(&self, presented: &[u8]) -> Result<Principal, Refusal> {
        self.authenticate_key(presented).map_err(|refusal| match refusal {
            Refusal::Unknown if !credential::is_user(presented) => Refusal::Malformed,
            refusal => refusal,
        })
    }

    /// Authenticates the text of a key that is not in a header.
    pub fn authenticate_key(&self, key: &[u8]) -> Result<Principal, Refusal> {
        if !self.prefix.begins(key) {
            return Err(Refusal::Unknown);
        }
        self.authenticate_digest(&self.writer.seals.digester.digest(key))
    }

    /// Authenticates the text of a key, and returns a handle with which
    /// [`authenticate_again`](Self::authenticate_again) checks the key later.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// # let issued = store.issue(NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never))?;
    /// # let key = issued.secret.reveal(|text| text.to_owned());
    /// let (principal, handle) = store.authenticate_with_handle(key.as_bytes()).unwrap();
    /// assert!(store.authenticate_again(&handle).is_ok());
    /// store.revoke(principal.id())?;
    /// assert_eq!(store.authenticate_again(&handle).unwrap_err(), Refusal::Inactive);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn authenticate_with_handle(&self, key: &[u8]) -> Result<(Principal, KeyHandle), Refusal> {
        if !self.prefix.begins(key) {
            return Err(Refusal::Unknown);
        }
        let digest = self.writer.seals.digester.digest(key);
        Ok((self.authenticate_digest(&digest)?, KeyHandle(digest)))
    }

    /// Authenticates the key of a handle as it is now.
    pub fn authenticate_again(&self, handle: &KeyHandle) -> Result<Principal, Refusal> {
        self.authenticate_digest(&handle.0)
    }

    /// Not public: a digest is not a credential.
    #[expect(clippy::inline_always, reason = "a call on the hot path takes seven instructions")]
    #[inline(always)]
    pub(super) fn authenticate_digest(&self, digest: &Digest) -> Result<Principal, Refusal> {
        let Core { gate, index, clock, .. } = &**self.writer;
        gate.pass(|| index.admit(digest, || clock.now()))?
    }

    /// Returns a watch of an authenticated key, for long work such as a stream or a socket. It is over
    /// at once when the key is revoked, deleted or narrowed below its rights at authentication, and when
    /// it expires. Short requests need none and pay nothing.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// # let issued = store.issue(NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never))?;
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
        // Registered first: a gate that shuts after this check ends the watch.
        if self.writer.gate.pass(|| ()).is_err() {
            watch.end();
        }
        watch
    }
}

/// A handle of an authenticated key, with which a session authenticates the key again without its text.
///
/// A handle cannot be stored or sent as a credential. Only authentication creates one, and its bytes
/// are not accessible. It cannot be copied, and `Debug` does not show it:
///
/// ```
/// fn keep(handle: portcullis::KeyHandle) -> portcullis::KeyHandle { handle }
/// ```
/// ```compile_fail,E0599
/// fn keep(handle: portcullis::KeyHandle) -> portcullis::KeyHandle { handle.clone() }
/// ```
pub struct KeyHandle(Digest);

impl fmt::Debug for KeyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHandle(<elided>)")
    }
}
