//! A whole store from elsewhere into an etcd that has none, and out of one again.

use super::{
    etcd::{Etcd, EtcdJournal, Importing, Part},
    journal::{Journal, Revision},
    moment::{ENTRIES, Moment, missing, moment},
};
use crate::{
    codec::{self, Mark, Meta, Place},
    digest::Seals,
    error::Error,
    random,
    scope::Scope,
};

/// What begins every import of one state of a store: what vouches for it, its scope names, and where
/// its trail begins.
pub(crate) struct Source {
    meta: Meta,
    first: Vec<(Place, Vec<u8>)>,
}

impl Source {
    pub(crate) fn new(
        meta: Meta,
        names: &[Scope],
        floor: Option<Vec<u8>>,
        seals: &Seals,
    ) -> Result<Self, Error> {
        let placed = |(name, number): (&Scope, u8)| {
            let frame = codec::encode_scope(name.as_str(), number, &seals.frame)?;
            Ok((Place::Scope(number), frame))
        };
        let mut first =
            names.iter().zip(0..=u8::MAX).map(placed).collect::<Result<Vec<_>, Error>>()?;
        first.extend(floor.map(|frame| (Place::AuditStart, frame)));
        Ok(Self { meta, first })
    }

    /// How many values come first.
    pub(crate) fn len(&self) -> usize {
        self.first.len()
    }
}

/// Puts what comes first and then all that `next` gives, always in the same order, so that an import that
/// was interrupted goes on where it was. `None` says that all of it was found right.
pub(crate) async fn import(
    etcd: &Etcd,
    seals: &Seals,
    Source { mut meta, first }: Source,
    mut next: impl FnMut() -> Result<Option<(Place, Vec<u8>)>, Error>,
    mut progress: impl FnMut(u64),
) -> Result<(), Error> {
    let journal = EtcdJournal::new(etcd)?;
    let mut importing = journal.begin_import(&meta.mark).await?;
    let mut first = first.into_iter();
    let mut skip = importing.done;
    let mut part = Part::default();
    while let Some((place, frame)) = first.next().map_or_else(&mut next, |value| Ok(Some(value)))? {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        part.add(place, frame);
        if part.is_full() {
            write(&journal, &mut importing, &mut part).await?;
            progress(importing.done);
        }
    }
    write(&journal, &mut importing, &mut part).await?;
    progress(importing.done);
    // A number of its own: should the directory go on being used, its changes are another store's.
    meta.mark.store = random::array()?;
    let epoch = codec::encode_epoch(&meta, &[0; 32], &seals.meta)?;
    Ok(journal.finish_import(&importing, &epoch).await?)
}

async fn write(
    journal: &EtcdJournal,
    importing: &mut Importing,
    part: &mut Part,
) -> Result<(), Error> {
    if part.is_empty() {
        return Ok(());
    }
    Ok(journal.import(importing, &std::mem::take(part)).await?)
}

/// A store that was found in etcd, at one moment.
pub(crate) struct Found {
    journal: EtcdJournal,
    moment: Moment,
}

impl Found {
    pub(crate) async fn look(etcd: &Etcd, seals: &Seals) -> Result<Self, Error> {
        let journal = EtcdJournal::new(etcd)?;
        let moment = Moment::of(moment(&journal).await?, seals)?;
        Ok(Self { journal, moment })
    }

    /// What vouches for it.
    pub(crate) fn meta(&self) -> &Meta {
        &self.moment.meta
    }

    /// How many values it has.
    pub(crate) fn values(&self) -> u64 {
        let Mark { sequence, records, scopes, .. } = self.moment.meta.mark;
        let entries = sequence.saturating_sub(self.moment.floor.0.through);
        entries.saturating_add(records).saturating_add(scopes)
    }

    /// Gives all its values to `put`; an error if they are not exactly what was vouched for.
    pub(crate) async fn read(
        self,
        seals: &Seals,
        mut put: impl FnMut(Place, Vec<u8>) -> Result<(), Error>,
        mut progress: impl FnMut(u64),
    ) -> Result<(), Error> {
        let Self { journal, moment } = self;
        let (at, expected) = (moment.at, moment.meta.mark);
        let (mut found, mut done) = (moment.nothing(), 0);
        if let Some(frame) = moment.floor.1 {
            put(Place::AuditStart, frame)?;
        }
        for (frame, number) in journal.names(at).await?.into_iter().zip(0..) {
            let place = Place::Scope(number);
            found.add(codec::frame_hash(&frame, place, &seals.frame)?);
            found.scopes += 1;
            done += 1;
            put(place, frame)?;
        }
        while found.sequence < expected.sequence {
            let left = usize::try_from(expected.sequence - found.sequence).unwrap_or(ENTRIES);
            let entries = journal.trail(at, found.sequence, left.min(ENTRIES)).await?;
            if entries.is_empty() {
                return Err(missing(found.sequence + 1));
            }
            for (sequence, frame) in entries {
                if sequence != found.sequence + 1 {
                    return Err(missing(found.sequence + 1));
                }
                let head = codec::follow(&frame, sequence, &found.head, &seals.trail)?;
                (found.sequence, found.head) = (sequence, head);
                done += 1;
                put(Place::Entry(sequence), frame)?;
            }
            progress(done);
        }
        let mut after = None;
        loop {
            let page = journal.records(at, after).await?;
            for (digest, frame) in page.records {
                let place = Place::Record(digest);
                found.add(codec::frame_hash(&frame, place, &seals.frame)?);
                found.records += 1;
                done += 1;
                after = Some(digest);
                put(place, frame)?;
            }
            progress(done);
            if page.is_last {
                break;
            }
        }
        if found != expected {
            return Err(Error::damaged("etcd does not hold what its epoch says"));
        }
        // They are of no one moment, and decide nothing: what cannot be read is left out.
        for (id, frame) in journal.uses(Revision::default()).await?.1 {
            if codec::decode_use(&frame, id, &seals.frame).is_ok() {
                put(Place::Use(id), frame)?;
            }
        }
        Ok(())
    }
}
