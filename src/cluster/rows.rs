//! What a member has said that it has applied, and what of it the engine may show.

use super::journal::Revision;

/// A member that says more than this in vain is not answered at all.
const MOST_DOUBTFUL: usize = 64;

/// The member's acknowledgements.
#[derive(Default)]
pub(super) struct Rows {
    confirmed: Option<Revision>,
    /// Sent, and not answered: any of them may be there, or come yet.
    doubtful: Vec<Revision>,
    /// What was confirmed when the proof that is on its way was asked for, and since: it may show
    /// any of these.
    meanwhile: Vec<Option<Revision>>,
}

impl Rows {
    /// Whether the engine is known to have this.
    pub(super) fn has(&self, applied: Revision) -> bool {
        self.confirmed == Some(applied)
    }

    /// This is about to be sent.
    pub(super) fn sent(&mut self, applied: Revision) {
        if self.doubtful.len() >= MOST_DOUBTFUL {
            self.doubtful.remove(0);
        }
        self.doubtful.push(applied);
    }

    /// This was answered. What was sent before and never answered may still come.
    pub(super) fn confirm(&mut self, applied: Revision) {
        self.doubtful.retain(|doubtful| *doubtful != applied);
        self.confirmed = Some(applied);
        self.meanwhile.push(self.confirmed);
    }

    /// A proof is about to be asked for.
    pub(super) fn asks(&mut self) {
        self.meanwhile.clear();
        self.meanwhile.push(self.confirmed);
    }

    /// Whether the row that a proof found can be ours; it is what the engine has.
    pub(super) fn recognise(&mut self, found: Option<Revision>) -> bool {
        match found {
            found if found == self.confirmed || self.meanwhile.contains(&found) => true,
            Some(found) if self.doubtful.contains(&found) => {
                self.confirmed = Some(found);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_recognised_by_what_was_sent() {
        let mut rows = Rows::default();
        assert!(rows.recognise(None) && !rows.recognise(Some(Revision(7))));
        rows.sent(Revision(7));
        assert!(rows.recognise(None), "it may not have come");
        assert!(rows.recognise(Some(Revision(7))) && rows.has(Revision(7)));
        rows.sent(Revision(8));
        rows.sent(Revision(9));
        rows.confirm(Revision(9));
        assert!(rows.has(Revision(9)) && !rows.recognise(None));
        rows.asks();
        rows.sent(Revision(10));
        rows.confirm(Revision(10));
        assert!(rows.recognise(Some(Revision(9))), "the proof was read before it came");
        rows.asks();
        assert!(!rows.recognise(Some(Revision(9))));
        // The one before was late and lies there now; it is said anew.
        assert!(rows.recognise(Some(Revision(8))) && !rows.has(Revision(10)));
        assert!(!rows.recognise(Some(Revision(5))), "an older engine was put back");
    }
}
