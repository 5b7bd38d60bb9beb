//! The decisions after a backup, gathered from the audit log and applied to each restored record.
//!
//! A restored key is accepted only if the backup and every later change allow it. So a later
//! revocation holds, but a later permission does not return by itself: a forged audit log could
//! only revoke. Name, owner and metadata follow the audit log.

use crate::{
    audit_entry::{Act, AuditEntry},
    id::KeyId,
    networks::Networks,
    policy::{Policy, PolicyState},
    rate::Rate,
    record::{Actor, Change, Expiry, Metadata, Record},
    scope::{Grant, NumberedScope, Offer, Scope},
    time::Timestamp,
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A change that was made after the backup was taken, and its effect on the new store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaterChange {
    /// The entry of the audit log that records the change.
    pub sequence: u64,
    /// The key.
    pub key: KeyId,
    /// The time of the change.
    pub at: Timestamp,
    /// The actor of the change.
    pub by: Actor,
    /// The effect on the new store.
    pub effect: LaterEffect,
}

/// The effect of a later change on the new store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaterEffect {
    /// The change revoked something, or changed a name, an owner or metadata: the new store has it.
    Applied,
    /// The key was deleted: it is not in the new store.
    Deleted,
    /// The change granted something, which the key does not have now: grant it again if it is wanted.
    NotGranted,
    /// The key was created after the backup, which lacks its digest: issue another key.
    Lost,
}

/// All later decisions, by key.
#[derive(Default)]
pub(super) struct Decisions {
    keys: HashMap<KeyId, Decided>,
    created: HashSet<KeyId>,
    pub(super) changes: Vec<LaterChange>,
    pub(super) scopes: LaterScopes,
}

/// The scopes of the later entries.
#[derive(Default)]
pub(super) struct LaterScopes {
    /// One more than the highest number.
    pub(super) length: usize,
    added: BTreeMap<usize, NumberedScope>,
    hidden: HashSet<Scope>,
    /// The newest policy, its number, and when it was set.
    policy: Option<(usize, Policy, Timestamp)>,
}

impl LaterScopes {
    fn add_number(&mut self, number: usize) {
        self.length = self.length.max(number + 1);
    }

    fn add(&mut self, entry: &AuditEntry) {
        match &entry.act {
            Act::AddScope { scope, number, description } => {
                let (scope, description) = (scope.clone(), description.clone());
                let added = NumberedScope { scope, description, offer: Offer::Always };
                self.added.entry(usize::from(*number)).or_insert(added);
                self.add_number(usize::from(*number));
            }
            Act::SetPolicy { policy, number } => {
                self.policy = Some((usize::from(*number), *policy, entry.at));
                self.add_number(usize::from(*number));
            }
            Act::HideScope { scope } => {
                self.hidden.insert(scope.clone());
            }
            _ => {}
        }
    }

    /// Names the scopes that were added after the backup, and hides those that were hidden. A scope that
    /// was offered again stays hidden.
    pub(super) fn apply(&self, names: &mut [NumberedScope]) {
        for (number, name) in names.iter_mut().enumerate() {
            if let Some((stored, policy, at)) = self.policy
                && stored == number
            {
                let known = PolicyState::read(name).unwrap_or_default();
                *name = known.with_policy(policy, at).stored();
            }
            match self.added.get(&number) {
                Some(added) if name.offer == Offer::ByHost => name.clone_from(added),
                _ => {}
            }
            if self.hidden.contains(&name.scope) {
                name.offer = Offer::Never;
            }
        }
    }
}

#[derive(Default)]
struct Decided {
    deleted: bool,
    inactive_since: Option<Timestamp>,
    grant: Option<Grant>,
    expiry: Option<Expiry>,
    replaced_by: Option<KeyId>,
    name: Option<String>,
    owner: Option<Option<String>>,
    metadata: Option<Metadata>,
    /// The meet of all later networks, and the newest ones.
    networks: Option<(Networks, Networks)>,
    rate: Option<Rate>,
    last: Option<(u64, Timestamp, Actor)>,
}

