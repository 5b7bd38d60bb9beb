//! Authentication, the hot path: header → presented key → digest → index → standing → [`Principal`].

use super::{core::Core, handle::Store};
use crate::{
    credential::{self, Encoded, KeyBuffer},
    digest::Digest,
    index::Revocation,
    origin::{Origin, Uncounted, Unknown},
    principal::Principal,
    refusal::Refusal,
    secret::MAX_KEY_LEN,
};
use std::{fmt, net::IpAddr};

impl Store {
    /// Authenticates a request by all its `Authorization` header values. Runs in memory without
    /// allocating; its time depends neither on the number of keys nor on where two digests differ.
    ///
    /// The key is the user name of Basic authentication (RFC 7617), the password is empty or not
    /// set; [`Credentials`](crate::Credentials) adds `Bearer`. No value is [`Refusal::Missing`]. More than one value, even the same one twice, is
    /// [`Refusal::Ambiguous`]: another program in the chain could read the other value.
    ///
    /// ```
    /// # let store = portcullis::Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// // With the crate `http`: store.authenticate(headers.get_all(AUTHORIZATION).iter())
    /// let values = ["Basic bm90LWEta2V5Og=="];
    /// let refused = store.authenticate(values.iter()).unwrap_err();
    /// assert_eq!((refused.status(), refused.code()), (401, "unknown"));
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    ///
    /// A request counts towards the [rate](crate::Record::rate) of its key: authenticate it once.
    ///
    /// The address of the client is not known here, so a key with [networks](crate::Record::networks) is
    /// refused: use [`authenticate_from`](Self::authenticate_from).
    ///
    /// An `Option` is no iterator, so the first of several values cannot be passed by mistake:
    ///
    /// ```compile_fail,E0277
    /// # let store = portcullis::Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// let values = ["Basic bm90LWEta2V5Og=="];
    /// let refused = store.authenticate(values.first());
    /// # Ok::<(), portcullis::Error>(())
    /// ```
    pub fn authenticate(
        &self,
        values: impl Iterator<Item: AsRef<[u8]>>,
    ) -> Result<Principal, Refusal> {
        self.header_from(credential::only(values)?.as_ref(), Unknown)
    }

