//! A member: one life of one replica, what it said of itself when it joined, and how far it is.

use super::journal::{Incarnation, Muster, Revision};
use crate::{
    error::{Error, Field},
    ledger::shared::{About, Member},
    time::Timestamp,
};
use std::time::{Duration, SystemTime};

/// No proof is good for longer. A member of which nobody knows how long its proofs are good for is
/// waited for as one whose proofs are good for this long.
pub(crate) const LONGEST: Duration = Duration::from_mins(1);
/// With less a replica would spend its time on proofs.
const SHORTEST: Duration = Duration::from_millis(100);
/// The bytes of a name.
const LONGEST_NAME: usize = 128;

/// How a replica takes part.
#[derive(Clone, Debug)]
pub struct Replica {
    name: String,
    freshness: Duration,
}

impl Replica {
    /// A replica that operators know by this name, of at most 128 bytes without control
    /// characters. It need not be the only one of that name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), freshness: Duration::from_secs(3) }
    }

    /// How long a proof of freshness is good for: three seconds unless said, and from a tenth of a
    /// second to a minute. A replica that cannot reach the engine answers nobody after this, and a
    /// revocation waits a little longer than this for a replica that does not answer: each replica
    /// tells the others its own. Where the engine's own nodes are far apart, five to ten seconds.
    #[must_use]
    pub fn freshness(mut self, freshness: Duration) -> Self {
        self.freshness = freshness;
        self
    }

    /// What it says of itself, if it may.
    pub(crate) fn card(self) -> Result<Card, Error> {
        let Self { name, freshness } = self;
        if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            let reason = "must have 1 to 128 bytes and no control characters";
            return Err(Error::invalid(Field::Replica, reason));
        }
        if !(SHORTEST..=LONGEST).contains(&freshness) {
            let reason = "must be a tenth of a second to 60 seconds";
            return Err(Error::invalid(Field::Freshness, reason));
        }
        let about = About {
            name: name.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            joined_at: Timestamp::default(),
        };
        Ok(Card { about, freshness })
    }
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) about: About,
    /// How long its proofs are good for: whoever waits for it to shut waits by this.
    pub(crate) freshness: Duration,
}

impl Card {
    /// As it joins now.
    pub(super) fn joining(&self) -> Self {
        let mut card = self.clone();
        card.about.joined_at = SystemTime::now().into();
        card
    }
}

/// The members, by their names.
pub(super) fn told(muster: Muster, this: Option<Incarnation>) -> Vec<Member> {
    let epoch = muster.epoch.unwrap_or_default();
    let tell = |member: super::journal::Member| Member {
        incarnation: member.incarnation.to_string().into(),
        freshness: member.freshness(),
        about: member.card.map(|card| card.about),
        applied: member.applied.0,
        behind: if member.applied >= epoch { 0 } else { distance(member.applied, epoch) },
        is_fenced: member.is_fenced,
        is_this: this == Some(member.incarnation),
    };
    let mut members: Vec<_> = muster.members.into_iter().map(tell).collect();
    let place = |member: &Member| {
        let about = member.about.as_ref().map(|about| (about.name.clone(), about.joined_at));
        (about, member.incarnation.clone())
    };
    members.sort_by_cached_key(place);
    members
}

fn distance(Revision(from): Revision, Revision(to): Revision) -> u64 {
    to.saturating_sub(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::journal;

    #[test]
    fn a_replica_with_a_name_or_a_freshness_that_nobody_could_read_is_refused() {
        let field = |replica: Replica| match replica.card() {
            Ok(_) => None,
            Err(Error::Invalid { field, .. }) => Some(field),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(field(Replica::named("till-4")), None);
        assert_eq!(field(Replica::named("é".repeat(64))), None);
        for name in ["", "a\nb", &"é".repeat(65)] {
            assert_eq!(field(Replica::named(name)), Some(Field::Replica), "{name:?}");
        }
        let fresh = |millis| field(Replica::named("a").freshness(Duration::from_millis(millis)));
        assert_eq!([fresh(100), fresh(60_000)], [None, None]);
        assert_eq!([fresh(99), fresh(60_001)], [Some(Field::Freshness); 2]);
    }

    #[test]
    fn members_are_told_by_name_and_one_whose_row_cannot_be_read_is_told_too() {
        let card = |name: &str| {
            let mut card = Replica::named(name).card().unwrap();
            card.about.joined_at = Timestamp::from_secs(7);
            Some(card)
        };
        let member = |id: u8, card, applied| journal::Member {
            incarnation: Incarnation([id; 16]),
            card,
            revision: Revision(3),
            is_fenced: id == 2,
            applied: Revision(applied),
        };
        let members = vec![member(1, card("b"), 20), member(2, card("a"), 13), member(3, None, 0)];
        let muster = Muster { revision: Revision(30), epoch: Some(Revision(17)), members };
        let told = told(muster, Some(Incarnation([1; 16])));
        let name = |m: &Member| m.about.as_ref().map(|about| about.name.to_string());
        let seen: Vec<_> =
            told.iter().map(|m| (name(m), m.behind, m.is_fenced, m.is_this)).collect();
        let named = |name: &str| Some(name.to_owned());
        let expected =
            [(None, 17, false, false), (named("a"), 4, true, false), (named("b"), 0, false, true)];
        assert_eq!(seen, expected);
        assert_eq!([told[0].freshness, told[1].freshness], [LONGEST, Duration::from_secs(3)]);
        assert_eq!(told[1].incarnation.as_ref(), "02".repeat(16));
    }
}
