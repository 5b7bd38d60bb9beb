//! A secret is nowhere but with its holder: a key lives its life and fails in every way, and then
//! nothing that the library wrote or said holds any part of it, in any usual spelling.

use portcullis::{
    Acting, Actor, Attempt, Change, Error, Expiry, Grant, KeyId, ListQuery, NewKey, Prefix, Scope,
    Secret, Store, Timestamp,
};
use portcullis_testkit::{base64, basic, home, new_key, scopes};
use std::{
    collections::HashSet,
    fmt::{Debug, Write},
    fs,
    path::Path,
};

/// A piece of so many bytes of any spelling is a find.
const PIECE: usize = 16;

/// The spellings of a secret, cut into overlapping pieces.
struct Search(HashSet<[u8; PIECE]>);

impl Search {
    fn new(key: &str) -> Self {
        let spellings = spellings(secret_part(key));
        Self(spellings.iter().flat_map(|(_, text)| pieces(text.as_bytes())).collect())
    }

    fn finds_in(&self, haystack: &[u8]) -> bool {
        pieces(haystack).any(|piece| self.0.contains(&piece))
    }

    /// The first file below `dir` that holds a piece, and how many bytes were read.
    fn finds_below(&self, dir: &Path) -> (Option<String>, usize) {
        let (mut found, mut read) = (None, 0);
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let (inside, bytes) = if path.is_dir() {
                self.finds_below(&path)
            } else {
                let bytes = fs::read(&path).unwrap();
                let name = path.display().to_string();
                (self.finds_in(&bytes).then_some(name), bytes.len())
            };
            found = found.or(inside);
            read += bytes;
        }
        (found, read)
    }
}

fn pieces(bytes: &[u8]) -> impl Iterator<Item = [u8; PIECE]> {
    bytes.windows(PIECE).map(|piece| piece.try_into().unwrap())
}

/// What follows the id: the random digits and the checksum.
fn secret_part(key: &str) -> &str {
    key.rsplit_once('_').unwrap().1
}

fn spellings(secret: &str) -> Vec<(&'static str, String)> {
    let bytes = secret.as_bytes();
    // After 0, 1 or 2 other bytes (or any 3 more) only these digits are the secret's alone.
    let within = |before: usize| {
        let text = base64(&[&[0, 0][..before], bytes].concat());
        text[(8 * before).div_ceil(6)..8 * (before + bytes.len()) / 6].to_owned()
    };
    let each = |spell: fn(&u8) -> String, between: &str| {
        bytes.iter().map(spell).collect::<Vec<_>>().join(between)
    };
    vec![
        ("text", secret.to_owned()),
        ("base64, first place", within(0)),
        ("base64, second place", within(1)),
        ("base64, third place", within(2)),
        ("hex", each(|byte| format!("{byte:02x}"), "")),
        ("capital hex", each(|byte| format!("{byte:02X}"), "")),
        ("Debug of bytes", each(|byte| format!("{byte}"), ", ")),
        ("hex Debug of bytes", each(|byte| format!("{byte:x}"), ", ")),
    ]
}

/// All that the library said.
#[derive(Default)]
struct Said(String);

impl Said {
    fn debug(&mut self, value: impl Debug) {
        let _ = writeln!(self.0, "{value:?}\n{value:#?}");
    }

    fn error(&mut self, error: impl std::error::Error) {
        self.debug(&error);
        let _ = writeln!(self.0, "{error}");
        let mut source = error.source();
        while let Some(error) = source {
            let _ = writeln!(self.0, "{error:?} {error}");
            source = error.source();
        }
    }

    fn failure<T: Debug>(&mut self, outcome: Result<T, impl std::error::Error>) {
        self.error(outcome.expect_err("it has to fail"));
    }
}

#[test]
fn the_search_finds_every_spelling_at_every_place() {
    let store = Store::in_memory().unwrap();
    let issued = store.issue(new_key(&store, "planted", &[])).unwrap();
    let key = issued.secret.reveal(str::to_owned);
    let search = Search::new(&key);
    assert!(!search.finds_in(key.split_at(key.len() - 39).0.as_bytes()), "the id is no secret");
    for (name, spelling) in spellings(secret_part(&key)) {
        assert!(search.finds_in(format!("a log says {spelling}.").as_bytes()), "{name}");
        assert!(search.finds_in(&spelling.as_bytes()[spelling.len() / 2..]), "half of {name}");
    }
    for before in ["", "a", "ab", "abc", "Basic "] {
        let encoded = base64(format!("{before}{key}:").as_bytes());
        assert!(search.finds_in(encoded.as_bytes()), "{before}");
    }
    let (_dir, home) = home();
    fs::create_dir_all(home.join("deep")).unwrap();
    fs::write(home.join("deep/log"), basic(key.as_bytes())).unwrap();
    assert!(search.finds_below(&home).0.unwrap().ends_with("deep/log"));
}