    /// [`authenticate`](Self::authenticate) for a request from this address, or from `None` if the address is
    /// not known.
    ///
    /// Behind a proxy, pass the address that a proxy of your own reports. A client can write any address into
    /// `X-Forwarded-For`.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(scope::catalogue::financial_data()).credentials(Credentials::basic().with_bearer()).in_memory()?;
    /// let networks = ["192.0.2.0/24".parse::<Network>()?].into_iter().collect();
    /// let new = NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never).with_networks(networks);
    /// let value = store.issue(new)?.secret.reveal(|text| format!("Bearer {text}"));
    /// let from = |address: &str| store.authenticate_from([&value].into_iter(), address.parse().ok());
    /// assert!(from("192.0.2.7").is_ok());
    /// assert_eq!(from("198.51.100.7").unwrap_err(), Refusal::Network);
    /// assert_eq!(store.authenticate([&value].into_iter()).unwrap_err(), Refusal::Network);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn authenticate_from(
        &self,
        values: impl Iterator<Item: AsRef<[u8]>>,
        address: Option<IpAddr>,
    ) -> Result<Principal, Refusal> {
        self.header_from(credential::only(values)?.as_ref(), address)
    }

    /// Authenticates one `Authorization` header value, where the host knows that the request has no
    /// other. Use [`authenticate`](Self::authenticate) for a request.
    pub fn authenticate_header(&self, authorization: &[u8]) -> Result<Principal, Refusal> {
        self.header_from(authorization, Unknown)
    }

    #[inline]
    fn header_from(&self, authorization: &[u8], origin: impl Origin) -> Result<Principal, Refusal> {
        match Encoded::find(authorization) {
            Ok(encoded) => self.authenticate_encoded(encoded, origin),
            Err(_) => self.authenticate_bearer(authorization, origin),
        }
    }

    /// Authenticates a request of a store that accepts a [header of its own](crate::Credentials): by all
    /// values of `Authorization` and all values of that header. The request must have one value in all.
    ///
    /// ```
    /// # use portcullis::*;
    /// let credentials = Credentials::basic().with_header(KeyHeader::new("X-API-Key")?);
    /// let store = Store::builder().credentials(credentials).in_memory()?;
    /// let issued = store.issue(NewKey::new("a", Grant::All, Expiry::Never))?;
    /// let key = issued.secret.reveal(|text| text.to_owned());
    /// let none = std::iter::empty::<&str>();
    /// assert!(store.authenticate_request(none, [&key].into_iter()).is_ok());
    /// let twice = store.authenticate_request(["Basic bm90LWEta2V5Og=="].iter(), [&key].into_iter());
    /// assert_eq!(twice.unwrap_err(), Refusal::Ambiguous);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn authenticate_request(
        &self,
        authorization: impl Iterator<Item: AsRef<[u8]>>,
        header: impl Iterator<Item: AsRef<[u8]>>,
    ) -> Result<Principal, Refusal> {
        self.request_from(authorization, header, Unknown)
    }

    /// [`authenticate_request`](Self::authenticate_request) for a request from this address.
    pub fn authenticate_request_from(
        &self,
        authorization: impl Iterator<Item: AsRef<[u8]>>,
        header: impl Iterator<Item: AsRef<[u8]>>,
        address: Option<IpAddr>,
    ) -> Result<Principal, Refusal> {
        self.request_from(authorization, header, address)
    }

    pub(crate) fn request_from(
        &self,
        authorization: impl Iterator<Item: AsRef<[u8]>>,
        header: impl Iterator<Item: AsRef<[u8]>>,
        origin: impl Origin,
    ) -> Result<Principal, Refusal> {
        if self.credentials.header().is_none() {
            return self.header_from(credential::only(authorization)?.as_ref(), origin);
        }
        match (credential::only(authorization), credential::only(header)) {
            (Err(Refusal::Missing), Err(Refusal::Missing)) => Err(Refusal::Missing),
            (Ok(value), Err(Refusal::Missing)) => self.header_from(value.as_ref(), origin),
            (Err(Refusal::Missing), Ok(value)) => {
                let key = credential::plain_key(value.as_ref().trim_ascii(), self.longest_key());
                self.key_from(key.ok_or(Refusal::Malformed)?, origin)
            }
            _ => Err(Refusal::Ambiguous),
        }
    }

    /// A value that is not Basic authentication. If the store does not accept Bearer, the refusal tells the
    /// operator whether the key is valid: the client only uses another scheme.
    #[cold]
    fn authenticate_bearer(
        &self,
        authorization: &[u8],
        origin: impl Origin,
    ) -> Result<Principal, Refusal> {
        match credential::bearer(authorization, MAX_KEY_LEN) {
            Some(key) => self.authenticate_token(key, origin),
            None if self.has_imported() => self.authenticate_long(authorization, origin),
            None => Err(Refusal::Malformed),
        }
    }

    // A separate function, as `authenticate_encoded`.
    #[inline(never)]
    fn authenticate_token(&self, key: &[u8], origin: impl Origin) -> Result<Principal, Refusal> {
        if self.credentials.bearer() {
            return self.key_from(key, origin);
        }
        if !self.prefix.begins(key) {
            return Err(Refusal::Malformed);
        }
        // Not `admit`: a refused request is no use of the key.
        let Core { gate, index, clock, seals, .. } = &**self.writer;
        let digest = seals.digester.digest(key);
        let address = origin.address();
        let is_valid = gate.pass(|| index.is_valid(&digest, address, || clock.now()))?;
        Err(if is_valid { Refusal::BearerNotAccepted } else { Refusal::Malformed })
    }

    // A separate function, so that the fast path of a refusal saves no registers for the rest.
    #[inline(never)]
    fn authenticate_encoded(
        &self,
        encoded: Encoded<'_>,
        origin: impl Origin,
    ) -> Result<Principal, Refusal> {
        let mut buffer = KeyBuffer::new();
        match encoded.read(&mut buffer) {
            Ok(user) => self.authenticate_user(user, origin),
            Err(_) => self.authenticate_imported_token(encoded.text(), origin),
        }
    }

    /// Looks up first, and validates the user-name syntax only on a miss: a hit is valid by
    /// construction.
    #[inline]
    fn authenticate_user(
        &self,
        presented: &[u8],
        origin: impl Origin,
    ) -> Result<Principal, Refusal> {
        self.key_from(presented, origin).map_err(|refusal| match refusal {
            Refusal::Unknown if !credential::is_user(presented) => Refusal::Malformed,
            refusal => refusal,
        })
    }

    /// Authenticates the text of a key that is not in a header.
    pub fn authenticate_key(&self, key: &[u8]) -> Result<Principal, Refusal> {
        self.key_from(key, Unknown)
    }

    /// [`authenticate_key`](Self::authenticate_key) for a request from this address.
    pub fn authenticate_key_from(
        &self,
        key: &[u8],
        address: Option<IpAddr>,
    ) -> Result<Principal, Refusal> {
        self.key_from(key, address)
    }

    /// Checks the text of a key for somebody else, such as a service that received it from this address. It
    /// does not count towards the [rate](crate::Record::rate) of the key.
    pub fn verify_key(&self, key: &[u8], address: Option<IpAddr>) -> Result<Principal, Refusal> {
        self.key_from(key, Uncounted(address))
    }

    fn key_from(&self, key: &[u8], origin: impl Origin) -> Result<Principal, Refusal> {
        if !self.prefix.begins(key) {
            return self.authenticate_imported(key, origin);
        }
        self.authenticate_digest(&self.writer.seals.digester.digest(key), origin)
    }

    /// Authenticates the text of a key, and returns a handle with which
    /// [`authenticate_again`](Self::authenticate_again) checks the key later.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
    /// # let issued = store.issue(NewKey::new("a", store.scopes(["api.read"])?, Expiry::Never))?;
    /// # let key = issued.secret.reveal(|text| text.to_owned());
    /// let (principal, handle) = store.authenticate_with_handle(key.as_bytes()).unwrap();
    /// assert!(store.authenticate_again(&handle).is_ok());
    /// store.revoke(principal.id())?;
    /// assert_eq!(store.authenticate_again(&handle).unwrap_err(), Refusal::Inactive);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn authenticate_with_handle(&self, key: &[u8]) -> Result<(Principal, KeyHandle), Refusal> {
        self.authenticate_with_handle_from(key, None)
    }

    /// [`authenticate_with_handle`](Self::authenticate_with_handle) for a request from this address.
    pub fn authenticate_with_handle_from(
        &self,
        key: &[u8],
        address: Option<IpAddr>,
    ) -> Result<(Principal, KeyHandle), Refusal> {
        if !self.prefix.begins(key) {
            return Err(Refusal::Unknown);
        }
        let digest = self.writer.seals.digester.digest(key);
        Ok((self.authenticate_digest(&digest, address)?, KeyHandle(digest)))
    }

    /// Authenticates the key of a handle as it is now.
    pub fn authenticate_again(&self, handle: &KeyHandle) -> Result<Principal, Refusal> {
        self.authenticate_again_from(handle, None)
    }

    /// [`authenticate_again`](Self::authenticate_again) for a request from this address. It is part of a
    /// session, so it does not count towards the [rate](crate::Record::rate) of the key.
    pub fn authenticate_again_from(
        &self,
        handle: &KeyHandle,
        address: Option<IpAddr>,
    ) -> Result<Principal, Refusal> {
        self.authenticate_digest(&handle.0, Uncounted(address))
    }

    /// Returns a watch of an authenticated key, for long work such as a stream or a socket. It is over
    /// at once when the key is revoked, deleted or narrowed below its rights at authentication, and when
    /// it expires. Short requests need none and pay nothing.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::builder().scopes(portcullis::scope::catalogue::financial_data()).in_memory()?;
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

