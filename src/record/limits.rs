//! The limits of the fields of a record: lengths, characters, and no API key in the wrong field.

use super::{
    Expiry, Record,
    characters::{is_name, is_plain_text},
};
use crate::{
    error::{Error, Field},
    networks::Networks,
    secret::Secret,
    time::Timestamp,
};

const MAX_NAME_CHARS: usize = 128;
const MAX_DESCRIPTION_CHARS: usize = 200;
const MAX_OWNER_BYTES: usize = 128;
const MAX_METADATA_ENTRIES: usize = 16;
const MAX_METADATA_KEY_BYTES: usize = 64;
const MAX_METADATA_VALUE_BYTES: usize = 256;
/// 2500-01-01T00:00:00Z: seconds up to this time fit into the index's state word.
const LATEST_EXPIRY: Timestamp = Timestamp::from_secs(16_725_225_600);

/// Whether a text can describe a scope: 1 to 200 characters in one line, as a name has them.
pub(crate) fn is_description(text: &str) -> bool {
    text.chars().count() <= MAX_DESCRIPTION_CHARS && is_name(text)
}

impl Record {
    /// Refuses new values that are outside their limits. A value that is unchanged since `before` is
    /// accepted, even if an older version had other limits. Otherwise no other field of that record
    /// could be changed.
    pub(super) fn check_limits(&self, before: Option<&Self>) -> Result<(), Error> {
        let is_short = (1..=MAX_NAME_CHARS).contains(&self.name.chars().count());
        if before.is_none_or(|before| before.name != self.name)
            && !(is_short && is_name(&self.name))
        {
            return Err(Error::invalid(
                Field::Name,
                "must be 1 to 128 characters, at least one of them visible, without characters that are \
                 invisible, control a terminal or change the direction of text",
            ));
        }
        if let Some(owner) = &self.owner
            && before.is_none_or(|before| before.owner != self.owner)
            && (owner.len() > MAX_OWNER_BYTES || !is_name(owner))
        {
            return Err(Error::invalid(
                Field::Owner,
                "must be 1 to 128 bytes, at least one character of them visible, without characters that are \
                 invisible, control a terminal or change the direction of text, or absent",
            ));
        }
        self.check_metadata(before)?;
        if self.networks.iter().len() > Networks::MAX
            && before.is_none_or(|before| before.networks != self.networks)
        {
            return Err(Error::invalid(Field::Networks, "must be at most 16 networks"));
        }
        if before.is_none_or(|before| before.expiry != self.expiry)
            && matches!(self.expiry, Expiry::At(end) if end > LATEST_EXPIRY)
        {
            return Err(Error::invalid(
                Field::ExpiresAt,
                "must be a time up to the end of 2499; omit it for a key that never expires",
            ));
        }
        self.check_for_secrets(before)
    }

    fn check_metadata(&self, before: Option<&Self>) -> Result<(), Error> {
        let most = before.map_or(0, |before| before.metadata.len()).max(MAX_METADATA_ENTRIES);
        let fits = |(key, value): (&String, &String)| {
            key.len() <= MAX_METADATA_KEY_BYTES
                && value.len() <= MAX_METADATA_VALUE_BYTES
                && is_name(key)
                && is_plain_text(value)
        };
        if self.metadata.len() > most || !self.new_metadata(before).all(fits) {
            return Err(Error::invalid(
                Field::Metadata,
                "must be at most 16 entries with names of 1 to 64 bytes, as a key's name has them, and values of at \
                 most 256 bytes without control characters other than tab and line feed",
            ));
        }
        Ok(())
    }

    fn new_metadata<'r>(
        &'r self,
        before: Option<&'r Self>,
    ) -> impl Iterator<Item = (&'r String, &'r String)> {
        self.metadata.iter().filter(move |(key, value)| {
            before.is_none_or(|before| before.metadata.get(*key) != Some(value))
        })
    }

    /// Refuses an API key that was pasted into the wrong field: a secret is never stored.
    fn check_for_secrets(&self, before: Option<&Self>) -> Result<(), Error> {
        let is_new = |differs: fn(&Self, &Self) -> bool| before.is_none_or(|b| differs(self, b));
        let name = is_new(|new, old| new.name != old.name).then_some((Field::Name, &self.name));
        let owner = self.owner.as_ref().filter(|_| is_new(|new, old| new.owner != old.owner));
        let metadata = self.new_metadata(before).flat_map(|(key, value)| [key, value]);
        let fields = name
            .into_iter()
            .chain(owner.map(|owner| (Field::Owner, owner)))
            .chain(metadata.map(|text| (Field::Metadata, text)));
        match fields.into_iter().find(|(_, text)| Secret::occurs_in(text)) {
            Some((field, _)) => Err(Error::invalid(
                field,
                "looks like an API key; remove it, and revoke that key if others may have seen it",
            )),
            None => Ok(()),
        }
    }
}
