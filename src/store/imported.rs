//! Authentication of imported keys. Only a text that is not of the store's own form comes here, and only
//! where such keys exist.

use super::{core::Core, handle::Store};
use crate::{
    credential,
    digest::Digest,
    id::KeyId,
    imported::{Imported, MAX_LEN, bytes_of_base64},
    origin::{Origin, Uncounted},
    principal::Principal,
    refusal::Refusal,
};
use std::net::IpAddr;
use zeroize::Zeroizing;

impl Store {
    /// Authenticates a text that is not of the store's own form.
    #[cold]
    #[inline(never)]
    pub(super) fn authenticate_imported(
        &self,
        key: &[u8],
        origin: impl Origin,
    ) -> Result<Principal, Refusal> {
        self.authenticate_foreign(key, origin.address(), origin.counts())
    }

    /// Not generic, so that the hot path stays the only one with its kind of origin.
    #[cold]
    #[inline(never)]
    fn authenticate_foreign(
        &self,
        key: &[u8],
        address: Option<IpAddr>,
        counts: bool,
    ) -> Result<Principal, Refusal> {
        for digest in self.imported_digests(key) {
            let outcome = if counts {
                self.authenticate_digest(&digest, address)
            } else {
                self.authenticate_digest(&digest, Uncounted(address))
            };
            match outcome {
                Err(Refusal::Unknown) => {}
                outcome => return outcome,
            }
        }
        Err(Refusal::Unknown)
    }

    /// Authenticates the base64 text of Basic authentication that cannot be that of an own key.
    #[cold]
    #[inline(never)]
    pub(super) fn authenticate_imported_token(
        &self,
        token: &[u8],
        origin: impl Origin,
    ) -> Result<Principal, Refusal> {
        if !self.has_imported() || token.len() > MAX_LEN.div_ceil(3) * 4 + 4 {
            return Err(Refusal::Malformed);
        }
        let text = str::from_utf8(token).map_err(|_| Refusal::Malformed)?;
        let decoded = Zeroizing::new(bytes_of_base64(text).ok_or(Refusal::Malformed)?);
        let user = decoded.strip_suffix(b":").unwrap_or(&decoded);
        let is_user = (1..=MAX_LEN).contains(&user.len()) && credential::is_user(user);
        if is_user { self.authenticate_imported(user, origin) } else { Err(Refusal::Malformed) }
    }

    /// Authenticates a header value whose key is too long for an own one.
    #[cold]
    #[inline(never)]
    pub(super) fn authenticate_long(
        &self,
        authorization: &[u8],
        origin: impl Origin,
    ) -> Result<Principal, Refusal> {
        if let Some(token) = credential::long_token(authorization) {
            return self.authenticate_imported_token(token, origin);
        }
        let key = credential::bearer(authorization, MAX_LEN).ok_or(Refusal::Malformed)?;
        if self.credentials.bearer() {
            self.authenticate_imported(key, origin)
        } else {
            Err(Refusal::Malformed)
        }
    }

    /// The longest key that this store accepts, in bytes.
    pub(super) fn longest_key(&self) -> usize {
        if self.has_imported() { MAX_LEN } else { crate::secret::MAX_KEY_LEN }
    }

    pub(super) fn has_imported(&self) -> bool {
        self.writer.index.imported_kinds() != 0
    }

    /// The id of the key with this text, whether it is valid or not: from the text of an own key, or by the
    /// digest of an imported one. The text of an own key is not authenticated.
    pub fn id_of_key(&self, key: &str) -> Option<KeyId> {
        if self.prefix.begins(key.as_bytes()) {
            return self.prefix.id_within(key);
        }
        let index = &self.writer.index;
        self.imported_digests(key.as_bytes()).into_iter().find_map(|digest| index.id_of(&digest))
    }

    /// The digests under which an imported key with this text may be stored.
    fn imported_digests(&self, key: &[u8]) -> Vec<Digest> {
        let Core { index, seals, .. } = &**self.writer;
        let kinds = index.imported_kinds();
        let has = |kind: Imported| kinds & kind.bit() != 0;
        let mut digests = Vec::new();
        if kinds == 0 || key.len() > MAX_LEN {
            return digests;
        }
        if has(Imported::Plaintext) {
            digests.push(seals.digester.digest(key));
        }
        add_sha2(key, has, &mut digests);
        digests
    }
}

/// Adds the digests by SHA-2.
#[cfg(feature = "import")]
fn add_sha2(key: &[u8], has: impl Fn(Imported) -> bool, digests: &mut Vec<Digest>) {
    use sha2::{Digest as _, Sha256, Sha512};
    if has(Imported::Sha256) {
        digests.push(Digest::from_bytes(Sha256::digest(key).into()));
    }
    if has(Imported::Sha256AfterBar)
        && let Some(bar) = key.iter().position(|byte| *byte == b'|')
        && let Some(rest) = key.get(bar + 1..)
    {
        digests.push(Digest::from_bytes(Sha256::digest(rest).into()));
    }
    if has(Imported::Sha512([0; 32])) {
        let whole: [u8; 64] = Sha512::digest(key).into();
        digests.extend(whole.first_chunk().map(|first| Digest::from_bytes(*first)));
    }
}

/// Without the feature `import` no key has such a digest.
#[cfg(not(feature = "import"))]
fn add_sha2(_: &[u8], _: impl Fn(Imported) -> bool, _: &mut Vec<Digest>) {}
