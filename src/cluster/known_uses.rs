//! Over which time all uses of all replicas are known.
//!
//! Each replica reports, among the last uses, the minute before which it has written all of its uses. The time
//! since which they are known starts again when a replica ended without its last report, after a bootstrap, and
//! when no replica has reported for a day. While a member has not reported lately, nothing is known.

use super::{
    consensus::{ConsensusStore, MemberId, MemberRow, Transaction},
    follower::Follower,
    last_uses::SharedUses,
    member::MemberInfo,
    use_reports::{LEFT, report_of},
};
use crate::{
    codec,
    error::Error,
    id::KeyId,
    ledger::known_uses::{KnownUses, SINCE, StoredKnownUses, UNTIL},
};

/// The maximum age of a report, in minutes.
const MAX_AGE: u32 = 30;
/// The number of obsolete reports that are deleted at once.
const MAX_OBSOLETE: usize = 50;

impl<C: ConsensusStore, F: Follower> SharedUses<C, F> {
    /// Reports that all uses of this replica before this minute are written.
    pub(super) async fn report(
        &self,
        this: MemberId,
        minute: u32,
        is_leaving: bool,
    ) -> Result<(), Error> {
        let mut stored = StoredKnownUses::default();
        self.minutes_of(&[SINCE, UNTIL])
            .await?
            .into_iter()
            .for_each(|(id, minute)| stored.note(id, minute));
        let bootstraps = self.position.bootstraps();
        // A bootstrap may have dropped uses that were not written.
        let is_complete = self.reports().bootstraps.is_none_or(|known| known == bootstraps);
        let since = if is_complete { stored.since_at(minute) } else { minute };
        let report = if is_leaving { LEFT } else { minute };
        self.write(&[(SINCE, since), (UNTIL, minute), (report_of(this), report)]).await?;
        self.reports().bootstraps = Some(bootstraps);
        Ok(())
    }

    /// The time over which all uses are known. Reads them first.
    pub(super) async fn known(&self, now: u32) -> Result<KnownUses, Error> {
        self.read().await?;
        let members = self.consensus.members().await?.members;
        let found = self.reports().found.clone();
        let since = found.get(&SINCE).copied().unwrap_or(now);
        let mut known = KnownUses { since, until: now, ..KnownUses::default() };
        for member in &members {
            let report = found.get(&report_of(member.id)).copied();
            match report.filter(|minute| *minute != LEFT && now.saturating_sub(*minute) <= MAX_AGE)
            {
                Some(minute) if !member.is_fenced => known.until = known.until.min(minute),
                _ => known.missing = Some(name(member)),
            }
        }
        let is_of_another =
            |id: &KeyId| *id > UNTIL && !members.iter().any(|member| report_of(member.id) == *id);
        let others: Vec<KeyId> = found.into_keys().filter(is_of_another).collect();
        // They are read again, because a replica may have left since.
        let ended = self.minutes_of(&others).await?;
        let is_there = |id: &KeyId| ended.iter().any(|(other, _)| other == id);
        self.reports().found.retain(|id, _| is_there(id) || !others.contains(id));
        let lost = ended.iter().filter(|(_, minute)| *minute != LEFT).map(|(id, _)| (*id, LEFT));
        let lost: Vec<(KeyId, u32)> = lost.collect();
        if !lost.is_empty() {
            known.since = now;
            self.write(&[(SINCE, now)]).await?;
            self.write(&lost).await?;
        }
        known.obsolete = ended.into_iter().map(|(id, _)| id).take(MAX_OBSOLETE).collect();
        Ok(known)
    }

    /// Reads these values; those that do not exist or cannot be read are left out.
    async fn minutes_of(&self, ids: &[KeyId]) -> Result<Vec<(KeyId, u32)>, Error> {
        let seal = &self.follower.seals().frame;
        let mut minutes = Vec::new();
        for some in ids.chunks(Transaction::MAX_WRITES) {
            let some: Vec<u64> = some.iter().map(|id| id.as_u64()).collect();
            for (id, frame) in self.consensus.last_uses_of(&some).await? {
                let id = KeyId::from_u64(id);
                minutes.extend(codec::decode_use(&frame, id, seal).ok().map(|minute| (id, minute)));
            }
        }
        Ok(minutes)
    }
}

fn name(member: &MemberRow) -> Box<str> {
    let about = MemberInfo::decode(&member.info).map(|info| info.about);
    about.map_or_else(|| member.id.to_string().into(), |about| about.name)
}
