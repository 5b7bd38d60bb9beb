//! Admission control: how many requests and how many bytes of unfinished bodies each client may have in
//! flight.
//!
//! A valid key has a share of its own that no other client can use, and beyond it a part of a shared
//! pool. All other requests, logins and sessions included, count for their source network, in separate
//! pools. So a flood of requests without keys does not affect valid keys.
//!
//! | account | condition | a request is | body bytes |
//! |---|---|---|---|
//! | valid key | its share is free | admitted from its share | at most 4 MiB of the key |
//! | valid key | its share is used up, the pool is free | admitted from the pool, at most 256 of the key | the same |
//! | valid key | its part or the whole pool is used up | refused | |
//! | source | the pool of other requests is free | admitted, at most 64 of the source | at most 4 MiB of the source, 32 MiB in all |
//! | source | its part or the whole pool is used up | refused | |
//! | any | the body would exceed the bytes | refused | none reserved |
//!
//! | state | event | effect |
//! |---|---|---|
//! | admitted | the response is sent, or the connection ends | the permit is dropped; the share or the pool has room again |
//! | body reserved | the body is read or dropped | the reservation is dropped and its bytes are returned |
//! | account with nothing in flight | | its entry is removed, so the limits bound the memory |

use super::overload::Overload;
use crate::source::source_network;
use portcullis::KeyId;
use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// Requests in flight that each valid key may always have.
const KEY_SHARE: usize = 16;
/// Requests in flight of all valid keys beyond their shares.
const SHARED_REQUESTS: usize = 1024;
/// The requests of the shared pool that one key may have.
const MAX_SHARED_OF_KEY: usize = SHARED_REQUESTS / 4;
/// Requests in flight without a valid key.
const OTHER_REQUESTS: usize = 512;
/// Bytes of unfinished bodies of requests without a valid key.
const OTHER_BYTES: usize = 32 << 20;
/// The requests without a valid key that one source may have.
const MAX_REQUESTS_OF_SOURCE: usize = OTHER_REQUESTS / 8;
/// The bytes of unfinished bodies without a valid key that one source may have.
const MAX_BYTES_OF_SOURCE: usize = OTHER_BYTES / 8;
/// Bytes of unfinished bodies of each valid key.
const KEY_BYTES: usize = 4 << 20;
/// The number of locks among which the accounts are divided.
const SHARDS: usize = 32;

/// The client that a request counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Account {
    Key(KeyId),
    /// The address, or for IPv6 the network.
    Source(IpAddr),
}

impl Account {
    /// Returns the account of a request without a valid key.
    pub(crate) fn of_source(source: Option<IpAddr>) -> Self {
        let source = source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Self::Source(source_network(source))
    }
}

/// The requests and bytes that one account has in flight.
#[derive(Debug, Default, PartialEq, Eq)]
struct Load {
    own: usize,
    pooled: usize,
    bytes: usize,
}

/// The remainder of a limit that several accounts share.
struct Pool(AtomicUsize);

impl Pool {
    fn take(&self, count: usize) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |free| free.checked_sub(count)).is_ok()
    }

    fn release(&self, count: usize) {
        self.0.fetch_add(count, Relaxed);
    }
}

type Shard = Mutex<HashMap<Account, Load>>;

/// The limits, and the requests and bytes in flight.
pub(crate) struct Admission {
    /// Only accounts with something in flight, so that the limits bound the memory.
    shards: [Shard; SHARDS],
    hasher: RandomState,
    shared_requests: Pool,
    other_requests: Pool,
    other_bytes: Pool,
}

impl Admission {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: Default::default(),
            hasher: RandomState::new(),
            shared_requests: Pool(AtomicUsize::new(SHARED_REQUESTS)),
            other_requests: Pool(AtomicUsize::new(OTHER_REQUESTS)),
            other_bytes: Pool(AtomicUsize::new(OTHER_BYTES)),
        })
    }

    /// Admits a request, unless a limit is reached.
    pub(crate) fn admit(self: &Arc<Self>, account: Account) -> Result<Permit, Overload> {
        let is_pooled = self.update_load(account, |load| {
            let (max, pool, account_limit, pool_limit) = match account {
                Account::Key(_) if load.own < KEY_SHARE => {
                    load.own += 1;
                    return Ok(false);
                }
                Account::Key(_) => (
                    MAX_SHARED_OF_KEY,
                    &self.shared_requests,
                    Overload::KeyRequests,
                    Overload::SharedRequests,
                ),
                Account::Source(_) => (
                    MAX_REQUESTS_OF_SOURCE,
                    &self.other_requests,
                    Overload::SourceRequests,
                    Overload::OtherRequests,
                ),
            };
            if load.pooled >= max {
                return Err(account_limit);
            }
            if !pool.take(1) {
                return Err(pool_limit);
            }
            load.pooled += 1;
            Ok(true)
        })?;
        Ok(Permit { admission: Arc::clone(self), account, is_pooled })
    }

    /// Reserves memory for an unfinished body.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        account: Account,
        bytes: usize,
    ) -> Result<Reserved, Overload> {
        self.update_load(account, |load| {
            let after = load.bytes + bytes;
            let refused = match account {
                Account::Key(_) => (after > KEY_BYTES).then_some(Overload::KeyBodies),
                Account::Source(_) if after > MAX_BYTES_OF_SOURCE => Some(Overload::SourceBodies),
                Account::Source(_) => {
                    (!self.other_bytes.take(bytes)).then_some(Overload::OtherBodies)
                }
            };
            if let Some(overload) = refused {
                return Err(overload);
            }
            load.bytes = after;
            Ok(())
        })?;
        Ok(Reserved { admission: Arc::clone(self), account, bytes })
    }

    fn update_load<T>(&self, account: Account, change: impl FnOnce(&mut Load) -> T) -> T {
        let mut accounts = self.shard(account);
        let load = accounts.entry(account).or_default();
        let outcome = change(load);
        if *load == Load::default() {
            accounts.remove(&account);
        }
        outcome
    }

    fn shard(&self, account: Account) -> MutexGuard<'_, HashMap<Account, Load>> {
        let [first, ..] = &self.shards;
        let index = self.hasher.hash_one(account) % SHARDS as u64;
        let shard = usize::try_from(index).ok().and_then(|index| self.shards.get(index));
        shard.unwrap_or(first).lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to one request in flight, until its response is sent.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    account: Account,
    is_pooled: bool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Self { admission, account, is_pooled } = self;
        admission.update_load(*account, |load| {
            let count = if *is_pooled { &mut load.pooled } else { &mut load.own };
            *count = count.saturating_sub(1);
        });
        match account {
            Account::Key(_) if *is_pooled => admission.shared_requests.release(1),
            Account::Key(_) => {}
            Account::Source(_) => admission.other_requests.release(1),
        }
    }
}

