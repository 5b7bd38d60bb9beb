//! The standing of a key: the fields that decide.

use super::{Expiry, Record};
use crate::{networks::Networks, rate::Rate, refusal::Refusal, scope::Grant, time::Timestamp};
use std::net::IpAddr;

/// The fields of a record that decide whether its key is accepted. Standings form a lattice: the meet
/// of two accepts only what both accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) active: bool,
    pub(crate) grant: Grant,
    pub(crate) expiry: Expiry,
    pub(crate) networks: Networks,
    pub(crate) rate: Option<Rate>,
}

/// Checks whether a key is active and not expired. The clock is read only if the key can expire.
#[inline]
pub(crate) fn check_state(
    active: bool,
    expiry: Expiry,
    now: impl FnOnce() -> Timestamp,
) -> Result<(), Refusal> {
    if !active {
        return Err(Refusal::Inactive);
    }
    if expiry != Expiry::Never && expiry.has_come(now()) {
        return Err(Refusal::Expired);
    }
    Ok(())
}

impl Record {
    /// Whether this is an active root key that never expires.
    pub(crate) fn is_lasting_root(&self) -> bool {
        self.standing().is_lasting_root()
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing {
            active: self.active,
            grant: self.grant,
            expiry: self.expiry,
            networks: self.networks.clone(),
            rate: self.rate,
        }
    }
}

impl Standing {
    /// Checks a key of this standing that is used from this address. The clock is read only if the key can
    /// expire. Its requests are not counted.
    pub(crate) fn check(
        &self,
        address: Option<IpAddr>,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<(), Refusal> {
        check_state(self.active, self.expiry, now)?;
        if self.networks.admit(address) { Ok(()) } else { Err(Refusal::Network) }
    }

    /// Whether the key has a restriction beside its scopes and its expiry.
    pub(crate) fn is_limited(&self) -> bool {
        !self.networks.is_any() || self.rate.is_some()
    }

    /// Whether it is that of an active root key that never expires and has no limits.
    pub(crate) fn is_lasting_root(&self) -> bool {
        self.active
            && self.grant == Grant::All
            && self.expiry == Expiry::Never
            && !self.is_limited()
    }

    pub(crate) fn meet(self, other: &Self) -> Self {
        Self {
            active: self.active && other.active,
            grant: self.grant.meet(other.grant),
            expiry: self.expiry.min(other.expiry),
            networks: self.networks.meet(&other.networks),
            rate: Rate::meet(self.rate, other.rate),
        }
    }

    /// Whether the other accepts everything that this one accepts.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.active <= other.active
            && self.grant.is_within(&other.grant)
            && self.expiry <= other.expiry
            && self.networks.is_within(&other.networks)
            && Rate::is_within(self.rate, other.rate)
    }
}
