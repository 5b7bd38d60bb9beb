//! Imports keys of other systems, and own keys whose text is given.

use super::Acting;
use crate::{
    audit_entry::{Act, Attempt},
    digest::Digest,
    error::{Error, Field, Forbidden},
    id::KeyId,
    imported::{Imported, ImportedDigest, check_plaintext},
    record::{NewKey, Record},
    scope::Grant,
    secret::Secret,
    store::{
        batch::commit_all,
        deleted_keys::DeletedKeys,
        planning::{Planning, Unplanned},
    },
};
use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    fmt::{self, Write},
    sync::{Arc, PoisonError},
};
use zeroize::Zeroizing;

/// The secret of a key that is imported.
pub enum ImportedSecret {
    /// Its text. A text of the store's own form becomes an ordinary key with the id in the text.
    Plaintext(Zeroizing<String>),
    /// Its digest.
    Digest(ImportedDigest),
}

impl fmt::Debug for ImportedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plaintext(_) => f.write_str("Plaintext(<elided>)"),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// The digest of a key, for another system.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyDigest {
    /// `blake3`, `blake3-keyed` (with the pepper of the store), `sha256`, `sha256-after-bar` or `sha512`.
    pub algorithm: &'static str,
    /// The digest of the key's text in hexadecimal digits.
    pub hex: String,
}

/// The outcome of an import for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportOutcome {
    /// The key was imported; in a dry run, it would be.
    Imported(Arc<Record>),
    /// The store has the key already, and it was left alone.
    Present(Arc<Record>),
}

/// How to import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Only report what would be done.
    pub dry_run: bool,
    /// Import own keys also if the audit log was pruned: it does not tell any more which keys were deleted
    /// before, and an import would bring such a key back.
    pub accept_pruned_log: bool,
}

/// A key that is to be imported.
struct Import {
    id: KeyId,
    digest: Digest,
    imported: Option<Imported>,
    new: NewKey,
}