// The models are built without base64.
#[cfg(test)]
#[cfg(not(any(shuttle, loom)))]
mod tests {
    use crate::{Credentials, Expiry, Grant, KeyHeader, NewKey, Refusal, Store};
    use base64::{Engine, engine::general_purpose::STANDARD};

    /// A store with a root key, and the key.
    fn store_and_key() -> (Store, String) {
        let store = Store::in_memory().unwrap();
        let issued = store.issue(NewKey::new("a", Grant::All, Expiry::Never)).unwrap();
        (store, issued.secret.reveal(str::to_owned))
    }

    fn basic(key: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{key}:")))
    }

    #[test]
    fn bearer_is_accepted_only_if_asked_for_and_then_like_basic() {
        let (store, key) = store_and_key();
        let id = store.authenticate_key(key.as_bytes()).unwrap().id();
        let bearer = |scheme: &str, key: &str| format!("{scheme} {key}");
        let accepting = store.clone().with_credentials(Credentials::basic().with_bearer());
        for value in [bearer("Bearer", &key), bearer("bEARER", &key), bearer("Bearer  ", &key)] {
            let refused = store.authenticate_header(value.as_bytes()).unwrap_err();
            assert_eq!(refused, Refusal::BearerNotAccepted, "{value}");
            assert_eq!(accepting.authenticate_header(value.as_bytes()).unwrap().id(), id);
        }
        assert_eq!(accepting.authenticate_header(basic(&key).as_bytes()).unwrap().id(), id);
        for value in [
            format!("Bearer{key}"),
            format!("Bearer\t{key}"),
            format!("Bearer {key} {key}"),
            format!("Bearer {key},"),
            format!("Bearer {key}:"),
            format!("Bearer {}", "x".repeat(65)),
            format!("Token {key}"),
            "Bearer".into(),
            "Bearer ".into(),
            key.clone(),
        ] {
            let refused = accepting.authenticate_header(value.as_bytes()).unwrap_err();
            assert!(
                [Refusal::Malformed, Refusal::Unknown].contains(&refused),
                "{value}: {refused}"
            );
            assert_eq!(
                store.authenticate_header(value.as_bytes()).unwrap_err(),
                Refusal::Malformed
            );
        }
        let unknown = format!("{}0", &key[..key.len() - 1]);
        let unknown = bearer("Bearer", if unknown == key { "pcl_x" } else { &unknown });
        assert_eq!(store.authenticate_header(unknown.as_bytes()).unwrap_err(), Refusal::Malformed);
        assert_eq!(
            accepting.authenticate_header(unknown.as_bytes()).unwrap_err(),
            Refusal::Unknown
        );
        // A revoked key would not have been valid.
        let valid = bearer("Bearer", &key);
        let other = store.issue(NewKey::new("b", Grant::All, Expiry::Never)).unwrap();
        store.revoke(id).unwrap();
        assert_eq!(store.authenticate_header(valid.as_bytes()).unwrap_err(), Refusal::Malformed);
        assert_eq!(accepting.authenticate_header(valid.as_bytes()).unwrap_err(), Refusal::Inactive);
        // A refused request is no use of the key.
        let other_key = other.secret.reveal(|text| bearer("Bearer", text));
        store.authenticate_header(other_key.as_bytes()).unwrap_err();
        assert_eq!(store.last_used(other.record.id), None);
    }

