//! What lies between one replica and the engine: delay, loss in either direction, silence.

use super::{Dice, engine::Engine};
use crate::{
    cluster::{
        journal::{
            Event, Fault, Incarnation, Journal, Member, Muster, Newest, Outcome, Page, Proof,
            Revision, Roll, Tail, Transaction, Turn, Uses,
        },
        member::Card,
    },
    digest::Digest,
    id::KeyId,
};
use std::{
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::futures::Notified,
    time::{sleep, timeout},
};

/// How long a call is waited for whose request or answer is lost.
const PATIENCE: Duration = Duration::from_millis(600);
/// How long one is waited for in the world that other work on the machine holds up.
const WORLDLY_PATIENCE: Duration = Duration::from_secs(10);

/// How the way is at the moment.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each fails by itself")]
pub(crate) struct Way {
    /// Requests are lost.
    pub(crate) no_requests: bool,
    /// Answers are lost, and so is what a tail would bring.
    pub(crate) no_answers: bool,
    /// A tail brings nothing, though calls pass.
    pub(crate) no_tail: bool,
    /// A read of everything breaks off after its first page.
    pub(crate) first_page_only: bool,
    /// Up to so many milliseconds each way.
    pub(crate) delay: u64,
}

/// One replica's way to the engine.
#[derive(Clone)]
pub(crate) struct Net {
    engine: Arc<Engine>,
    dice: Dice,
    way: Arc<Mutex<Way>>,
    /// Nobody answers anybody.
    is_down: Arc<Mutex<bool>>,
    /// How long a call is waited for that is not lost.
    patience: Duration,
    /// A change whose request is lost may be made when nobody waits for it any more.
    comes_late: bool,
}

impl Net {
    pub(crate) fn new(engine: Arc<Engine>, dice: Dice, is_down: Arc<Mutex<bool>>) -> Self {
        let way = Arc::new(Mutex::new(Way { delay: 12, ..Way::default() }));
        Self { engine, dice, way, is_down, patience: PATIENCE, comes_late: true }
    }

    /// On the world's clock: other work on the machine may hold a call up, and nobody could tell when
    /// one that was lost comes after all.
    pub(crate) fn in_the_world(self) -> Self {
        Self { patience: WORLDLY_PATIENCE, comes_late: false, ..self }
    }

    pub(crate) fn way(&self) -> Way {
        *self.way.lock().unwrap()
    }

    pub(crate) fn set(&self, way: Way) {
        *self.way.lock().unwrap() = way;
    }

    fn is_down(&self) -> bool {
        *self.is_down.lock().unwrap() || self.engine.is_away.load(Relaxed)
    }

    async fn hop(&self) {
        let delay = self.dice.below(self.way().delay + 1);
        sleep(Duration::from_millis(delay)).await;
    }

    /// A call: its request may be lost, or its answer after it was done.
    async fn call<T>(&self, work: impl FnOnce(&Engine) -> T + Send) -> Result<T, Fault> {
        let lost = || Fault::Unreachable("no answer came".into());
        let answer = timeout(self.patience, async {
            self.hop().await;
            if self.way().no_requests || self.is_down() {
                sleep(PATIENCE).await;
                return None;
            }
            let answer = work(&self.engine);
            self.hop().await;
            if self.way().no_answers {
                sleep(PATIENCE).await;
                return None;
            }
            Some(answer)
        });
        answer.await.ok().flatten().ok_or_else(lost)
    }
}

impl Journal for Net {
    type Tail = Follow;
    type Roll = Watch;

    async fn newest(&self) -> Result<Newest, Fault> {
        self.call(Engine::newest).await
    }

    async fn names(&self, at: Revision) -> Result<Vec<Vec<u8>>, Fault> {
        self.call(|engine| engine.names_at(at)).await?
    }

    async fn records(&self, at: Revision, after: Option<Digest>) -> Result<Page, Fault> {
        if self.way().first_page_only && after.is_some() {
            self.hop().await;
            return Err(Fault::Unreachable("no answer came".into()));
        }
        self.call(|engine| engine.page(at, after)).await?
    }