#[test]
fn a_secret_is_nowhere_but_with_its_holder() {
    let (_dir, home) = home();
    let mut said = Said::default();
    let store = Store::open(&home).unwrap();
    let issued = store.issue(new_key(&store, "holder", &["api.read", "admin.key.update"])).unwrap();
    said.debug(&issued);
    let id = issued.record.id;
    let key = issued.secret.reveal(str::to_owned);
    let search = Search::new(&key);

    said.debug(store.authenticate(basic(key.as_bytes()).as_bytes()).unwrap());
    said.debug((&store, store.prefix(), store.health(), store.catalogue().entries()));
    present_wrongly(&store, &key, &mut said);
    paste_everywhere(&store, id, &key, &mut said);
    let acting = store.acting_as(Actor::Key(id), Some("192.0.2.7".parse().unwrap()));
    change_wrongly(&store, acting, id, &mut said);
    acting.refuse(Attempt::List, Some(id), &format!("{key} may not")).unwrap();
    said.failure(Store::open(&home));
    said.failure(Store::builder().prefix(Prefix::new("acme").unwrap()).create(&home));
    let (found, read) = search.finds_below(&home);
    assert_eq!(found, None, "while it is open");
    assert!(read > 10_000, "{read}");

    said.debug(store.revoke(id).unwrap());
    said.failure(store.authenticate_key(key.as_bytes()));
    said.failure(acting.revoke(id));
    said.debug(store.update(id, Change::activate()).unwrap());
    let end = Some(Expiry::At(Timestamp::from_secs(1)));
    said.debug(store.update(id, Change { expiry: end, ..Change::default() }).unwrap());
    said.failure(store.authenticate_key(key.as_bytes()));
    said.debug(store.list(&ListQuery::default()).unwrap());
    store.revoke(id).unwrap();
    store.delete(id).unwrap();
    said.failure(store.authenticate_key(key.as_bytes()));
    said.debug(store.audit(0, 1000).unwrap());
    drop(store);
    assert_eq!(search.finds_below(&home).0, None, "after it was closed");

    said.failure(Store::builder().prefix(Prefix::new("acme").unwrap()).open(&home));
    said.failure(Store::builder().pepper(*b"sixteen bytes or more").open(&home));
    let store = Store::open(&home).unwrap();
    said.failure(store.authenticate_key(key.as_bytes()));
    said.debug(store.audit(0, 1000).unwrap());
    assert!(said.0.contains("looks like an API key") && said.0.contains("Secret(<elided>)"));
    assert!(!search.finds_in(said.0.as_bytes()), "{}", said.0);
}

/// The key in every place of a header but the right one.
fn present_wrongly(store: &Store, key: &str, said: &mut Said) {
    let user = |user: String| format!("Basic {}", base64(user.as_bytes()));
    for header in [
        format!("Bearer {key}"),
        format!("Basic {key}"),
        key.to_owned(),
        basic(key.as_bytes()) + "=",
        basic(key.as_bytes()).replace("Basic", "Digest"),
        user(format!("{key}:{key}")),
        user(format!(":{key}")),
        user(format!("{key}\n:")),
        user(format!("{key}{key}:")),
        user(format!("{key}x:")),
        user(format!("x{key}:")),
    ] {
        said.failure(store.authenticate(header.as_bytes()));
    }
    let header = basic(key.as_bytes());
    said.failure(store.authenticate_all([header.as_bytes(), header.as_bytes()]));
    said.failure(store.authenticate_key(&key.as_bytes()[1..]));
}

/// The key in every field that takes text.
fn paste_everywhere(store: &Store, id: KeyId, key: &str, said: &mut Said) {
    let good = || new_key(store, "good", &["api.read"]);
    let text = format!("key={key};");
    let pair = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
    for new in [
        NewKey { name: text.clone(), ..good() },
        NewKey { name: key.repeat(3), ..good() },
        NewKey { name: format!("{key}\0"), ..good() },
        NewKey { owner: Some(text.clone()), ..good() },
        NewKey { owner: Some(key.repeat(3)), ..good() },
        NewKey { metadata: pair("note", key), ..good() },
        NewKey { metadata: pair(key, "note"), ..good() },
        NewKey { metadata: pair(&key.repeat(2), "note"), ..good() },
    ] {
        let change = Change {
            name: Some(new.name.clone()),
            owner: Some(new.owner.clone()),
            metadata: Some(new.metadata.clone()),
            ..Change::default()
        };
        said.failure(store.issue(new.clone()));
        said.failure(store.update(id, change.clone()));
        said.failure(store.acting_as(Actor::Key(id), None).issue(new));
        said.failure(store.acting_as(Actor::Key(id), None).update(id, change));
    }
    said.failure(store.scopes([key]));
    said.failure(store.scopes([format!("api.{key}")]));
    said.failure(store.scopes([secret_part(key)]));
    said.failure(key.parse::<Scope>());
    said.failure(key.parse::<KeyId>());
    said.failure(Prefix::new(key));
    said.debug(Secret::is_well_formed(key));
    let token = ListQuery { page_token: Some(key.to_owned()), ..ListQuery::default() };
    said.failure(store.list(&token));
    let search = ListQuery { text: Some(key.to_owned()), ..ListQuery::default() };
    said.debug(store.list(&search).unwrap());
}

/// Changes that are refused for other reasons.
fn change_wrongly(store: &Store, acting: Acting<'_>, id: KeyId, said: &mut Said) {
    said.failure(store.delete(id));
    said.failure(acting.delete(id));
    said.failure(acting.issue(new_key(store, "child", &["api.read"])));
    said.failure(acting.update_if(id, 0, Change::deactivate()));
    let wider = Some(scopes(store, &["api.write"]));
    said.failure(acting.update(id, Change { grant: wider, ..Change::default() }));
    said.failure(acting.update(id, Change { grant: Some(Grant::All), ..Change::default() }));
    let foreign = Some(Some("rival".to_owned()));
    said.failure(acting.update(id, Change { owner: foreign, ..Change::default() }));
    let nobody = "key_00000000000".parse().unwrap();
    said.failure(store.update(nobody, Change::deactivate()));
    said.failure(store.get(nobody));
    assert!(matches!(store.get(nobody), Err(Error::NoSuchKey(_))));
}
