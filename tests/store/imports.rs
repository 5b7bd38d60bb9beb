//! Imports of keys of other systems, and of own keys whose text is given.

use portcullis::{
    Actor, Change, Error, Expiry, Grant, ImportOptions, ImportOutcome, ImportedSecret, KeyId,
    NewKey, Refusal, Store, list::ListQuery,
};
use portcullis_testkit::basic;
use std::time::Duration;

fn store() -> Store {
    portcullis_testkit::builder().in_memory().unwrap()
}

fn new(store: &Store, name: &str) -> NewKey {
    NewKey::new(name, store.scopes(["api.read"]).unwrap(), Expiry::Never)
}

fn plaintext(text: &str) -> ImportedSecret {
    ImportedSecret::Plaintext(text.to_owned().into())
}

fn import_one(store: &Store, secret: ImportedSecret) -> Result<ImportOutcome, Error> {
    let keys = vec![(new(store, "Partner"), secret)];
    store.acting_as(Actor::Host).import(keys, ImportOptions::default()).unwrap().remove(0)
}

fn imported_id(outcome: Result<ImportOutcome, Error>) -> KeyId {
    match outcome.unwrap() {
        ImportOutcome::Imported(record) => record.id,
        other => panic!("{other:?}"),
    }
}

const FOREIGN: &str = "sk_live-0123456789|abc/def+";

#[test]
fn imported_plaintext_is_accepted_in_each_form_of_a_credential() {
    let store = store();
    for before in [
        store.authenticate_key(FOREIGN.as_bytes()),
        store.authenticate_header(basic(FOREIGN.as_bytes()).as_bytes()),
    ] {
        assert!(matches!(before.unwrap_err(), Refusal::Unknown | Refusal::Malformed));
    }
    let id = imported_id(import_one(&store, plaintext(FOREIGN)));
    assert_eq!(store.authenticate_key(FOREIGN.as_bytes()).unwrap().id(), id);
    assert_eq!(store.authenticate_header(basic(FOREIGN.as_bytes()).as_bytes()).unwrap().id(), id);
    let long = "L".repeat(200);
    let long_id = imported_id(import_one(&store, plaintext(&long)));
    assert_eq!(store.authenticate_header(basic(long.as_bytes()).as_bytes()).unwrap().id(), long_id);
    let accepting = store.clone().with_credentials(
        portcullis::Credentials::basic().with_bearer().with_header("X-API-Key".parse().unwrap()),
    );
    let bearer = format!("Bearer {long}");
    assert_eq!(accepting.authenticate_header(bearer.as_bytes()).unwrap().id(), long_id);
    let none = std::iter::empty::<&str>();
    assert_eq!(accepting.authenticate_request(none, [FOREIGN].iter()).unwrap().id(), id);
    for wrong in ["sk_live-0123456789|abc/def", &"L".repeat(201), &"L".repeat(257)] {
        assert!(store.authenticate_key(wrong.as_bytes()).is_err());
        assert!(store.authenticate_header(basic(wrong.as_bytes()).as_bytes()).is_err());
    }
    let record = store.get(id).unwrap();
    assert_eq!(record.imported.map(portcullis::Imported::as_str), Some("plaintext"));
    let marked = store.list(&ListQuery::default().with_imported(true)).unwrap().records;
    assert_eq!(marked.len(), 2);
    // Revoked, rotated, and never deleted.
    store.revoke(id).unwrap();
    assert_eq!(store.authenticate_key(FOREIGN.as_bytes()).unwrap_err(), Refusal::Inactive);
    assert!(matches!(store.delete(id), Err(Error::IsImported(_))));
    assert!(
        matches!(import_one(&store, plaintext(FOREIGN)), Ok(ImportOutcome::Present(record)) if !record.active)
    );
    assert!(store.authenticate_key(FOREIGN.as_bytes()).is_err(), "an import revives nothing");
    store.update(id, Change::activate()).unwrap();
    let successor = store.rotate(id, Duration::ZERO).unwrap();
    assert_eq!(successor.record.imported, None);
    assert!(successor.secret.reveal(|text| text.starts_with("pcl_")));
    assert!(store.authenticate_key(FOREIGN.as_bytes()).is_err());
}

#[test]
fn own_key_is_imported_with_its_id_and_not_after_its_deletion() {
    let (dir, home) = portcullis_testkit::home();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let other = self::store();
    let issued = other.issue(new(&other, "a")).unwrap();
    let (id, text) = (issued.record.id, issued.secret.reveal(str::to_owned));
    assert_eq!(imported_id(import_one(&store, plaintext(&text))), id);
    assert_eq!(store.authenticate_key(text.as_bytes()).unwrap().id(), id);
    assert_eq!(store.get(id).unwrap().imported, None, "it is a key of the store's own form");
    assert!(matches!(import_one(&store, plaintext(&text)), Ok(ImportOutcome::Present(_))));
    store.revoke(id).unwrap();
    store.delete(id).unwrap();
    let refused = |store: &Store| import_one(store, plaintext(&text)).unwrap_err().to_string();
    assert!(refused(&store).contains("was deleted"), "{}", refused(&store));
    // The index forgets deleted keys when it is closed; the audit log does not.
    drop(store);
    let store = Store::builder().open(&home).unwrap();
    assert!(refused(&store).contains("was deleted"));
    drop(dir);
}

