//! Numbers for the owners of keys, and how many keys each owner has.

use std::collections::BTreeMap;

/// The number of keys without an owner.
pub(super) const NO_OWNER: u32 = 0;

/// How many keys an owner has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnerCount {
    pub(crate) keys: usize,
    pub(crate) active: usize,
}

/// The owners by name. A number is kept until the store is closed, also when its owner has no key any more.
#[derive(Default)]
pub(super) struct Owners {
    numbers: BTreeMap<Box<str>, u32>,
    counts: Vec<OwnerCount>,
}

impl Owners {
    /// The number of an owner, which is new if the owner had no key before.
    pub(super) fn number(&mut self, owner: Option<&str>) -> u32 {
        let Some(owner) = owner else { return NO_OWNER };
        if let Some(number) = self.numbers.get(owner) {
            return *number;
        }
        self.counts.push(OwnerCount::default());
        // Never as many as there are keys, which have numbers of this type too.
        let number = u32::try_from(self.counts.len()).unwrap_or(u32::MAX);
        self.numbers.insert(owner.into(), number);
        number
    }

    /// The number of an owner; `None` if no key has or had this owner.
    pub(super) fn find(&self, owner: Option<&str>) -> Option<u32> {
        owner.map_or(Some(NO_OWNER), |owner| self.numbers.get(owner).copied())
    }

    pub(super) fn count_in(&mut self, number: u32, active: bool) {
        if let Some(count) = self.count_mut(number) {
            count.keys += 1;
            count.active += usize::from(active);
        }
    }

    pub(super) fn count_out(&mut self, number: u32, active: bool) {
        if let Some(count) = self.count_mut(number) {
            count.keys -= 1;
            count.active -= usize::from(active);
        }
    }

    fn count_mut(&mut self, number: u32) -> Option<&mut OwnerCount> {
        self.counts.get_mut(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// How many keys an owner has.
    pub(super) fn count(&self, owner: &str) -> OwnerCount {
        self.numbers.get(owner).map(|number| self.count_of(*number)).unwrap_or_default()
    }

    fn count_of(&self, number: u32) -> OwnerCount {
        let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        at.and_then(|at| self.counts.get(at)).copied().unwrap_or_default()
    }

    /// Up to `limit` owners that have keys, in the order of their names, after the one named `after`.
    pub(super) fn page(&self, after: Option<&str>, limit: usize) -> Vec<(Box<str>, OwnerCount)> {
        use std::ops::Bound;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.numbers
            .range::<str, _>((start, Bound::Unbounded))
            .map(|(name, number)| (name.clone(), self.count_of(*number)))
            .filter(|(_, count)| count.keys > 0)
            .take(limit)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_counted_and_listed_in_order_while_they_have_keys() {
        let mut owners = Owners::default();
        let [b, a] = [Some("b"), Some("a")].map(|owner| owners.number(owner));
        assert_eq!((b, a, owners.number(None)), (1, 2, NO_OWNER));
        for (number, active) in [(b, true), (b, false), (a, true), (NO_OWNER, true)] {
            owners.count_in(number, active);
        }
        owners.count_out(b, false);
        let one = OwnerCount { keys: 1, active: 1 };
        assert_eq!((owners.count("b"), owners.count("c")), (one, OwnerCount::default()));
        assert_eq!(owners.page(None, 9), [("a".into(), one), ("b".into(), one)]);
        assert_eq!(owners.page(Some("a"), 9), [("b".into(), one)]);
        assert_eq!(owners.page(None, 1), [("a".into(), one)]);
        owners.count_out(a, true);
        assert_eq!(owners.page(None, 9), [("b".into(), one)]);
        assert_eq!(owners.find(Some("a")), Some(2));
        assert_eq!((owners.find(Some("c")), owners.find(None)), (None, Some(NO_OWNER)));
    }
}
