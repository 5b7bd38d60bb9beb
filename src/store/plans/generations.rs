//! How discarded generations of plans ended, for the callers who wait for one of their changes.

use crate::error::Error;
use std::collections::VecDeque;

/// How many ended generations are remembered.
const MOST_REMEMBERED: usize = 4096;

/// The generations that ended last.
#[derive(Default)]
pub(super) struct Generations(VecDeque<End>);

/// How a generation ended.
pub(super) struct End {
    pub(super) generation: u64,
    /// The last change that was committed.
    pub(super) committed: u64,
    /// What became of the changes after that, up to this sequence; later ones were never sent.
    pub(super) sent: Option<(u64, Sent)>,
}

/// What became of changes that were sent and are not known to be committed.
pub(in crate::store) enum Sent {
    /// The storage turned them down.
    Refused(Box<str>),
    /// They may be durable.
    Unknown(Box<str>),
}

impl Sent {
    fn error(&self) -> Error {
        match self {
            Self::Refused(why) => Error::ConsensusRefused(why.clone()),
            Self::Unknown(why) => Error::Unanswered(why.clone()),
        }
    }
}

impl Generations {
    pub(super) fn push(&mut self, end: End) {
        self.0.push_back(end);
        if self.0.len() > MOST_REMEMBERED {
            self.0.pop_front();
        }
    }

    /// The outcome of a change of a generation that has ended.
    pub(super) fn outcome(&self, generation: u64, sequence: u64) -> Result<(), Error> {
        let Some(end) = self.0.iter().find(|end| end.generation == generation) else {
            return Err(Error::Unanswered("it was long ago".into()));
        };
        match &end.sent {
            _ if sequence <= end.committed => Ok(()),
            Some((through, sent)) if sequence <= *through => Err(sent.error()),
            _ => Err(Error::Contended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(generation: u64, sent: Option<(u64, Sent)>) -> End {
        End { generation, committed: 5, sent }
    }

    #[test]
    fn a_change_has_the_outcome_of_the_batch_that_it_was_in() {
        let mut generations = Generations::default();
        generations.push(end(1, Some((7, Sent::Refused("full".into())))));
        generations.push(end(2, Some((7, Sent::Unknown("gone".into())))));
        generations.push(end(3, None));
        assert!((1..=3).all(|generation| generations.outcome(generation, 5).is_ok()));
        for sequence in [6, 7] {
            assert!(matches!(generations.outcome(1, sequence), Err(Error::ConsensusRefused(_))));
            assert!(matches!(generations.outcome(2, sequence), Err(Error::Unanswered(_))));
            assert!(matches!(generations.outcome(3, sequence), Err(Error::Contended)));
        }
        assert!(matches!(generations.outcome(1, 8), Err(Error::Contended)), "it was never sent");
    }

    #[test]
    fn a_forgotten_generation_is_never_reported_as_committed() {
        let mut generations = Generations::default();
        (0..4096).for_each(|generation| generations.push(end(generation, None)));
        assert!(generations.outcome(0, 5).is_ok());
        generations.push(end(4096, None));
        assert!(matches!(generations.outcome(0, 5), Err(Error::Unanswered(_))));
        assert!(generations.outcome(1, 5).is_ok());
    }
}