#[test]
fn import_refuses_each_bad_key_by_itself_and_a_dry_run_changes_nothing() {
    let store = store();
    let wrong_check = {
        let text = store.issue(new(&store, "a")).unwrap().secret.reveal(str::to_owned);
        let last = if text.ends_with('x') { "y" } else { "x" };
        format!("{}{last}", &text[..text.len() - 1])
    };
    let keys = |store: &Store| {
        vec![
            (new(store, "good"), plaintext(FOREIGN)),
            (new(store, "good"), plaintext(FOREIGN)),
            (new(store, ""), plaintext(&format!("{FOREIGN}2"))),
            (new(store, "short"), plaintext("too short")),
            (new(store, "colon"), plaintext("user:password-that-is-long")),
            (new(store, "root").with_grant(Grant::All), plaintext(&format!("{FOREIGN}3"))),
            (new(store, "checksum"), plaintext(&wrong_check)),
        ]
    };
    let expected = [
        "",
        "occurs twice",
        "name: must be",
        "20 to 256",
        "20 to 256",
        "root key",
        "another checksum",
    ];
    for dry_run in [true, false] {
        let options = ImportOptions { dry_run, ..ImportOptions::default() };
        let outcomes = store.acting_as(Actor::Host).import(keys(&store), options).unwrap();
        for (outcome, expected) in outcomes.iter().zip(expected) {
            match outcome {
                Ok(outcome) => {
                    assert!(matches!(outcome, ImportOutcome::Imported(_)) && expected.is_empty());
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains(expected) && !text.contains("sk_live"), "{text}");
                }
            }
        }
        assert_eq!(store.authenticate_key(FOREIGN.as_bytes()).is_ok(), !dry_run);
    }
    let clerk = store.issue(new(&store, "clerk").with_grant(Grant::All)).unwrap().record.id;
    let by_key = store.acting_as(Actor::Key(clerk)).import(keys(&store), ImportOptions::default());
    assert!(by_key.unwrap_err().to_string().contains("on the host only"));
}

#[cfg(feature = "import")]
mod digests {
    use super::*;
    use portcullis::ImportedDigest;

    /// SHA-256 of "test", SHA-512 of "test".
    const SHA256: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    const SHA512: &str = "ee26b0dd4af7e749aa1a8ee3c10ae9923f618980772e473f8819a5d4940e0db2\
                          7ac185f8a0e1d5f84f88bc887fd67b143732c304cc5fa9ad8e6f57f50028a8ff";

    fn digest(text: &str, algorithm: Option<&str>) -> ImportedSecret {
        ImportedSecret::Digest(ImportedDigest::parse(text, algorithm).unwrap())
    }

    #[test]
    fn key_is_accepted_by_the_digest_of_another_system() {
        for (text, algorithm, presented) in [
            (SHA256, None, "test"),
            (SHA256, Some("sha256-after-bar"), "17|test"),
            (SHA512, None, "test"),
        ] {
            let store = store();
            let id = imported_id(import_one(&store, digest(text, algorithm)));
            assert_eq!(store.authenticate_key(presented.as_bytes()).unwrap().id(), id);
            assert_eq!(
                store.authenticate_header(basic(presented.as_bytes()).as_bytes()).unwrap().id(),
                id
            );
            assert_eq!(store.id_of_key(presented), Some(id));
            for wrong in ["test ", "Test", "17|Test", "17|", "|"] {
                assert!(store.authenticate_key(wrong.as_bytes()).is_err(), "{wrong}");
            }
            let leaving = store.acting_as(Actor::Host).digest_of(id).unwrap();
            assert_eq!(leaving.hex, text.replace(' ', ""));
            assert!(matches!(
                import_one(&store, digest(text, algorithm)),
                Ok(ImportOutcome::Present(_))
            ));
        }
        let store = store();
        import_one(&store, digest(SHA256, None)).unwrap();
        assert!(store.authenticate_key(b"17|test").is_err(), "no key of that kind was imported");
    }

    #[test]
    fn imported_keys_survive_reopening_and_are_in_a_backup() {
        let (_dir, home) = portcullis_testkit::home();
        let store = portcullis_testkit::builder().open(&home).unwrap();
        let id = imported_id(import_one(&store, digest(SHA512, None)));
        let before = store.get(id).unwrap();
        drop(store);
        let store = Store::builder().open(&home).unwrap();
        assert_eq!(store.get(id).unwrap(), before);
        assert_eq!(store.authenticate_key(b"test").unwrap().id(), id);
        assert_eq!(store.acting_as(Actor::Host).digest_of(id).unwrap().algorithm, "sha512");
    }
}
