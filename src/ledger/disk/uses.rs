//! The last uses of keys: separate values in the same tree. No decision depends on them.

use super::{Disk, scan::scan, storage};
use crate::{
    codec::{self, DbKey},
    error::Error,
    id::KeyId,
    ledger::engine::{Doing, contained, misplaced},
};

impl Disk {
    /// Reads when each key was last used.
    pub(crate) fn load_uses(&self, mut each: impl FnMut(KeyId, u32)) -> Result<(), Error> {
        scan(&self.db, DbKey::USES, |key, frame| {
            let DbKey::Use(id) = key else { return Err(misplaced()) };
            each(id, codec::decode_use(frame, id, &self.seals.frame)?);
            Ok(())
        })
    }

    /// Writes when keys were last used; `sync_put_uses` makes it durable. After an error nothing may be
    /// written, as after an error of `commit`: both write to the same pages.
    pub(super) fn put_uses(&self, uses: &[(KeyId, u32)]) -> Result<(), Error> {
        let put = |(id, minute): &(KeyId, u32)| {
            let frame = codec::encode_use(*minute, *id, &self.seals.frame)?;
            Ok((DbKey::Use(*id).to_bytes(), frame))
        };
        let puts = uses.iter().map(put).collect::<Result<Vec<_>, Error>>()?;
        self.state().reserve.before_write();
        contained(Doing::Writing, || {
            let written = self.db()?.transaction(|tree| {
                for (key, frame) in &puts {
                    tree.insert(key.as_slice(), frame.as_slice())?;
                }
                Ok(())
            });
            written.map_err(storage)?;
            self.db()?.flush()?;
            Ok(())
        })
    }

    pub(super) fn sync_put_uses(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|e| Error::io(Doing::Writing.as_str(), e))?;
        self.blobs.check()
    }
}
