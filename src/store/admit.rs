//! The decision about one digest, from memory.

use super::{core::Core, handle::Store};
use crate::{digest::Digest, origin::Origin, principal::Principal, refusal::Refusal};

impl Store {
    /// Not public: a digest is not a credential.
    #[expect(clippy::inline_always, reason = "a call on the hot path takes seven instructions")]
    #[inline(always)]
    pub(super) fn authenticate_digest(
        &self,
        digest: &Digest,
        origin: impl Origin,
    ) -> Result<Principal, Refusal> {
        let Core { gate, index, clock, .. } = &**self.writer;
        gate.pass(|| index.admit(digest, origin, clock))?
    }
}
