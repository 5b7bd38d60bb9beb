//! What may still be planned when the disk is full.

use super::{Core, Plans};
use crate::{error::Error, id::KeyId, ledger::Room, record::Standing};

/// The sequence of a denial that no commit ends.
const UNWRITTEN: u64 = u64::MAX;

impl Core {
    /// Whether a change may be planned that does not only make a key stricter.
    pub(in crate::store) fn check_room(&self) -> Result<(), Error> {
        match self.ledger.room() {
            Room::Enough => Ok(()),
            Room::Reserve | Room::Nothing => Err(Error::NoRoom { free: self.free_space() }),
        }
    }

    /// The same of pruning the audit log, which frees room inside the database.
    pub(in crate::store) fn check_room_to_prune(&self) -> Result<(), Error> {
        if self.ledger.room() == Room::Nothing { self.check_room() } else { Ok(()) }
    }

    /// The same of a change from one standing to another. A stricter one may use the disk's reserve.
    /// Where that is used up, the key is refused in memory, and the caller is told.
    pub(in crate::store) fn check_room_to_change(
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
                let denial = (id, after);
                if !plans.unwritten.contains(&denial) {
                    self.index.deny(UNWRITTEN, id, after);
                    plans.unwritten.push(denial);
                }
                Err(Error::ReserveUsedUp { free: self.free_space() })
            }
            _ => self.check_room(),
        }
    }

    /// Ends the denials of a key that were not written, and that a queued change has in it.
    pub(super) fn write_denials(&self, plans: &mut Plans, id: KeyId, standing: Standing) {
        plans.unwritten.retain(|&(denied, unwritten)| {
            let is_written = denied == id && standing.is_within(&unwritten);
            if is_written {
                self.index.retract(UNWRITTEN, id, unwritten);
            }
            !is_written
        });
    }

    fn free_space(&self) -> u64 {
        self.ledger.disk_space().map_or(0, |disk| disk.free)
    }
}
