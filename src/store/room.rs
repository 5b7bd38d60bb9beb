//! What may still be planned when the disk is full.

use super::{core::Core, plans::Plans};
use crate::{error::Error, id::KeyId, ledger::Room, record::Standing};

impl Core {
    /// Whether a change may be planned that does not only make a key stricter.
    pub(super) fn check_room(&self) -> Result<(), Error> {
        match self.ledger.room() {
            Room::Enough => Ok(()),
            Room::Reserve | Room::Nothing => Err(Error::NoRoom { free: self.free_space() }),
        }
    }

    /// Whether there is room for more than stricter changes.
    pub(super) fn has_room(&self) -> bool {
        self.ledger.room() == Room::Enough
    }

    /// The same of pruning the audit log, which frees room inside the database.
    pub(super) fn check_room_to_prune(&self) -> Result<(), Error> {
        if self.ledger.room() == Room::Nothing { self.check_room() } else { Ok(()) }
    }

    /// The same of a change from one standing to another. A stricter one may use the disk's reserve.
    /// Where that is used up, the key is refused in memory, and the caller is told.
    pub(super) fn check_room_to_change(
        &self,
        plans: &mut Plans,
        id: KeyId,
        before: Standing,
        after: Standing,
    ) -> Result<(), Error> {
        let is_stricter = after != before && after.is_within(&before);
        match self.ledger.room() {
            Room::Reserve if is_stricter => Ok(()),
            Room::Nothing if is_stricter => {
                plans.deny_unwritten(&self.index, id, after);
                Err(Error::ReserveUsedUp { free: self.free_space() })
            }
            _ => self.check_room(),
        }
    }

    fn free_space(&self) -> u64 {
        self.ledger.disk_space().map_or(0, |disk| disk.free)
    }
}
