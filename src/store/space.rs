//! The changes that may still be planned when the disk is full.

use super::{core::Core, plans::Plans};
use crate::{error::Error, id::KeyId, ledger::Room, record::Standing};

impl Core {
    /// Fails if the disk has no space for changes that are not only stricter.
    pub(super) fn check_space(&self) -> Result<(), Error> {
        match self.ledger.room() {
            Room::Enough => Ok(()),
            Room::Reserve | Room::Nothing => Err(Error::NoRoom { free: self.free_space() }),
        }
    }

    /// Whether the disk has space for changes that are not only stricter.
    pub(super) fn has_space(&self) -> bool {
        self.ledger.room() == Room::Enough
    }

    /// Fails if the audit log cannot be pruned. Pruning may use the reserve, because it frees space inside
    /// the database.
    pub(super) fn check_space_to_prune(&self) -> Result<(), Error> {
        if self.ledger.room() == Room::Nothing { self.check_space() } else { Ok(()) }
    }

    /// Fails if a change from one standing to another has no space. A stricter change may use the reserve.
    /// If the reserve is used up, the key is refused in memory, and the error reports it.
    pub(super) fn check_space_to_change(
        &self,
        plans: &mut Plans,
        id: KeyId,
        before: &Standing,
        after: &Standing,
    ) -> Result<(), Error> {
        let is_stricter = after != before && after.is_within(before);
        match self.ledger.room() {
            Room::Reserve if is_stricter => Ok(()),
            Room::Nothing if is_stricter => {
                plans.deny_unwritten(&self.index, id, after.clone());
                Err(Error::ReserveUsedUp { free: self.free_space() })
            }
            _ => self.check_space(),
        }
    }

    fn free_space(&self) -> u64 {
        self.ledger.disk_space().map_or(0, |disk| disk.free)
    }
}
