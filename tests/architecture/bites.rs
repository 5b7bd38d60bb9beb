//! Each rule is shown an offence and sees it.

use crate::{
    circles::edges,
    modules::Crate,
    reading::Source,
    rules::{self, LONGEST_FILE},
};

/// Asserts that the rule objects to exactly these, each with these words.
#[track_caller]
fn bites(found: &[String], expected: &[&str]) {
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
}

/// A crate of these files. Those with no text of their own are empty.
fn house(files: &[(&str, &str)]) -> Crate {
    let text = |path: &str| files.iter().find(|(file, _)| *file == path);
    Crate::read("src/lib.rs", &mut |path| text(path).map(|(_, text)| (*text).to_owned()))
}

/// A crate with an order of rooms, and this text in one of its files.
fn house_with(path: &str, text: &str) -> Crate {
    let mut files = vec![
        ("src/lib.rs", "mod id; mod record; mod ledger; mod store; mod web; mod server;"),
        ("src/id.rs", ""),
        ("src/record.rs", ""),
        ("src/ledger/mod.rs", "mod disk;"),
        ("src/ledger/disk.rs", ""),
        ("src/store.rs", "mod list;"),
        ("src/store/list.rs", ""),
        ("src/web.rs", "mod layer;"),
        ("src/web/layer.rs", ""),
        ("src/server.rs", "mod tls;"),
        ("src/server/tls.rs", ""),
    ];
    let children = files.iter().find(|(file, _)| *file == path).map_or("", |(_, text)| text);
    let text = format!("{text}\n{children}");
    files.insert(0, (path, &text));
    house(&files)
}

#[track_caller]
fn imports(path: &str, text: &str, expected: &[&str]) {
    bites(&rules::imports_upwards(&house_with(path, text)), expected);
}

#[test]
fn an_import_from_below_is_caught() {
    let record = |text, expected: &[&str]| imports("src/record.rs", text, expected);
    record("use crate::ledger::Ledger;", &["src/record.rs:1: 'ledger' is listed below 'record'"]);
    record(
        "use std::fmt;\nuse crate::{id::{KeyId, X},\n store::Store};",
        &["record.rs:3: 'store'"],
    );
    record("fn f() -> u8 { crate::store::f() }", &["'store' is listed below 'record'"]);
    record("pub(in crate::web) fn f(x: &'static crate::server::X<'_>) {}", &["'web'", "'server'"]);
    record("pub use crate::store::Store;", &["'store'"]);
    record("fn f() { vec![crate::store::f()]; }", &["'store'"]);
    record("use super::store::Store;", &["'store'"]);
    record("mod a { use super::super::store; use super::store; }", &["'store'"]);
    let disk = |text, expected: &[&str]| imports("src/ledger/disk.rs", text, expected);
    disk("use super::super::{store, id};", &["'store'"]);
    disk("const A: char = '\"'; use crate::web; const B: char = '\"';", &["'web'"]);
    imports("src/ledger/mod.rs", "use super::{store, id};", &["'store'"]);
    imports("src/web/layer.rs", "use crate::server::tls;", &["'server'"]);
}

#[test]
fn a_name_from_the_root_of_the_crate_is_caught_below_the_entry_points() {
    imports("src/record.rs", "use crate::KeyId;", &["'KeyId' is no module"]);
    imports("src/store.rs", "use crate::{id::KeyId, Record, self};", &["'Record'", "'the root'"]);
    imports("src/store/list.rs", "use crate::*;", &["'the root'"]);
    imports("src/web.rs", "use crate::{KeyId, record::Record};", &[]);
    imports("src/web/layer.rs", "use crate::KeyId;", &[]);
    imports("src/server/tls.rs", "use crate::KeyId;", &["'KeyId'"]);
}

