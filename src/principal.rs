//! Proof of authentication.

use crate::{
    id::KeyId,
    refusal::Refusal,
    scope::{Grant, Scope},
};

/// Proof that a valid key was presented; only [`Store::authenticate`](crate::Store::authenticate)
/// makes one.
///
/// It says what was true at that moment. Ask for it on each request and do not keep it: a kept
/// proof knows nothing of a later revocation.
///
/// ```
/// use portcullis::{scope::catalogue, Principal, Refusal};
/// fn read_ledger(caller: &Principal) -> Result<&'static str, Refusal> {
///     caller.require(&catalogue::API_READ)?;
///     Ok("entries")
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Principal {
    id: KeyId,
    grant: Grant,
}

impl Principal {
    pub(crate) fn new(id: KeyId, grant: Grant) -> Self {
        Self { id, grant }
    }

    /// The key that was presented.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What it is entitled to.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Passes if the key is entitled to `scope`, else the refusal for a 403.
    pub fn require(&self, scope: &Scope) -> Result<(), Refusal> {
        if self.grant.allows(scope) { Ok(()) } else { Err(Refusal::LacksScope(scope.clone())) }
    }
}
