//! The directory of an old store, as a witness of what was done after a backup.

use super::restore::{Since, unknown};
use crate::{
    codec::Mark,
    digest::Seals,
    error::Error,
    ledger::inspect::{self, Inspection},
};
use std::{path::Path, sync::Arc};

/// A copy of an old store, and the newest that its anchor saw.
pub(super) struct Old {
    inspection: Inspection,
    anchored: Mark,
}

impl Old {
    /// Copies it to `scratch`. An old store whose anchor cannot be read proves nothing of its end.
    pub(super) fn open(
        data: &Path,
        anchor: Option<&Path>,
        scratch: &Path,
        seals: &Arc<Seals>,
    ) -> Result<Self, Error> {
        let beside = data.join("ledger").join("anchor");
        let path = anchor.unwrap_or(&beside);
        let slots = inspect::anchor(path, seals)
            .map_err(|_| unknown("the anchor of the old store cannot be read"))?;
        let anchored = slots.into_iter().flatten().max_by_key(|mark| mark.sequence);
        let anchored = anchored
            .ok_or_else(|| unknown("the anchor of the old store is not as it was written"))?;
        let inspection = Inspection::open(data, scratch, Arc::clone(seals))?;
        Ok(Self { inspection, anchored })
    }

    /// Its trail must come as far as the anchor saw, and as its meta record says where that is
    /// intact: the anchor may be a moment behind.
    pub(super) fn since(&self) -> Result<Since<'_>, Error> {
        let mut passed = vec![(self.anchored.sequence, self.anchored.head)];
        match &self.inspection.meta {
            Ok(meta) => passed.push((meta.mark.sequence, meta.mark.head)),
            Err(Error::WrongPepper) => return Err(Error::WrongPepper),
            Err(_) => {}
        }
        let known = self.inspection.scopes.iter().map(|(scope, _)| scope.clone());
        let names = known.enumerate().collect();
        Ok(Since {
            frame: Box::new(|sequence, _| Ok(self.inspection.frame(sequence))),
            passed,
            names,
        })
    }
}
