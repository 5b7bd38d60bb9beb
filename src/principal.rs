//! The proof that a request was authenticated with a valid key.

use crate::{
    id::KeyId,
    refusal::Refusal,
    scope::{Grant, Scope},
};
use std::net::IpAddr;

/// Proof that a valid key was presented. Only [`Store::authenticate`](crate::Store::authenticate)
/// creates one.
///
/// It holds at the time of the authentication. Authenticate each request and do not keep the proof: it
/// does not reflect a later revocation.
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
    /// The address of the request, of a key with networks or a rate only.
    address: Option<IpAddr>,
}

impl Principal {
    pub(crate) fn new(id: KeyId, grant: Grant) -> Self {
        Self { id, grant, address: None }
    }

    /// The principal of a request from this address.
    pub(crate) fn at(self, address: Option<IpAddr>) -> Self {
        Self { address, ..self }
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Returns the id of the presented key.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Returns the scopes of the key.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Checks that the key has `scope`. The refusal is for a 403 response.
    pub fn require(&self, scope: &Scope) -> Result<(), Refusal> {
        if self.grant.allows(scope) { Ok(()) } else { Err(Refusal::LacksScope(scope.clone())) }
    }
}
