//! The reach of a key: the keys that it created, its successors, and its entries in the audit log.
//!
//! The records name the creator of each key. If a creator was deleted, its record is gone, and only the audit
//! log knows what it created: the newest [`MAX_SEARCHED`] entries are searched for that.

use super::Acting;
use crate::{
    audit_entry::{Act, Attempt, AuditEntry},
    error::Error,
    id::KeyId,
    record::{Actor, Record},
    scope::catalogue::ADMIN_KEY_LIST,
    store::rules::Authority,
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

/// How many entries of the audit log are searched.
const MAX_SEARCHED: u64 = 10_000;
const BATCH: usize = 500;
/// How many entries of each kind are returned.
const MAX_ENTRIES: usize = 100;
/// How often a group is read again after its keys were revoked, for keys that were created meanwhile.
const MAX_PASSES: usize = 5;

/// The reach of a key. Created by [`Acting::reach_of`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyReach {
    /// The key.
    pub key: Arc<Record>,
    /// The keys that it created, by rotation too, the keys that those created, and so on. A creator comes
    /// before its keys.
    pub created: Vec<Arc<Record>>,
    /// Such keys that were deleted.
    pub deleted: Vec<KeyId>,
    /// The key that replaced it, the key that replaced that one, and so on.
    pub successors: Vec<Arc<Record>>,
    /// Its acts.
    pub acts: KeyEntries,
    /// The acts on it, its own included.
    pub changes: KeyEntries,
}

/// Entries of the audit log about one key, newest first.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct KeyEntries {
    /// At most 100 entries.
    pub entries: Vec<AuditEntry>,
    /// Whether these are all. Older entries may exist if it is false.
    pub is_complete: bool,
}

/// Keys that can be revoked together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReachGroup {
    /// [`KeyReach::created`].
    Created,
    /// [`KeyReach::successors`].
    Successors,
}

/// The result of revoking a group.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RevokedGroup {
    /// The keys that were active and are revoked now.
    pub revoked: Vec<KeyId>,
    /// The keys that could not be revoked, and why.
    pub failed: Vec<(KeyId, Error)>,
}

impl KeyReach {
    /// Returns the keys of a group.
    pub fn group(&self, group: ReachGroup) -> &[Arc<Record>] {
        match group {
            ReachGroup::Created => &self.created,
            ReachGroup::Successors => &self.successors,
        }
    }
}

/// The newest of the entries that were found.
#[derive(Default)]
struct Newest {
    entries: VecDeque<AuditEntry>,
    is_truncated: bool,
}

impl Newest {
    fn push(&mut self, entry: AuditEntry) {
        if self.entries.len() == MAX_ENTRIES {
            self.entries.pop_front();
            self.is_truncated = true;
        }
        self.entries.push_back(entry);
    }

    fn finish(self, is_complete: bool) -> KeyEntries {
        let is_complete = is_complete && !self.is_truncated;
        KeyEntries { entries: self.entries.into_iter().rev().collect(), is_complete }
    }
}

/// The keys that each key created.
type Created = HashMap<KeyId, Vec<KeyId>>;