/// The memory reserved for a body, until the body was read or dropped.
pub(crate) struct Reserved {
    admission: Arc<Admission>,
    account: Account,
    bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let Self { admission, account, bytes } = self;
        admission.update_load(*account, |load| load.bytes = load.bytes.saturating_sub(*bytes));
        if matches!(account, Account::Source(_)) {
            admission.other_bytes.release(*bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Account {
        Account::Key(format!("key_{n:011}").parse().unwrap())
    }

    fn source(n: u8) -> Account {
        Account::of_source(Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))))
    }

    /// Admits requests of this account until the first refusal.
    fn fill(admission: &Arc<Admission>, account: Account) -> (Vec<Permit>, Overload) {
        let mut permits = Vec::new();
        loop {
            match admission.admit(account) {
                Ok(permit) => permits.push(permit),
                Err(overload) => return (permits, overload),
            }
        }
    }

    fn accounts(admission: &Admission) -> usize {
        admission.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    #[test]
    fn each_key_keeps_its_share_while_others_fill_the_shared_pool() {
        let admission = Admission::new();
        let greedy: Vec<_> = (0..8).map(|n| fill(&admission, key(n))).collect();
        assert_eq!(greedy[0].0.len(), KEY_SHARE + MAX_SHARED_OF_KEY);
        assert_eq!(greedy[0].1, Overload::KeyRequests);
        assert_eq!(greedy[7].0.len(), KEY_SHARE);
        assert_eq!(greedy[7].1, Overload::SharedRequests);
        assert_eq!(fill(&admission, key(9)).0.len(), KEY_SHARE);
        drop(greedy);
        assert_eq!(fill(&admission, key(9)).0.len(), KEY_SHARE + MAX_SHARED_OF_KEY);
    }

    #[test]
    fn requests_without_a_key_do_not_count_against_keys_or_other_sources() {
        let admission = Admission::new();
        let (flood, why) = fill(&admission, source(1));
        assert_eq!((flood.len(), why), (MAX_REQUESTS_OF_SOURCE, Overload::SourceRequests));
        assert_eq!(fill(&admission, source(2)).0.len(), MAX_REQUESTS_OF_SOURCE);
        let others: Vec<_> = (2..9).map(|n| fill(&admission, source(n))).collect();
        assert_eq!(fill(&admission, source(99)).1, Overload::OtherRequests);
        assert_eq!(fill(&admission, key(1)).0.len(), KEY_SHARE + MAX_SHARED_OF_KEY);
        drop((flood, others));
        assert_eq!(accounts(&admission), 0);
    }

    #[test]
    fn unfinished_bodies_are_bounded_for_each_account_and_in_total() {
        let admission = Admission::new();
        let fill = |account| {
            let mut reserved = Vec::new();
            loop {
                match admission.reserve(account, 64 << 10) {
                    Ok(more) => reserved.push(more),
                    Err(overload) => return (reserved, overload),
                }
            }
        };
        let (own, why) = fill(key(1));
        assert_eq!((own.len(), why), (KEY_BYTES >> 16, Overload::KeyBodies));
        let sources: Vec<_> = (0..8).map(|n| fill(source(n))).collect();
        assert_eq!(sources[0].0.len(), MAX_BYTES_OF_SOURCE >> 16);
        assert_eq!(sources[0].1, Overload::SourceBodies);
        assert_eq!(fill(source(99)).1, Overload::OtherBodies);
        assert_eq!(fill(key(2)).0.len(), KEY_BYTES >> 16);
        drop((own, sources));
        assert_eq!(accounts(&admission), 0);
        assert_eq!(fill(source(99)).0.len(), MAX_BYTES_OF_SOURCE >> 16);
    }

    #[test]
    fn ipv6_addresses_of_one_network_are_one_source() {
        let of = |text: &str| Account::of_source(Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
