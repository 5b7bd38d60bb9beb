//! Encodes and decodes the scopes of a store.

use super::{
    DbKey, FORMAT, close, damaged, open, pack, pack_as, stored::StoredScope, unpack, unpack_as,
};
use crate::{
    digest::Seal,
    error::Error,
    scope::{NumberedScope, Offer, Scope},
};

/// The format of a scope that has a description, or that was added to the store or hidden.
pub(super) const DESCRIBED_SCOPE_FORMAT: u8 = 2;

/// Encodes a scope. One that has only its name keeps the format that earlier versions read.
pub(crate) fn encode_scope(
    scope: &NumberedScope,
    number: u8,
    seal: &Seal,
) -> Result<Vec<u8>, Error> {
    let body = if scope.description.is_empty() && scope.offer == Offer::ByHost {
        pack(&scope.scope.as_str())?
    } else {
        pack_as(DESCRIBED_SCOPE_FORMAT, &StoredScope::from(scope))?
    };
    Ok(close(body, DbKey::Scope(number), seal))
}

pub(crate) fn decode_scope(frame: &[u8], number: u8, seal: &Seal) -> Result<NumberedScope, Error> {
    let key = DbKey::Scope(number);
    let body = open(frame, key, seal)?.0;
    if body.first() == Some(&FORMAT) {
        let name: &str = unpack(body, key)?;
        return Ok(name.parse::<Scope>().map_err(|_| damaged(key))?.into());
    }
    let stored: StoredScope<'_> = unpack_as(DESCRIBED_SCOPE_FORMAT, body, key)?;
    stored.into_numbered().ok_or_else(|| damaged(key))
}