impl Acting<'_> {
    /// Imports keys, in their order. Only the host and local operators may. Each key has an outcome of its own.
    ///
    /// A key that the store has is left alone, so an import that was interrupted is repeated as a whole. A
    /// revoked key stays revoked. A key that was deleted is refused, and imported keys cannot be deleted: so no
    /// import brings a key back. Without the feature `import` digests are refused.
    ///
    /// ```
    /// # use portcullis::*;
    /// # let store = Store::in_memory()?;
    /// let new = NewKey::new("Partner", store.scopes(["admin.key.list"])?, Expiry::Never);
    /// let secret = ImportedSecret::Plaintext("sk_live_0123456789abcdef".to_owned().into());
    /// let outcomes = store.acting_as(Actor::Host).import(vec![(new, secret)], ImportOptions::default())?;
    /// assert!(matches!(outcomes[0], Ok(ImportOutcome::Imported(_))));
    /// assert!(store.authenticate_key(b"sk_live_0123456789abcdef").is_ok());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn import(
        &self,
        keys: Vec<(NewKey, ImportedSecret)>,
        options: ImportOptions,
    ) -> Result<Vec<Result<ImportOutcome, Error>>, Error> {
        let caller = self.caller();
        let core = caller.core;
        drop(
            Planning::begin(caller, Attempt::Create, None)?
                .require_local(Attempt::Create, Forbidden::ImportIsLocal)?,
        );
        // Two imports of one digest must not be planned together.
        let mut deleted = core.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = HashSet::new();
        let prepared: Vec<Result<Import, Error>> = keys
            .into_iter()
            .map(|(new, secret)| {
                let import = self.prepared(new, &secret)?;
                let is_first = seen.insert(*import.digest.as_bytes());
                let twice = || Error::invalid(Field::Key, "occurs twice in this import");
                if is_first { Ok(import) } else { Err(twice()) }
            })
            .collect();
        // A dry run creates nothing, so it needs the deleted keys only for keys that the store does not have.
        let is_new =
            |import: &Import| !options.dry_run || core.index.id_of(&import.digest).is_none();
        let mut own = prepared.iter().flatten().filter(|import| import.imported.is_none());
        let has_own = own.any(is_new);
        if has_own {
            deleted.read(&*core.ledger, core.catalogue(), options.accept_pruned_log)?;
        }
        let (mut outcomes, mut imports, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (place, import) in prepared.into_iter().enumerate() {
            outcomes.push(Err(Error::Contended));
            match import {
                Ok(import) => {
                    places.push(place);
                    imports.push(import);
                }
                Err(error) => set(&mut outcomes, place, Err(error)),
            }
        }
        let present = RefCell::new(HashSet::new());
        let plan = |planning: &mut Planning<'_>, import: &Import| {
            self.plan_import(planning, import, &deleted, options.dry_run, &present)
        };
        let denies = Cell::new(false);
        let done = commit_all(caller, Attempt::Create, &imports, &denies, |_| None, plan);
        let present = present.into_inner();
        for ((place, import), outcome) in places.into_iter().zip(imports).zip(done) {
            let is_present = present.contains(import.digest.as_bytes());
            let of = if is_present { ImportOutcome::Present } else { ImportOutcome::Imported };
            set(&mut outcomes, place, outcome.map(of));
        }
        Ok(outcomes)
    }

    /// Returns the digest of a key, for a move to another system. Only the host and local operators may.
    pub fn digest_of(&self, id: KeyId) -> Result<KeyDigest, Error> {
        let planning = Planning::begin(self.caller(), Attempt::List, Some(id))?;
        drop(planning.require_local(Attempt::List, Forbidden::DigestsAreLocal)?);
        let core = self.caller().core;
        let (record, digest) = core.index.get(id).ok_or(Error::NoSuchKey(id))?;
        let own = if core.seals.digester.is_keyed() { "blake3-keyed" } else { "blake3" };
        let (algorithm, rest) = match record.imported {
            None | Some(Imported::Plaintext) => (own, None),
            Some(Imported::Sha512(rest)) => ("sha512", Some(rest)),
            Some(imported) => (imported.as_str(), None),
        };
        let mut hex = String::new();
        for byte in digest.as_bytes().iter().chain(rest.iter().flatten()) {
            let _ = write!(hex, "{byte:02x}");
        }
        Ok(KeyDigest { algorithm, hex })
    }

    /// Finds the digest and the id of a key.
    fn prepared(&self, new: NewKey, secret: &ImportedSecret) -> Result<Import, Error> {
        let core = self.caller().core;
        if new.grant == Grant::All {
            let reason = "a root key is not imported; create one with key create --root";
            return Err(Error::invalid(Field::Scopes, reason));
        }
        let (id, digest, imported) = match secret {
            ImportedSecret::Digest(digest) => {
                if !cfg!(feature = "import") {
                    let reason = "needs a program that is built with the feature `import`";
                    return Err(Error::invalid(Field::Digest, reason));
                }
                (KeyId::generate()?, Digest::from_bytes(digest.bytes), Some(digest.kind))
            }
            ImportedSecret::Plaintext(text) if self.store.prefix.begins(text.as_bytes()) => {
                let id = self.store.prefix.id_within(text);
                let id = id.filter(|_| Secret::is_well_formed(text)).ok_or_else(|| {
                    Error::invalid(
                        Field::Key,
                        "has the form of a key of this store, and another checksum; check the text",
                    )
                })?;
                (id, core.seals.digester.digest(text.as_bytes()), None)
            }
            ImportedSecret::Plaintext(text) => {
                check_plaintext(text)?;
                let digest = core.seals.digester.digest(text.as_bytes());
                (KeyId::generate()?, digest, Some(Imported::Plaintext))
            }
        };
        Ok(Import { id, digest, imported, new })
    }

    fn plan_import(
        &self,
        planning: &mut Planning<'_>,
        import: &Import,
        deleted: &DeletedKeys,
        dry_run: bool,
        present: &RefCell<HashSet<[u8; 32]>>,
    ) -> Result<(Arc<Record>, u64), Unplanned> {
        let core = self.caller().core;
        let (id, digest) = (import.id, import.digest);
        if let Some(found) = core.index.id_of(&digest) {
            present.borrow_mut().insert(*digest.as_bytes());
            // Waits for a pending change of that key.
            return planning.present(found);
        }
        if core.index.is_taken(id, &digest) || deleted.contains(id) {
            let reason =
                "was deleted from this store, or its id belongs to another key; issue a new key";
            return Err(Error::invalid(Field::Key, reason).into());
        }
        if dry_run {
            let record = Record {
                imported: import.imported,
                ..planning.new_record(id, import.new.clone())?
            };
            return Ok((Arc::new(record), 0));
        }
        planning.plan_creation_as(
            Act::Import,
            id,
            digest,
            import.new.clone(),
            None,
            import.imported,
        )
    }
}

fn set<T>(outcomes: &mut [Result<T, Error>], place: usize, outcome: Result<T, Error>) {
    if let Some(slot) = outcomes.get_mut(place) {
        *slot = outcome;
    }
}
