//! A whole store from elsewhere into an etcd that has none, and out of one again.

use super::{
    etcd::{Etcd, EtcdJournal, Importing, Part},
    journal::{Journal, Newest, Revision},
};
use crate::{
    codec::{self, Mark, Meta, Place},
    digest::Seals,
    error::Error,
    random,
    scope::Scope,
};
use std::path::Path;

/// Entries of the trail that are read at once.
const ENTRIES: usize = 1000;

/// What begins every import of one state of a store: what vouches for it, and its scope names.
pub(crate) struct Source {
    meta: Meta,
    names: Vec<Vec<u8>>,
}

impl Source {
    pub(crate) fn new(meta: Meta, names: &[Scope], seals: &Seals) -> Result<Self, Error> {
        let frame =
            |(name, number): (&Scope, u8)| codec::encode_scope(name.as_str(), number, &seals.frame);
        let names = names.iter().zip(0..=u8::MAX).map(frame).collect::<Result<_, _>>()?;
        Ok(Self { meta, names })
    }

    /// How many names there are.
    pub(crate) fn names(&self) -> usize {
        self.names.len()
    }
}

/// Puts the names and then all that `next` gives, always in the same order, so that an import that
/// was interrupted goes on where it was. `None` says that all of it was found right.
pub(crate) async fn import(
    etcd: &Etcd,
    seals: &Seals,
    Source { mut meta, names }: Source,
    mut next: impl FnMut() -> Result<Option<(Place, Vec<u8>)>, Error>,
    mut progress: impl FnMut(u64),
) -> Result<(), Error> {
    let journal = EtcdJournal::new(etcd)?;
    let mut importing = journal.begin_import(&meta.mark).await?;
    let mut names = (0..=u8::MAX).map(Place::Scope).zip(names);
    let mut skip = importing.done;
    let mut part = Part::default();
    while let Some((place, frame)) = names.next().map_or_else(&mut next, |name| Ok(Some(name)))? {
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
    at: Revision,
    meta: Meta,
}

impl Found {
    pub(crate) async fn look(etcd: &Etcd, seals: &Seals) -> Result<Self, Error> {
        let journal = EtcdJournal::new(etcd)?;
        let Newest { revision: at, epoch } = journal.newest().await?;
        let epoch = epoch.ok_or_else(|| Error::NotFound(Path::new("etcd").into()))?;
        let (meta, _) = codec::decode_epoch(&epoch.frame, &seals.meta, seals.pepper_check)?;
        Ok(Self { journal, at, meta })
    }

    /// What vouches for it.
    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Gives all its values to `put`; an error if they are not exactly what was vouched for.
    pub(crate) async fn read(
        self,
        seals: &Seals,
        mut put: impl FnMut(Place, Vec<u8>) -> Result<(), Error>,
        mut progress: impl FnMut(u64),
    ) -> Result<(), Error> {
        let Self { journal, at, meta } = self;
        let expected = meta.mark;
        let mut found =
            Mark { sequence: 0, records: 0, scopes: 0, sum: [0; 32], head: [0; 32], ..expected };
        for (frame, number) in journal.names(at).await?.into_iter().zip(0..) {
            let place = Place::Scope(number);
            found.add(codec::frame_hash(&frame, place, &seals.frame)?);
            found.scopes += 1;
            put(place, frame)?;
        }
        while found.sequence < expected.sequence {
            let left = usize::try_from(expected.sequence - found.sequence).unwrap_or(ENTRIES);
            let entries = journal.trail(found.sequence, left.min(ENTRIES)).await?;
            if entries.is_empty() {
                return Err(Error::damaged("its audit trail ends early"));
            }
            for (sequence, frame) in entries {
                if sequence != found.sequence + 1 {
                    return Err(Error::damaged("its audit trail has a gap"));
                }
                let head = codec::follow(&frame, sequence, &found.head, &seals.trail)?;
                (found.sequence, found.head) = (sequence, head);
                put(Place::Entry(sequence), frame)?;
            }
            progress(found.scopes + found.sequence);
        }
        let mut after = None;
        loop {
            let page = journal.records(at, after).await?;
            for (digest, frame) in page.records {
                let place = Place::Record(digest);
                found.add(codec::frame_hash(&frame, place, &seals.frame)?);
                found.records += 1;
                after = Some(digest);
                put(place, frame)?;
            }
            progress(found.scopes + found.sequence + found.records);
            if page.is_last {
                break;
            }
        }
        if found == expected {
            Ok(())
        } else {
            Err(Error::damaged("etcd does not hold what its epoch says"))
        }
    }
}