    #[test]
    fn header_of_its_own_is_read_only_if_asked_for_and_two_credentials_are_refused() {
        let (store, key) = store_and_key();
        let accepting = store.clone().with_credentials(
            Credentials::basic().with_header(KeyHeader::new("X-API-Key").unwrap()),
        );
        let of = |store: &Store, authorization: &[&str], own: &[&str]| {
            store.authenticate_request(authorization.iter(), own.iter()).map(|p| p.id())
        };
        let (basic, key) = (&*basic(&key), &*key);
        let id = of(&store, &[basic], &[]).unwrap();
        assert_eq!(of(&store, &[], &[key]), Err(Refusal::Missing));
        assert_eq!(of(&store, &[basic], &["ignored"]), Ok(id));
        assert_eq!(of(&accepting, &[], &[key]), Ok(id));
        assert_eq!(of(&accepting, &[], &[&format!(" {key}\t")]), Ok(id));
        assert_eq!(of(&accepting, &[basic], &[]), Ok(id));
        assert_eq!(of(&accepting, &[], &[]), Err(Refusal::Missing));
        for (authorization, own) in [
            (&[basic][..], &[key][..]),
            (&[basic], &[""]),
            (&[], &[key, key]),
            (&[basic, basic], &[]),
            (&[basic, basic], &[key]),
            (&[basic], &[key, key]),
        ] {
            assert_eq!(of(&accepting, authorization, own), Err(Refusal::Ambiguous));
        }
        for own in ["", " ", basic, &format!("{key}:"), &format!("{key} x"), &"x".repeat(65)] {
            assert_eq!(of(&accepting, &[], &[own]), Err(Refusal::Malformed), "{own}");
        }
        assert_eq!(of(&accepting, &[], &["pcl_x"]), Err(Refusal::Unknown));
    }
}
