//! The acknowledgements that a member has sent, and which of them the consensus store may show.

use super::consensus::Revision;

/// The maximum number of remembered acknowledgements without an answer. A member with more of them is cut
/// off.
const MAX_IN_DOUBT: usize = 64;

/// The acknowledgements of one membership.
#[derive(Default)]
pub(super) struct Acknowledgements {
    confirmed: Option<Revision>,
    /// Acknowledgements without an answer: each may have been written, or may still be written.
    in_doubt: Vec<Revision>,
    /// The confirmed ones since the proof in flight was requested: it may show any of these.
    since_request: Vec<Option<Revision>>,
}

impl Acknowledgements {
    /// Whether the consensus store is known to have this acknowledgement.
    pub(super) fn has(&self, applied: Revision) -> bool {
        self.confirmed == Some(applied)
    }

    /// Call this before sending an acknowledgement.
    pub(super) fn sending(&mut self, applied: Revision) {
        if self.in_doubt.len() >= MAX_IN_DOUBT {
            self.in_doubt.remove(0);
        }
        self.in_doubt.push(applied);
    }

    /// Records that an acknowledgement was written. Earlier ones without an answer may still replace it.
    pub(super) fn confirm(&mut self, applied: Revision) {
        self.in_doubt.retain(|in_doubt| *in_doubt != applied);
        self.confirmed = Some(applied);
        self.since_request.push(self.confirmed);
    }

    /// Call this before requesting a proof.
    pub(super) fn requesting_proof(&mut self) {
        self.since_request.clear();
        self.since_request.push(self.confirmed);
    }

    /// Whether this member may have written the acknowledgement that a proof found.
    pub(super) fn recognise(&mut self, found: Option<Revision>) -> bool {
        match found {
            found if found == self.confirmed || self.since_request.contains(&found) => true,
            Some(found) if self.in_doubt.contains(&found) => {
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
    fn acknowledgement_is_recognised_if_it_may_have_been_written() {
        let mut sent = Acknowledgements::default();
        assert!(sent.recognise(None) && !sent.recognise(Some(Revision(7))));
        sent.sending(Revision(7));
        assert!(sent.recognise(None), "it may not be written yet");
        assert!(sent.recognise(Some(Revision(7))) && sent.has(Revision(7)));
        sent.sending(Revision(8));
        sent.sending(Revision(9));
        sent.confirm(Revision(9));
        assert!(sent.has(Revision(9)) && !sent.recognise(None));
        sent.requesting_proof();
        sent.sending(Revision(10));
        sent.confirm(Revision(10));
        assert!(sent.recognise(Some(Revision(9))), "the proof was read before it was written");
        sent.requesting_proof();
        assert!(!sent.recognise(Some(Revision(9))));
        // The earlier one was late and replaced the confirmed one, which must be sent again.
        assert!(sent.recognise(Some(Revision(8))) && !sent.has(Revision(10)));
        assert!(!sent.recognise(Some(Revision(5))), "an older state was restored");
    }
}