impl Decisions {
    /// Adds the decisions of the next entry.
    pub(super) fn add(&mut self, entry: AuditEntry) {
        for grant in [entry.before.grant, entry.after.grant].into_iter().flatten() {
            if let Grant::Scopes(set) = grant
                && let Some(last) = set.numbers().last()
            {
                self.scopes.add_number(last);
            }
        }
        self.scopes.add(&entry);
        let Some(key) = entry.key else { return };
        let effect = match entry.act {
            Act::Create => {
                self.created.insert(key);
                LaterEffect::Lost
            }
            Act::Rotate { into } => {
                self.created.insert(into);
                self.record(&entry, into, LaterEffect::Lost);
                LaterEffect::Applied
            }
            Act::Delete => LaterEffect::Deleted,
            Act::Update if allows(&entry) => LaterEffect::NotGranted,
            Act::Update => LaterEffect::Applied,
            _ => return,
        };
        // The later changes of a lost key are lost as well.
        if effect == LaterEffect::Lost || !self.created.contains(&key) {
            self.record(&entry, key, effect);
        }
        self.keys.entry(key).or_default().add(entry);
    }

    fn record(&mut self, entry: &AuditEntry, key: KeyId, effect: LaterEffect) {
        let AuditEntry { sequence, at, actor: by, .. } = *entry;
        self.changes.push(LaterChange { sequence, key, at, by, effect });
    }

    /// Applies the later decisions to a record. Returns it and whether it changed; `None` if the key
    /// was deleted.
    pub(super) fn restrict(&self, record: Record) -> Option<(Record, bool)> {
        match self.keys.get(&record.id) {
            None => Some((record, false)),
            Some(decided) if decided.deleted => None,
            Some(decided) => Some((decided.restrict(record), true)),
        }
    }
}

impl Decided {
    fn add(&mut self, entry: AuditEntry) {
        // Names every field: a restore would silently undo a change to one that is not handled here.
        let Change { name, grant, active, expiry, owner, metadata, networks, rate } = entry.after;
        self.deleted |= entry.act == Act::Delete;
        if let Act::Rotate { into } = entry.act {
            self.replaced_by = Some(into);
        }
        if active == Some(false) {
            self.inactive_since.get_or_insert(entry.at);
        }
        if let Some(grant) = grant {
            self.grant = Some(self.grant.map_or(grant, |earlier| earlier.meet(grant)));
        }
        if let Some(expiry) = expiry {
            self.expiry = Some(self.expiry.map_or(expiry, |earlier| earlier.min(expiry)));
        }
        if let Some(networks) = networks {
            let meet = self.networks.as_ref().map(|(earlier, _)| earlier.meet(&networks));
            self.networks = Some((meet.unwrap_or_else(|| networks.clone()), networks));
        }
        self.rate = Rate::meet(self.rate, rate.flatten());
        self.name = name.or(self.name.take());
        self.owner = owner.or(self.owner.take());
        self.metadata = metadata.or(self.metadata.take());
        self.last = Some((entry.sequence, entry.at, entry.actor));
    }

    fn restrict(&self, mut record: Record) -> Record {
        if let (Some(since), true) = (self.inactive_since, record.active) {
            (record.active, record.inactive_since) = (false, Some(since));
        }
        // `meet` keeps the catalogue of its receiver: the record's set is of the new store's.
        record.grant = self.grant.map_or(record.grant, |later| record.grant.meet(later));
        record.expiry = self.expiry.map_or(record.expiry, |later| record.expiry.min(later));
        if let Some((later, newest)) = &self.networks {
            record.networks = record.networks.meet(later);
            if record.networks.admit_nothing() {
                // No address is left. A record cannot say so: the key gets the newest networks, inactive.
                record.networks = newest.clone();
                if record.active {
                    let since = self.last.map(|(_, at, _)| at);
                    (record.active, record.inactive_since) = (false, since);
                }
            }
        }
        record.rate = Rate::meet(record.rate, self.rate);
        record.replaced_by = self.replaced_by.or(record.replaced_by);
        record.name = self.name.clone().unwrap_or(record.name);
        record.owner = self.owner.clone().unwrap_or(record.owner);
        record.metadata = self.metadata.clone().unwrap_or(record.metadata);
        if let Some((sequence, at, by)) = self.last {
            (record.revision, record.updated_at, record.updated_by) = (sequence, at, by);
        }
        record
    }
}