#[test]
fn what_only_looks_like_an_import_is_let_through() {
    let innocent = r##"
        //! See [`Store`](crate::store::Store).
        use crate::{id::{self, KeyId}, record::Record};
        /// [`web`](crate::web) /* crate::web */
        /* crate::web /* crate::web */ crate::web */
        pub(crate) const A: &str = "crate::web \" crate::web";
        const B: &str = r#"crate::web " crate::web"#;
        const C: [char; 2] = ['"', '\''];
        use super::Seam;
        #[cfg(test)]
        use crate::store::{a, b};
        /// A helper of tests.
        #[cfg(all(test, shuttle))]
        fn f(x: [u8; 2]) -> Result<u8, u8> { crate::web::f() }
        fn g() { #[cfg(test)] let a = crate::web::f; #[cfg(test)] if crate::web::f() { } }
        struct D { #[cfg(test)] d: Vec<crate::web::D>, e: u8 }
        #[cfg(test)]
        mod tests { use crate::store::Store; fn g() { { } } }
        use crate::ledger::anchor;
    "##;
    imports("src/ledger/disk.rs", innocent, &[]);
    let caught = format!("{innocent}use crate::web;");
    imports("src/ledger/disk.rs", &caught, &["src/ledger/disk.rs:20: 'web'"]);
}

/// Two files that use each other by these texts.
#[track_caller]
fn circle(a: &str, b: &str, expected: &[&str]) {
    let exports = "mod a; mod b; pub use self::{a::A, b::B}; pub use b::f as g;";
    let files = [
        ("src/lib.rs", "mod room;"),
        ("src/room/mod.rs", exports),
        ("src/room/a.rs", a),
        ("src/room/b.rs", b),
    ];
    bites(&rules::has_no_circles(&edges(&house(&files))), expected);
}

#[test]
fn a_circle_of_files_is_caught() {
    let b = "pub struct B(super::A); impl B { pub fn new() {} } pub fn f() {} pub mod c { pub fn h() {} }";
    let found = |item: &str| format!("src/room/a.rs → src/room/b.rs: {item} (line 2)");
    let caught = |text: &str, item: &str| {
        circle(&format!("pub struct A;\n{text}"), b, &[&found(item)]);
    };
    caught("use super::b::B;", "B");
    caught("use super::{b::{self, B}};", "B");
    caught("use crate::room::B;", "B");
    caught("use super::B as C;", "B");
    caught("fn g() { super::b::f(); }", "f");
    caught("fn g() { use super::b; b::f(); }", "f");
    caught("use super::b; fn g() { vec![b::f()]; }", "f");
    caught("fn g() { super::g() }", "f");
    caught("use super::b::*; fn g() { f() }", "f");
    caught("use super::b::c; fn g() { c::h() }", "h");
    caught("#[path(body = super::B)] fn g() {}", "B");
    caught("fn g(x: Option<&[super::B]>) {}", "B");
    caught("mod inner { use super::super::b::f; }", "f");
    circle("impl super::B { fn a(&self) {} } pub struct A;", "pub struct B; use super::A;", &["B"]);
    circle(
        "use super::B; impl B { fn a(&self) {} } pub struct A;",
        "pub struct B; impl B { fn b(&self) { self.a(); } }",
        &["src/room/b.rs → src/room/a.rs: a (line 1)"],
    );
    circle(
        "use super::B; impl B { fn a(&self) {} } pub struct A;",
        "pub struct B; fn f(b: &[B]) { b[0].a(); }",
        &["src/room/b.rs → src/room/a.rs: a (line 1)"],
    );
    circle(
        "use super::B; impl B { const A: u8 = 1; }",
        "pub struct B; impl B { fn b() { Self::A; } }",
        &["src/room/b.rs → src/room/a.rs: A (line 1)"],
    );
}

#[test]
fn uses_one_way_and_modules_and_tests_make_no_circle() {
    let b = "pub struct B(super::A); pub fn f() {}";
    for innocent in [
        "pub use super::b::B;",
        "use super::b;",
        "#[cfg(test)] use super::b::B;",
        "#[cfg(test)] mod tests { use super::super::b::f; fn g() { f() } }",
        "fn g(b: u8) { b.f(); let f = 1; vec![f]; }",
        "/// [`B`](super::B)\nfn g() { \"super::B\"; }",
        "use other::{B, b::f};",
        "pub(in super::b) fn g() {}",
    ] {
        circle(&format!("pub struct A; {innocent}"), b, &[]);
    }
}

#[test]
fn a_circle_of_three_files_is_one() {
    let files = [
        ("src/lib.rs", "mod a; mod b; mod c; mod d; use d::D;"),
        ("src/a.rs", "pub struct A; use crate::b::B;"),
        ("src/b.rs", "pub struct B; use crate::c::C;"),
        ("src/c.rs", "pub struct C; use crate::a::A;"),
        ("src/d.rs", "pub struct D; use crate::a::A;"),
    ];
    let edges = edges(&house(&files));
    bites(&rules::has_no_circles(&edges), &["a circle of 3 files"]);
}

#[test]
fn an_outside_crate_in_another_room_is_caught() {
    let bite = |path, text, expected: &[&str]| {
        let found = rules::names_outside_crates_in_their_room(&house_with(path, text));
        bites(&found, expected);
    };
    let store = |text, expected: &[&str]| bite("src/store.rs", text, expected);
    store("use std::fmt;\nuse sled::Db;", &["store.rs:2: 'sled' belongs to"]);
    store("pub use {std::fmt, sled::Db};", &["'sled'"]);
    store("use bincode;\nextern crate rand as dice;", &["'bincode'", "'rand'"]);
    store("use ::rand::rngs; fn f(db: &::sled::Db) {}", &["'rand'", "'sled'"]);
    store("fn f() { vec![bincode::serialize(&1)] }", &["'bincode'"]);
    store("#[cfg(test)] mod tests { use blake3::hash; }", &[]);
    store("mod sled { pub fn f() {} } fn f() { sled::f() }", &[]);
    let disk = |text, expected: &[&str]| bite("src/ledger/disk.rs", text, expected);
    disk("fn f(e: etcd_client::Client) {}", &["'etcd_client'"]);
    disk("use sled::Db; use crate::rand::x; use random::fill; // clap::X", &[]);
}

#[test]
fn a_file_that_nothing_declares_is_caught() {
    let read =
        |path: &str| (path == "src/room/mod.rs").then(|| "mod a; #[cfg(test)] mod t;".into());
    bites(&rules::is_declared("src/room/a.rs", read), &[]);
    bites(&rules::is_declared("src/room/t.rs", read), &[]);
    bites(&rules::is_declared("src/lib.rs", read), &[]);
    bites(&rules::is_declared("src/room/b.rs", read), &["no file declares the module 'b'"]);
    bites(&rules::is_declared("src/room/c/mod.rs", read), &["'c'"]);
}

#[test]
fn a_file_without_a_purpose_is_caught() {
    let bite = |text, expected: &[&str]| {
        bites(&rules::says_its_purpose("id.rs", text), expected);
    };
    bite("//! Ids.\nfn f() {}", &["id.rs"]);
    bite("use std::fmt;\n//! The public name of a key.\n", &["id.rs"]);
    bite("", &["id.rs"]);
    bite("//! The public name of a key.\n", &[]);
}

#[test]
fn blanks_within_a_text_are_caught() {
    let bite = |text, expected: &[&str]| {
        bites(&rules::has_no_gap_in_a_text("id.rs", text), expected);
    };
    bite("fn f() {\n    \"a text     that goes on\" }", &["id.rs: line 2"]);
    bite("    /// A comment   with blanks\nfn f() { \"one\\n  two\" }", &[]);
}

#[test]
fn a_file_that_is_too_long_is_caught() {
    let bite = |text: &str, expected: &[&str]| {
        bites(&rules::stays_short(&Source::new("id.rs", text)), expected);
    };
    let long = "fn f() {}\n".repeat(LONGEST_FILE);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    bite(&format!("{long}{tests}"), &[]);
    bite(&format!("{long}\n{tests}"), &["401 lines"]);
}

#[test]
fn a_lint_that_is_switched_off_for_no_reason_is_caught() {
    let bite = |text, expected: &[&str]| {
        bites(&rules::expects_lints_with_a_reason(&Source::new("id.rs", text)), expected);
    };
    bite("#![allow(dead_code)]", &["id.rs:1: 'allow'"]);
    bite("#[allow(dead_code, reason = \"it is\")] fn f() {}", &["'allow'"]);
    bite("#[cfg_attr(not(test), allow(dead_code))] fn f() {}", &["'allow'"]);
    bite("\n#[expect(dead_code)] fn f() {}", &["id.rs:2: 'expect' has no reason"]);
    bite("#[expect(dead_code, reason = \"shown\")] fn f() { x.expect(\"\"); allow(1) }", &[]);
}

#[test]
fn a_comparison_of_digests_that_ends_early_is_caught() {
    let bite = |text, expected: &[&str]| {
        let source = Source::new("index.rs", text);
        bites(&rules::compares_no_fingerprint_by_itself(&source), expected);
    };
    bite("fn f() { if fingerprint == other {} }", &["index.rs:1: a fingerprint"]);
    bite("fn f() { a != self.b.fingerprint }", &["a fingerprint"]);
    bite("fn f() { a.fingerprint() == b.fingerprint() }", &["a fingerprint", "a fingerprint"]);
    bite("let fingerprint = digest.fingerprint(); slot.has(fingerprint) // fingerprint == x", &[]);

    let bite = |body: &str, expected: &[&str]| {
        let text = format!("impl Slot {{ fn has(&self, [a, b]: [u64; 2]) -> bool {{ {body} }} }}");
        bites(&rules::compares_slots_as_a_whole(&Source::new("segment.rs", &text)), expected);
    };
    bite("let [x, y] = &self.0; (x.get() ^ a) | (y.get() ^ b) == 0", &[]);
    for early in [
        "x == a && y == b",
        "(x ^ a) == 0 && (y ^ b) == 0",
        "if x != a { return false; } y ^ b == 0",
        "[x, y] == [a, b]",
        "self.0.iter().zip([a, b]).all(|(x, a)| x ^ a == 0)",
    ] {
        bite(early, &["may end before all is compared"]);
    }
    let none = Source::new("segment.rs", "fn is(&self) -> bool { true }");
    bites(&rules::compares_slots_as_a_whole(&none), &["no 'fn has'"]);

    let bite = |text: &str, expected: &[&str]| {
        bites(&rules::compares_digests_as_hashes(&Source::new("digest.rs", text)), expected);
    };
    let kept = "#[derive(PartialEq)] pub struct Digest(blake3::Hash);";
    bite(kept, &[]);
    bite("pub struct Digest([u8; 32]);", &["'Digest'"]);
    bite(&format!("{kept} impl PartialEq for Digest {{ }}"), &["'Digest'"]);
}

#[test]
fn a_manifest_that_breaks_its_promises_is_caught() {
    let bite = |path, text: &str, expected: &[&str]| {
        bites(&rules::keeps_its_promises(path, text), expected);
    };
    let kept = "[features]\ndefault = []\n\n[lints.rust]\nunsafe_code = \"forbid\"\n";
    let workspace =
        format!("[lints]\nworkspace = true\n{}", kept.replace("lints", "workspace.lints"));
    for kept in [kept, &workspace] {
        bite("Cargo.toml", kept, &[]);
        bite("Cargo.toml", &kept.replace("[]", "[\"axum\"]"), &["default"]);
        bite("Cargo.toml", &kept.replace("forbid", "deny"), &["unsafe code"]);
        bite("Cargo.toml", &kept.replace("lints", "other"), &["unsafe code"]);
    }
    bite("Cargo.toml", &workspace.replace("workspace = true", ""), &["unsafe code"]);
    bite("crates/a/Cargo.toml", "[lints]\nworkspace = true", &[]);
    bite("crates/a/Cargo.toml", "[lints.rust]\nunsafe_code = \"forbid\"", &[]);
    bite("crates/a/Cargo.toml", "[features]\ndefault = [\"b\"]", &["unsafe code", "default"]);
}
