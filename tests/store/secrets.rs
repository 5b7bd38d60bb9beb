//! No secret leaks: a key is used, changed and refused in every way. Afterwards no file, `Debug`
//! output or error text of the library contains a part of its secret, in any usual encoding.

use portcullis::{
    Acting, Actor, Change, Error, Expiry, Grant, KeyId, Prefix, Scope, Secret, Store, Timestamp,
    audit::Attempt, list::ListQuery,
};
use portcullis_testkit::{base64, basic, home, new_key, scopes};
use std::{
    collections::HashSet,
    fmt::{Debug, Write},
    fs,
    path::Path,
};

/// A match of this many bytes counts as a leak.
const PIECE: usize = 16;

/// The encodings of a secret, as overlapping pieces.
struct Search(HashSet<[u8; PIECE]>);

impl Search {
    fn new(key: &str) -> Self {
        let encodings = encodings(secret_part(key));
        Self(encodings.iter().flat_map(|(_, text)| pieces(text.as_bytes())).collect())
    }

    fn finds_in(&self, haystack: &[u8]) -> bool {
        pieces(haystack).any(|piece| self.0.contains(&piece))
    }

    /// Returns the first file below `dir` that contains a piece, and the number of bytes read.
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

/// Returns the part after the id: the random digits and the checksum.
fn secret_part(key: &str) -> &str {
    key.rsplit_once('_').unwrap().1
}

fn encodings(secret: &str) -> Vec<(&'static str, String)> {
    let bytes = secret.as_bytes();
    // After 0, 1 or 2 other bytes (modulo 3), only these digits depend on the secret alone.
    let within = |before: usize| {
        let text = base64(&[&[0, 0][..before], bytes].concat());
        text[(8 * before).div_ceil(6)..8 * (before + bytes.len()) / 6].to_owned()
    };
    let each = |spell: fn(&u8) -> String, between: &str| {
        bytes.iter().map(spell).collect::<Vec<_>>().join(between)
    };
    vec![
        ("text", secret.to_owned()),
        ("base64, offset 0", within(0)),
        ("base64, offset 1", within(1)),
        ("base64, offset 2", within(2)),
        ("hex", each(|byte| format!("{byte:02x}"), "")),
        ("capital hex", each(|byte| format!("{byte:02X}"), "")),
        ("Debug of bytes", each(|byte| format!("{byte}"), ", ")),
        ("hex Debug of bytes", each(|byte| format!("{byte:x}"), ", ")),
    ]
}

/// All output of the library.
#[derive(Default)]
struct Output(String);

impl Output {
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
        self.error(outcome.expect_err("the operation fails"));
    }
}

