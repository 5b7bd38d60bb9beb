//! How lines of plans ended, for those who wait for one of their changes.

use crate::error::Error;
use std::collections::VecDeque;

/// So many ends are remembered.
const MOST: usize = 4096;

/// The newest ends.
#[derive(Default)]
pub(super) struct Ends(VecDeque<End>);

/// How a line of plans ended.
pub(super) struct End {
    pub(super) line: u64,
    /// Up to here it was committed.
    pub(super) committed: u64,
    /// What came of the numbers after that, up to this one; those after it were never sent.
    pub(super) of_the_last: Option<(u64, Sent)>,
}

/// What came of changes that were sent, and are not known to be committed.
pub(super) enum Sent {
    /// The engine turned them down.
    Refused(Box<str>),
    /// They may have been made.
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

impl Ends {
    pub(super) fn push(&mut self, end: End) {
        self.0.push_back(end);
        if self.0.len() > MOST {
            self.0.pop_front();
        }
    }

    /// What became of a change of a line that has ended.
    pub(super) fn fate(&self, line: u64, sequence: u64) -> Result<(), Error> {
        let Some(end) = self.0.iter().find(|end| end.line == line) else {
            return Err(Error::Unanswered("it was long ago".into()));
        };
        match &end.of_the_last {
            _ if sequence <= end.committed => Ok(()),
            Some((through, sent)) if sequence <= *through => Err(sent.error()),
            _ => Err(Error::Contended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(line: u64, of_the_last: Option<(u64, Sent)>) -> End {
        End { line, committed: 5, of_the_last }
    }

    #[test]
    fn a_change_has_the_fate_of_the_part_of_its_line_that_it_is_in() {
        let mut ends = Ends::default();
        ends.push(end(1, Some((7, Sent::Refused("full".into())))));
        ends.push(end(2, Some((7, Sent::Unknown("gone".into())))));
        ends.push(end(3, None));
        assert!((1..=3).all(|line| ends.fate(line, 5).is_ok()));
        for sequence in [6, 7] {
            assert!(matches!(ends.fate(1, sequence), Err(Error::ConsensusRefused(_))));
            assert!(matches!(ends.fate(2, sequence), Err(Error::Unanswered(_))));
            assert!(matches!(ends.fate(3, sequence), Err(Error::Contended)));
        }
        assert!(matches!(ends.fate(1, 8), Err(Error::Contended)), "it was never sent");
    }

    #[test]
    fn of_an_end_that_is_forgotten_nobody_says_that_it_was_well() {
        let mut ends = Ends::default();
        (0..4096).for_each(|line| ends.push(end(line, None)));
        assert!(ends.fate(0, 5).is_ok());
        ends.push(end(4096, None));
        assert!(matches!(ends.fate(0, 5), Err(Error::Unanswered(_))));
        assert!(ends.fate(1, 5).is_ok());
    }
}
