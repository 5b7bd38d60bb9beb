//! The limits of what a record may hold: lengths, characters, and no API key in the wrong field.

use super::{Expiry, Record};
use crate::{
    error::{Error, Field},
    secret::Secret,
    time::Timestamp,
};

const MAX_NAME_CHARS: usize = 128;
const MAX_OWNER_BYTES: usize = 128;
const MAX_METADATA_ENTRIES: usize = 16;
const MAX_METADATA_KEY_BYTES: usize = 64;
const MAX_METADATA_VALUE_BYTES: usize = 256;
/// 2500-01-01T00:00:00Z: seconds up to here fit the index's state word.
const LATEST_EXPIRY: Timestamp = Timestamp::from_secs(16_725_225_600);

impl Record {
    pub(super) fn check_limits(&self) -> Result<(), Error> {
        let chars = self.name.chars().count();
        if chars == 0 || chars > MAX_NAME_CHARS || self.name.chars().any(char::is_control) {
            return Err(Error::invalid(
                Field::Name,
                "must be 1 to 128 characters without control characters",
            ));
        }
        if let Some(owner) = &self.owner
            && (owner.is_empty()
                || owner.len() > MAX_OWNER_BYTES
                || owner.chars().any(char::is_control))
        {
            return Err(Error::invalid(
                Field::Owner,
                "must be 1 to 128 bytes without control characters, or absent",
            ));
        }
        let fits = |(key, value): (&String, &String)| {
            (1..=MAX_METADATA_KEY_BYTES).contains(&key.len())
                && value.len() <= MAX_METADATA_VALUE_BYTES
        };
        if self.metadata.len() > MAX_METADATA_ENTRIES || !self.metadata.iter().all(fits) {
            return Err(Error::invalid(
                Field::Metadata,
                "must be at most 16 entries with keys of 1 to 64 bytes and values of at most 256 bytes",
            ));
        }
        if matches!(self.expiry, Expiry::At(end) if end > LATEST_EXPIRY) {
            return Err(Error::invalid(
                Field::ExpiresAt,
                "must be a time up to the end of 2499; leave it out for a key that never expires",
            ));
        }
        self.check_for_secrets()
    }

    /// A key is nowhere but with its holder, so none is kept that was pasted into the wrong field.
    fn check_for_secrets(&self) -> Result<(), Error> {
        let notes = self.metadata.iter().flat_map(|(key, value)| [key, value]);
        let fields = std::iter::once((Field::Name, &self.name))
            .chain(self.owner.as_ref().map(|owner| (Field::Owner, owner)))
            .chain(notes.map(|note| (Field::Metadata, note)));
        match fields.into_iter().find(|(_, text)| Secret::is_pasted_in(text)) {
            Some((field, _)) => Err(Error::invalid(
                field,
                "looks like an API key; leave it out, and revoke that key if others may have seen it",
            )),
            None => Ok(()),
        }
    }
}