#[test]
fn search_finds_every_encoding_at_every_offset() {
    let store = portcullis_testkit::builder().in_memory().unwrap();
    let issued = store.issue(new_key(&store, "leaked", &[])).unwrap();
    let key = issued.secret.reveal(str::to_owned);
    let search = Search::new(&key);
    assert!(!search.finds_in(key.split_at(key.len() - 39).0.as_bytes()), "the id is not secret");
    for (name, encoding) in encodings(secret_part(&key)) {
        assert!(search.finds_in(format!("a log says {encoding}.").as_bytes()), "{name}");
        assert!(search.finds_in(&encoding.as_bytes()[encoding.len() / 2..]), "half of {name}");
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
fn secret_is_in_no_file_and_no_output() {
    let (_dir, home) = home();
    let mut output = Output::default();
    let store = portcullis_testkit::builder().open(&home).unwrap();
    let issued = store.issue(new_key(&store, "holder", &["api.read", "admin.key.update"])).unwrap();
    output.debug(&issued);
    let id = issued.record.id;
    let key = issued.secret.reveal(str::to_owned);
    let search = Search::new(&key);

    output.debug(store.authenticate_header(basic(key.as_bytes()).as_bytes()).unwrap());
    output.debug((&store, store.prefix(), store.health(), store.catalogue().entries()));
    present_wrongly(&store, &key, &mut output);
    paste_everywhere(&store, id, &key, &mut output);
    let acting = store.acting_as(Actor::Key(id)).with_address("192.0.2.7".parse().unwrap());
    change_wrongly(&store, acting, id, &mut output);
    acting.refuse(Attempt::List, Some(id), &format!("{key} may not")).unwrap();
    output.failure(portcullis_testkit::builder().open(&home));
    output
        .failure(portcullis_testkit::builder().prefix(Prefix::new("acme").unwrap()).create(&home));
    let (found, read) = search.finds_below(&home);
    assert_eq!(found, None, "while the store is open");
    assert!(read > 10_000, "{read}");

    output.debug(store.revoke(id).unwrap());
    output.failure(store.authenticate_key(key.as_bytes()));
    output.failure(acting.revoke(id));
    output.debug(store.update(id, Change::activate()).unwrap());
    let end = Expiry::At(Timestamp::from_secs(1));
    output.debug(store.update(id, Change::default().with_expiry(end)).unwrap());
    output.failure(store.authenticate_key(key.as_bytes()));
    output.debug(store.list(&ListQuery::default()).unwrap());
    store.revoke(id).unwrap();
    store.delete(id).unwrap();
    output.failure(store.authenticate_key(key.as_bytes()));
    output.debug(store.audit(0, 1000).unwrap());
    drop(store);
    assert_eq!(search.finds_below(&home).0, None, "after the store was closed");

    output.failure(portcullis_testkit::builder().prefix(Prefix::new("acme").unwrap()).open(&home));
    output.failure(portcullis_testkit::builder().pepper(*b"sixteen bytes or more").open(&home));
    let store = portcullis_testkit::builder().open(&home).unwrap();
    output.failure(store.authenticate_key(key.as_bytes()));
    output.debug(store.audit(0, 1000).unwrap());
    assert!(output.0.contains("looks like an API key") && output.0.contains("Secret(<elided>)"));
    assert!(!search.finds_in(output.0.as_bytes()), "{}", output.0);
}

/// Presents the key in every wrong place of a header.
fn present_wrongly(store: &Store, key: &str, output: &mut Output) {
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
        output.failure(store.authenticate_header(header.as_bytes()));
    }
    let header = basic(key.as_bytes());
    output.failure(store.authenticate([header.as_bytes(), header.as_bytes()].into_iter()));
    output.failure(store.authenticate_key(&key.as_bytes()[1..]));
}

/// Passes the key in every field that takes text.
fn paste_everywhere(store: &Store, id: KeyId, key: &str, output: &mut Output) {
    let good = || new_key(store, "good", &["api.read"]);
    let text = format!("key={key};");
    let pair = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
    for new in [
        good().with_name(text.clone()),
        good().with_name(key.repeat(3)),
        good().with_name(format!("{key}\0")),
        good().with_owner(text.clone()),
        good().with_owner(key.repeat(3)),
        good().with_metadata(pair("note", key)),
        good().with_metadata(pair(key, "note")),
        good().with_metadata(pair(&key.repeat(2), "note")),
    ] {
        let mut change = Change::default().with_name(&new.name).with_metadata(new.metadata.clone());
        change.owner = Some(new.owner.clone());
        output.failure(store.issue(new.clone()));
        output.failure(store.update(id, change.clone()));
        output.failure(store.acting_as(Actor::Key(id)).issue(new));
        output.failure(store.acting_as(Actor::Key(id)).update(id, change));
    }
    output.failure(store.scopes([key]));
    output.failure(store.scopes([format!("api.{key}")]));
    output.failure(store.scopes([secret_part(key)]));
    output.failure(key.parse::<Scope>());
    output.failure(key.parse::<KeyId>());
    output.failure(Prefix::new(key));
    output.debug(Secret::is_well_formed(key));
    let token = ListQuery::default().with_page_token(key.to_owned());
    output.failure(store.list(&token));
    let search = ListQuery::default().with_text(key.to_owned());
    output.debug(store.list(&search).unwrap());
}

/// Makes changes that are refused for other reasons.
fn change_wrongly(store: &Store, acting: Acting<'_>, id: KeyId, output: &mut Output) {
    output.failure(store.delete(id));
    output.failure(acting.delete(id));
    output.failure(acting.issue(new_key(store, "child", &["api.read"])));
    output.failure(acting.update_if(id, 0, Change::deactivate()));
    let wider = scopes(store, &["api.write"]);
    output.failure(acting.update(id, Change::default().with_grant(wider)));
    output.failure(acting.update(id, Change::default().with_grant(Grant::All)));
    output.failure(acting.update(id, Change::default().with_owner("rival")));
    let unknown = "key_00000000000".parse().unwrap();
    output.failure(store.update(unknown, Change::deactivate()));
    output.failure(store.get(unknown));
    assert!(matches!(store.get(unknown), Err(Error::NoSuchKey(_))));
}