    async fn floor(&self, _: Revision) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None) // nothing is cut here
    }

    async fn trail(
        &self,
        _: Revision,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, Fault> {
        self.call(|engine| engine.trail(after, limit)).await
    }

    async fn sweep(&self, _: u64, _: &[u8]) -> Result<bool, Fault> {
        Ok(false)
    }

    async fn uses(&self, after: Revision) -> Result<(Revision, Uses), Fault> {
        self.call(|engine| engine.uses(after)).await
    }

    async fn uses_of(&self, keys: &[KeyId]) -> Result<Uses, Fault> {
        let (_, mut uses) = self.uses(Revision(0)).await?;
        uses.retain(|(id, _)| keys.contains(id));
        Ok(uses)
    }

    async fn note_uses(&self, uses: Uses) -> Result<(), Fault> {
        self.call(|engine| engine.note_uses(uses)).await
    }

    fn tail(&self, after: Revision) -> Follow {
        Follow { net: self.clone(), after }
    }

    async fn commit(&self, transaction: Transaction<'_>) -> Outcome {
        let Transaction { expected, commits, epoch } = transaction;
        if self.comes_late && self.way().no_requests && self.dice.one_in(2) {
            // It lies before a frozen node, which takes it up when nobody waits for it any more.
            let (engine, delay) = (Arc::clone(&self.engine), self.dice.below(3000));
            let (expected, commits) = (expected.cloned(), commits.to_vec());
            drop(tokio::spawn(async move {
                sleep(PATIENCE + Duration::from_millis(delay)).await;
                if !engine.is_away.load(Relaxed) {
                    engine.commit(expected.as_ref(), &commits, &epoch);
                }
            }));
            sleep(PATIENCE).await;
            return Outcome::Unknown("no answer came".into());
        }
        let outcome = self.call(|engine| engine.commit(expected, commits, &epoch)).await;
        outcome.unwrap_or_else(|_| Outcome::Unknown("no answer came".into()))
    }

    async fn join(&self, who: Incarnation, card: &Card) -> Result<Revision, Fault> {
        self.call(|engine| engine.join(who, card)).await
    }

    async fn prove(&self, who: Incarnation, joined: Revision) -> Result<Option<Proof>, Fault> {
        self.call(|engine| engine.prove(who, joined)).await
    }

    async fn acknowledge(
        &self,
        who: Incarnation,
        joined: Revision,
        applied: Revision,
    ) -> Result<bool, Fault> {
        self.call(|engine| engine.acknowledge(who, joined, applied)).await
    }

    async fn members(&self) -> Result<Muster, Fault> {
        self.call(Engine::members).await
    }

    fn roll(&self, after: Revision) -> Watch {
        Watch { net: self.clone(), seen: self.engine.turns_upto(after) }
    }

    async fn fence(&self, member: &Member) -> Result<Option<Revision>, Fault> {
        self.call(|engine| engine.fence(member)).await
    }

    async fn remove(&self, who: Incarnation, revision: Revision) -> Result<bool, Fault> {
        self.call(|engine| engine.remove(who, revision)).await
    }
}

impl Net {
    /// Until something may have happened, or a while has passed; `false` where the way is cut.
    async fn stir(&self, happened: Notified<'_>) -> bool {
        let _ = timeout(Duration::from_millis(200), happened).await;
        let way = self.way();
        !(way.no_answers || way.no_requests || self.is_down())
    }
}

/// A tail.
pub(crate) struct Follow {
    net: Net,
    after: Revision,
}

impl Tail for Follow {
    async fn next(&mut self) -> Event {
        loop {
            // What happens on other threads: what comes after the look ends the wait, and what comes
            // after the way was closed is not brought.
            let happened = self.net.engine.happened.notified();
            let event = self.net.engine.after(self.after);
            let way = self.net.way();
            if way.no_answers || way.no_requests || self.net.is_down() {
                if self.net.dice.one_in(4) {
                    return Event::Lost;
                }
            } else if let Some(event) = event.filter(|_| !way.no_tail) {
                // Read first, brought later: what happens meanwhile comes next.
                self.net.hop().await;
                if self.net.way().no_answers {
                    return Event::Lost;
                }
                if let Event::Batches(batches) = &event
                    && let Some(last) = batches.last()
                {
                    self.after = last.revision;
                }
                return event;
            }
            self.net.stir(happened).await;
        }
    }
}

/// A roll.
pub(crate) struct Watch {
    net: Net,
    seen: usize,
}

impl Roll for Watch {
    async fn next(&mut self) -> Option<Vec<Turn>> {
        loop {
            let happened = self.net.engine.happened.notified();
            let (seen, turns) = self.net.engine.turns_after(self.seen);
            if !turns.is_empty() && !self.net.way().no_tail {
                self.net.hop().await;
                self.seen = seen;
                return Some(turns);
            }
            if !self.net.stir(happened).await && self.net.dice.one_in(4) {
                return None;
            }
        }
    }
}
