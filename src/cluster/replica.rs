//! A replica: it follows the engine, proves that it is fresh, and says what it has applied.
//!
//! One task does all of it in turn, so that what the invariants order happens in that order, and
//! ending the task ends the prover.

use super::{
    bootstrap::{Applied, Position, bootstrap},
    follower::Follower,
    journal::{Fault, Incarnation, Journal, Revision},
    member::Card,
    rows::Rows,
    serving::Serving,
    timing::Timing,
};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::{select, sync::watch, time::timeout};

/// A replica.
pub(crate) struct Replica<J, F> {
    pub(super) journal: Arc<J>,
    pub(super) follower: Arc<F>,
    pub(super) timing: Timing,
    card: Card,
    pub(super) position: Arc<Applied>,
    /// What to remove when it leaves.
    member: Arc<Mutex<Option<Membership>>>,
    trouble: Trouble,
}

/// Why a replica does not follow, for whoever asks.
pub(crate) type Trouble = Arc<Mutex<Option<Box<str>>>>;

#[derive(Clone, Copy)]
pub(super) struct Membership {
    pub(super) who: Incarnation,
    pub(super) joined: Revision,
}

/// Why a replica cannot go on as it is.
pub(super) enum Halt {
    /// It is no member any more.
    Fenced,
    /// What comes next is no longer kept.
    Behind,
    /// This is not the history that it has applied.
    Foreign(&'static str),
}

impl<J: Journal, F: Follower> Replica<J, F> {
    pub(crate) fn new(
        journal: Arc<J>,
        follower: Arc<F>,
        timing: Timing,
        card: Card,
        start: Position,
    ) -> Self {
        let position = Applied::new(start);
        let (member, trouble) = (Arc::default(), Trouble::default());
        Self { journal, follower, timing, card, position, member, trouble }
    }

    /// Which member it is, as that changes.
    pub(super) fn seat(&self) -> Arc<Mutex<Option<Membership>>> {
        Arc::clone(&self.member)
    }

    /// What is applied, as it moves on.
    pub(crate) fn position(&self) -> Arc<Applied> {
        Arc::clone(&self.position)
    }

    /// Why it does not follow, if it does not.
    pub(crate) fn trouble(&self) -> Trouble {
        Arc::clone(&self.trouble)
    }

    /// Lives until it is told to leave.
    pub(crate) async fn run(self, mut leave: watch::Receiver<bool>) {
        select! {
            biased;
            _ = leave.wait_for(|leave| *leave) => {}
            () = self.live() => {}
            () = self.end_work_when_shut() => {}
        }
        // With its life its prover was dropped: nothing opens the gate again, and only then is it
        // removed, so that nobody waits for it any more.
        self.follower.gate().close();
        self.follower.end_work();
        if let Some(Membership { who, joined }) = self.membership() {
            let _ = timeout(self.timing.patience(), self.journal.remove(who, joined)).await;
        }
    }

    async fn live(&self) {
        let (mut halted, mut rows) = (None, Rows::default());
        loop {
            match halted {
                None => {}
                Some(Halt::Fenced) => self.stop_answering(),
                Some(Halt::Behind) => self.bootstrap(true).await,
                Some(Halt::Foreign(why)) => {
                    self.say(Some(why.into()));
                    self.stop_answering();
                    self.bootstrap(false).await;
                }
            }
            let member = if let Some(member) = self.membership() {
                member
            } else {
                rows = Rows::default();
                let member = self.join().await;
                if member.joined <= self.now_at().applied {
                    let why = "the engine went back to an earlier revision";
                    halted = Some(Halt::Foreign(why));
                    continue;
                }
                member
            };
            halted = Some(Serving::new(self, member, &mut rows).run().await);
        }
    }

    fn stop_answering(&self) {
        self.follower.gate().shut();
        self.follower.end_work();
        *self.member.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn bootstrap(&self, continues: bool) {
        let mut known = continues.then(|| self.now_at());
        loop {
            match bootstrap(&*self.journal, &*self.follower, &mut known).await {
                Ok(position) => {
                    self.say(None);
                    self.position.begin_again(position);
                    return;
                }
                Err(Fault::Refused(error)) => {
                    // Whatever is wrong there, what we have is not what the engine has.
                    self.follower.gate().shut();
                    self.say(Some(error.to_string().into()));
                }
                Err(Fault::Unreachable(why)) => self.say(Some(why)),
                Err(Fault::Compacted) => {}
            }
            self.timing.sleep(self.timing.pause()).await;
        }
    }

    async fn join(&self) -> Membership {
        loop {
            if let Ok(who) = self.timing.incarnation()
                && let Ok(Ok(joined)) =
                    timeout(self.timing.patience(), self.journal.join(who, &self.card.joining()))
                        .await
            {
                let member = Membership { who, joined };
                *self.member.lock().unwrap_or_else(PoisonError::into_inner) = Some(member);
                return member;
            }
            self.timing.sleep(self.timing.pause()).await;
        }
    }

    /// Work in flight ends with the gate: nobody could tell it that its key was taken away.
    async fn end_work_when_shut(&self) {
        let mut was_open = false;
        loop {
            let left = self.follower.gate().remaining();
            if left == 0 && was_open {
                self.follower.end_work();
            }
            was_open = left > 0;
            self.timing.sleep(if was_open { left } else { self.timing.pause() }).await;
        }
    }

    pub(super) fn now_at(&self) -> Arc<Position> {
        self.position.now()
    }

    fn membership(&self) -> Option<Membership> {
        *self.member.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn say(&self, trouble: Option<Box<str>>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}