impl Acting<'_> {
    /// Returns the reach of a key: what to look at, and what to revoke, if the key leaked. An actor that is a
    /// key needs the scope `admin.key.list`. Reads all records and the newest 10,000 entries of the audit log.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// # let new = || -> Result<NewKey, Error> {
    /// #     Ok(NewKey::new("a", store.scopes(["admin.key.create"])?, Expiry::Never))
    /// # };
    /// let leaked = store.issue(new()?)?.record.id;
    /// let made = store.acting_as(Actor::Key(leaked)).issue(new()?)?.record.id;
    /// let acting = store.acting_as(Actor::Host);
    /// assert_eq!(acting.reach_of(leaked)?.created[0].id, made);
    /// assert_eq!(acting.revoke_group(leaked, ReachGroup::Created)?.revoked, [made]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn reach_of(&self, id: KeyId) -> Result<KeyReach, Error> {
        let authority = self.require(Attempt::List, Some(id), &ADMIN_KEY_LIST)?;
        let key = self.find(&authority, id)?;
        let mut created = Created::new();
        let (acts, changes) = self.entries_of(id, &mut created)?;
        let (created, deleted) = self.created_by(&authority, id, created);
        let successors = self.successors_of(&authority, &key);
        Ok(KeyReach { key, created, deleted, successors, acts, changes })
    }

    /// Revokes the active keys of a group. Revoke the key itself before, so that it creates no more. A key
    /// that cannot be revoked does not stop the others.
    pub fn revoke_group(&self, id: KeyId, group: ReachGroup) -> Result<RevokedGroup, Error> {
        let (mut done, mut tried) = (RevokedGroup::default(), HashSet::new());
        let mut reach = self.reach_of(id)?;
        for _ in 0..MAX_PASSES {
            let active = reach.group(group).iter().filter(|record| record.active);
            let mut left: Vec<_> =
                active.map(|record| record.id).filter(|key| tried.insert(*key)).collect();
            if left.is_empty() {
                break;
            }
            // The report has the keys in the order in which they are revoked.
            left.sort_by_key(|key| Actor::Key(*key) == self.actor);
            for (key, outcome) in left.iter().copied().zip(self.revoke_all(&left)) {
                match outcome {
                    Ok(_) => done.revoked.push(key),
                    Err(error) => done.failed.push((key, error)),
                }
            }
            // The actor may have revoked itself. The result still says what was done.
            let Ok(again) = self.reach_of(id) else { break };
            reach = again;
        }
        Ok(done)
    }

    /// Reads the entries in which a key is the actor, and those about it. Notes who created which key.
    fn entries_of(
        &self,
        id: KeyId,
        created: &mut Created,
    ) -> Result<(KeyEntries, KeyEntries), Error> {
        let (mut acts, mut changes) = (Newest::default(), Newest::default());
        let mut after = self.audit_batch(u64::MAX, 0)?.newest.saturating_sub(MAX_SEARCHED);
        let mut is_complete = after == 0;
        loop {
            let batch = self.audit_batch(after, BATCH)?;
            is_complete &= batch.pruned_through.is_none();
            if batch.last == after {
                break;
            }
            after = batch.last;
            for entry in batch.entries {
                let made = match entry.act {
                    Act::Create => entry.key,
                    Act::Rotate { into } => Some(into),
                    _ => None,
                };
                if let (Some(made), Actor::Key(maker)) = (made, entry.actor) {
                    created.entry(maker).or_default().push(made);
                }
                // The key does not occur before its creation.
                is_complete |= made == Some(id);
                if made == Some(id) || entry.key == Some(id) {
                    changes.push(entry.clone());
                }
                if entry.actor == Actor::Key(id) {
                    acts.push(entry);
                }
            }
        }
        Ok((acts.finish(is_complete), changes.finish(is_complete)))
    }

    /// Follows the creators down from a key. Returns the records of the keys that exist for the actor, and the
    /// ids of the others.
    fn created_by(
        &self,
        authority: &Authority,
        id: KeyId,
        mut created: Created,
    ) -> (Vec<Arc<Record>>, Vec<KeyId>) {
        for record in self.store.records() {
            if let Actor::Key(maker) = record.created_by
                && authority.sees(record.owner.as_deref())
            {
                created.entry(maker).or_default().push(record.id);
            }
        }
        let (mut records, mut deleted) = (Vec::new(), Vec::new());
        let (mut seen, mut makers) = (HashSet::from([id]), VecDeque::from([id]));
        while let Some(maker) = makers.pop_front() {
            for key in created.remove(&maker).unwrap_or_default() {
                if !seen.insert(key) {
                    continue;
                }
                match self.store.get(key) {
                    Ok(record) if authority.sees(record.owner.as_deref()) => {
                        records.push(self.shown(record));
                        makers.push_back(key);
                    }
                    // A key that now has another owner does not exist for the actor, nor do its keys.
                    Ok(_) => deleted.push(key),
                    Err(_) => {
                        deleted.push(key);
                        makers.push_back(key);
                    }
                }
            }
        }
        (records, deleted)
    }

    fn successors_of(&self, authority: &Authority, key: &Record) -> Vec<Arc<Record>> {
        let (mut successors, mut next) = (Vec::new(), key.replaced_by);
        while let Some(record) = next.and_then(|id| self.find(authority, id).ok()) {
            next = record.replaced_by;
            successors.push(record);
        }
        successors
    }
}
