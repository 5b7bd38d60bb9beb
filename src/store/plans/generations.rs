//! The outcomes of discarded generations of plans, for callers that wait for a change in one of them.

use crate::error::Error;
use std::collections::VecDeque;

/// How many ended generations are remembered.
const MAX_REMEMBERED: usize = 4096;

/// The generations that ended last.
#[derive(Default)]
pub(super) struct Generations(VecDeque<EndedGeneration>);

/// The outcome of a generation.
pub(super) struct EndedGeneration {
    pub(super) generation: u64,
    /// The last change that was committed.
    pub(super) committed: u64,
    /// The outcome of the changes after `committed` up to this sequence. Later ones were never sent.
    pub(super) sent: Option<(u64, SentOutcome)>,
}

/// The outcome of changes that were sent and are not known to be committed.
pub(in crate::store) enum SentOutcome {
    /// The storage refused them.
    Refused(Box<str>),
    /// They may be durable.
    Unknown(Box<str>),
}

impl SentOutcome {
    fn error(&self) -> Error {
        match self {
            Self::Refused(why) => Error::ConsensusRefused(why.clone()),
            Self::Unknown(why) => Error::Unanswered(why.clone()),
        }
    }
}

impl Generations {
    pub(super) fn push(&mut self, end: EndedGeneration) {
        self.0.push_back(end);
        if self.0.len() > MAX_REMEMBERED {
            self.0.pop_front();
        }
    }

    /// The outcome of a change of a generation that has ended.
    pub(super) fn outcome(&self, generation: u64, sequence: u64) -> Result<(), Error> {
        let Some(end) = self.0.iter().find(|end| end.generation == generation) else {
            return Err(Error::Unanswered("its outcome is no longer remembered".into()));
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

    fn end(generation: u64, sent: Option<(u64, SentOutcome)>) -> EndedGeneration {
        EndedGeneration { generation, committed: 5, sent }
    }

    #[test]
    fn change_has_the_outcome_of_its_batch() {
        let mut generations = Generations::default();
        generations.push(end(1, Some((7, SentOutcome::Refused("full".into())))));
        generations.push(end(2, Some((7, SentOutcome::Unknown("gone".into())))));
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
    fn forgotten_generation_is_never_reported_as_committed() {
        let mut generations = Generations::default();
        (0..4096).for_each(|generation| generations.push(end(generation, None)));
        assert!(generations.outcome(0, 5).is_ok());
        generations.push(end(4096, None));
        assert!(matches!(generations.outcome(0, 5), Err(Error::Unanswered(_))));
        assert!(generations.outcome(1, 5).is_ok());
    }
}