/// Whether a change granted a key anything that it did not have before.
fn allows(entry: &AuditEntry) -> bool {
    let (before, after) = (&entry.before, &entry.after);
    after.active == Some(true)
        || after.expiry.zip(before.expiry).is_some_and(|(after, before)| after > before)
        || after.grant.zip(before.grant).is_some_and(|(after, before)| !after.is_within(&before))
        || (after.networks.as_ref().zip(before.networks.as_ref()))
            .is_some_and(|(after, before)| !after.is_within(before))
        || after
            .rate
            .zip(before.rate)
            .is_some_and(|(after, before)| !Rate::is_within(after, before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{network::Network, record::NewKey};

    fn networks(texts: &[&str]) -> Networks {
        texts.iter().map(|text| text.parse::<Network>().unwrap()).collect()
    }

    /// A key from a backup after later changes of its networks and its rate.
    fn restored(of: Networks, later: &[Change]) -> Record {
        let id = KeyId::from_u64(7);
        let new = NewKey::new("k", Grant::All, Expiry::Never)
            .with_networks(of)
            .with_rate(Rate::new(9, 60).unwrap());
        let record = Record::new(id, new, Timestamp::from_secs(1), Actor::Host, 1).unwrap();
        let mut decisions = Decisions::default();
        for (sequence, after) in (2..).zip(later) {
            let entry = AuditEntry::new(Actor::Host, Act::Update);
            let (key, at, after) = (Some(id), Timestamp::from_secs(sequence), after.clone());
            decisions.add(AuditEntry { sequence, at, key, after, ..entry });
        }
        decisions.restrict(record).unwrap().0
    }

    #[test]
    fn later_networks_and_rates_hold_and_later_permissions_do_not_return() {
        let to = |texts: &[&str]| Change::default().with_networks(networks(texts));
        let wide = || networks(&["192.0.2.0/24", "::1"]);
        let of = |later: &[Change]| restored(wide(), later).networks;
        assert_eq!(of(&[to(&["192.0.2.0/25"])]), networks(&["192.0.2.0/25"]));
        assert_eq!(of(&[to(&["192.0.2.0/25"]), to(&[])]), networks(&["192.0.2.0/25"]));
        assert_eq!(of(&[to(&["10.0.0.0/8", "::/0"])]), networks(&["::1"]));
        assert_eq!(restored(Networks::ANY, &[to(&["::1"])]).networks, networks(&["::1"]));
        let rate = |n, s| Rate::new(n, s).unwrap();
        let of = |later: &[Change]| restored(wide(), later).rate;
        let [lower, higher] = [rate(5, 60), rate(50, 60)].map(|r| Change::default().with_rate(r));
        assert_eq!(of(&[lower.clone(), higher.clone()]), Some(rate(5, 60)));
        assert_eq!(of(&[higher]), Some(rate(9, 60)));
        assert_eq!(of(&[lower, Change::default().without_rate()]), Some(rate(5, 60)));
    }

    #[test]
    fn restored_key_without_a_common_address_is_inactive() {
        let to = |texts: &[&str]| Change::default().with_networks(networks(texts));
        let record = restored(networks(&["192.0.2.0/24"]), &[to(&["10.0.0.0/8"])]);
        assert_eq!(record.networks, networks(&["10.0.0.0/8"]));
        assert_eq!((record.active, record.inactive_since), (false, Some(Timestamp::from_secs(2))));
    }
}
