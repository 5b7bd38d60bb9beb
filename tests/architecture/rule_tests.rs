//! Tests of the rules: each rule reports a violation and accepts valid code.

use crate::{
    cycles::edges,
    modules::Crate,
    reading::Source,
    rules::{self, MAX_FILE_LINES},
};

/// Asserts that a rule reported exactly these violations; each contains the expected text.
#[track_caller]
fn assert_violations(found: &[String], expected: &[&str]) {
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found:?} does not contain {expected:?}");
    }
}

/// Creates a crate of these files.
fn crate_of(files: &[(&str, &str)]) -> Crate {
    let text = |path: &str| files.iter().find(|(file, _)| *file == path);
    Crate::read("src/lib.rs", &mut |path| text(path).map(|(_, text)| (*text).to_owned()))
}

/// Creates a crate with several modules, and adds this text to one of its files.
fn crate_with(path: &str, text: &str) -> Crate {
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
    crate_of(&files)
}

#[track_caller]
fn imports(path: &str, text: &str, expected: &[&str]) {
    assert_violations(&rules::imports_upwards(&crate_with(path, text)), expected);
}

#[test]
fn import_from_a_lower_module_is_a_violation() {
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
fn name_from_the_crate_root_is_a_violation_except_in_entry_points() {
    imports("src/record.rs", "use crate::KeyId;", &["'KeyId' is not a module"]);
    imports("src/store.rs", "use crate::{id::KeyId, Record, self};", &["'Record'", "'the root'"]);
    imports("src/store/list.rs", "use crate::*;", &["'the root'"]);
    imports("src/web.rs", "use crate::{KeyId, record::Record};", &[]);
    imports("src/web/layer.rs", "use crate::KeyId;", &[]);
    imports("src/server/tls.rs", "use crate::KeyId;", &["'KeyId'"]);
}

#[test]
fn text_that_only_resembles_an_import_is_accepted() {
    let valid = r##"
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
    imports("src/ledger/disk.rs", valid, &[]);
    let invalid = format!("{valid}use crate::web;");
    imports("src/ledger/disk.rs", &invalid, &["src/ledger/disk.rs:20: 'web'"]);
}

/// Asserts the cycles of two files with these texts.
#[track_caller]
fn cycle(a: &str, b: &str, expected: &[&str]) {
    let exports = "mod a; mod b; pub use self::{a::A, b::B}; pub use b::f as g;";
    let files = [
        ("src/lib.rs", "mod dir;"),
        ("src/dir/mod.rs", exports),
        ("src/dir/a.rs", a),
        ("src/dir/b.rs", b),
    ];
    assert_violations(&rules::has_no_cycles(&edges(&crate_of(&files))), expected);
}

#[test]
fn cycle_of_two_files_is_a_violation() {
    let b = "pub struct B(super::A); impl B { pub fn new() {} } pub fn f() {} pub mod c { pub fn h() {} }";
    let found = |item: &str| format!("src/dir/a.rs → src/dir/b.rs: {item} (line 2)");
    let reports = |text: &str, item: &str| {
        cycle(&format!("pub struct A;\n{text}"), b, &[&found(item)]);
    };
    reports("use super::b::B;", "B");
    reports("use super::{b::{self, B}};", "B");
    reports("use crate::dir::B;", "B");
    reports("use super::B as C;", "B");
    reports("fn g() { super::b::f(); }", "f");
    reports("fn g() { use super::b; b::f(); }", "f");
    reports("use super::b; fn g() { vec![b::f()]; }", "f");
    reports("fn g() { super::g() }", "f");
    reports("use super::b::*; fn g() { f() }", "f");
    reports("use super::b::c; fn g() { c::h() }", "h");
    reports("#[path(body = super::B)] fn g() {}", "B");
    reports("fn g(x: Option<&[super::B]>) {}", "B");
    reports("mod inner { use super::super::b::f; }", "f");
    cycle("impl super::B { fn a(&self) {} } pub struct A;", "pub struct B; use super::A;", &["B"]);
    cycle(
        "use super::B; impl B { fn a(&self) {} } pub struct A;",
        "pub struct B; impl B { fn b(&self) { self.a(); } }",
        &["src/dir/b.rs → src/dir/a.rs: a (line 1)"],
    );
    cycle(
        "use super::B; impl B { fn a(&self) {} } pub struct A;",
        "pub struct B; fn f(b: &[B]) { b[0].a(); }",
        &["src/dir/b.rs → src/dir/a.rs: a (line 1)"],
    );
    cycle(
        "use super::B; impl B { const A: u8 = 1; }",
        "pub struct B; impl B { fn b() { Self::A; } }",
        &["src/dir/b.rs → src/dir/a.rs: A (line 1)"],
    );
}

#[test]
fn one_way_uses_modules_and_tests_form_no_cycle() {
    let b = "pub struct B(super::A); pub fn f() {}";
    for valid in [
        "pub use super::b::B;",
        "use super::b;",
        "#[cfg(test)] use super::b::B;",
        "#[cfg(test)] mod tests { use super::super::b::f; fn g() { f() } }",
        "fn g(b: u8) { b.f(); let f = 1; vec![f]; }",
        "/// [`B`](super::B)\nfn g() { \"super::B\"; }",
        "use other::{B, b::f};",
        "pub(in super::b) fn g() {}",
    ] {
        cycle(&format!("pub struct A; {valid}"), b, &[]);
    }
}

#[test]
fn cycle_of_three_files_is_one_violation() {
    let files = [
        ("src/lib.rs", "mod a; mod b; mod c; mod d; use d::D;"),
        ("src/a.rs", "pub struct A; use crate::b::B;"),
        ("src/b.rs", "pub struct B; use crate::c::C;"),
        ("src/c.rs", "pub struct C; use crate::a::A;"),
        ("src/d.rs", "pub struct D; use crate::a::A;"),
    ];
    let edges = edges(&crate_of(&files));
    assert_violations(&rules::has_no_cycles(&edges), &["a cycle of 3 files"]);
}

#[test]
fn external_crate_in_another_module_is_a_violation() {
    let check = |path, text, expected: &[&str]| {
        let found = rules::names_external_crates_in_their_modules(&crate_with(path, text));
        assert_violations(&found, expected);
    };
    let store = |text, expected: &[&str]| check("src/store.rs", text, expected);
    store("use std::fmt;\nuse sled::Db;", &["store.rs:2: 'sled' belongs to"]);
    store("pub use {std::fmt, sled::Db};", &["'sled'"]);
    store("use bincode;\nextern crate rand as dice;", &["'bincode'", "'rand'"]);
    store("use ::rand::rngs; fn f(db: &::sled::Db) {}", &["'rand'", "'sled'"]);
    store("fn f() { vec![bincode::serialize(&1)] }", &["'bincode'"]);
    store("#[cfg(test)] mod tests { use blake3::hash; }", &[]);
    store("mod sled { pub fn f() {} } fn f() { sled::f() }", &[]);
    let disk = |text, expected: &[&str]| check("src/ledger/disk.rs", text, expected);
    disk("fn f(e: etcd_client::Client) {}", &["'etcd_client'"]);
    disk("use sled::Db; use crate::rand::x; use random::fill; // clap::X", &[]);
}

#[test]
fn file_without_a_module_declaration_is_a_violation() {
    let read = |path: &str| (path == "src/dir/mod.rs").then(|| "mod a; #[cfg(test)] mod t;".into());
    assert_violations(&rules::is_declared("src/dir/a.rs", read), &[]);
    assert_violations(&rules::is_declared("src/dir/t.rs", read), &[]);
    assert_violations(&rules::is_declared("src/lib.rs", read), &[]);
    assert_violations(
        &rules::is_declared("src/dir/b.rs", read),
        &["no file declares the module 'b'"],
    );
    assert_violations(&rules::is_declared("src/dir/c/mod.rs", read), &["'c'"]);
}

#[test]
fn file_without_a_description_is_a_violation() {
    let check = |text, expected: &[&str]| {
        assert_violations(&rules::describes_its_purpose("id.rs", text), expected);
    };
    check("//! Ids.\nfn f() {}", &["id.rs"]);
    check("use std::fmt;\n//! The public name of a key.\n", &["id.rs"]);
    check("", &["id.rs"]);
    check("//! The public name of a key.\n", &[]);
}

#[test]
fn spaces_within_a_string_are_a_violation() {
    let check = |text, expected: &[&str]| {
        assert_violations(&rules::has_no_spaces_in_a_string("id.rs", text), expected);
    };
    check("fn f() {\n    \"a text     that goes on\" }", &["id.rs: line 2"]);
    check("    /// A comment   with blanks\nfn f() { \"one\\n  two\" }", &[]);
}

#[test]
fn too_long_file_is_a_violation() {
    let check = |text: &str, expected: &[&str]| {
        assert_violations(&rules::stays_short(&Source::new("id.rs", text)), expected);
    };
    let long = "fn f() {}\n".repeat(MAX_FILE_LINES);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    check(&format!("{long}{tests}"), &[]);
    check(&format!("{long}\n{tests}"), &["401 lines"]);
}

#[test]
fn lint_that_is_allowed_or_expected_without_reason_is_a_violation() {
    let check = |text, expected: &[&str]| {
        assert_violations(
            &rules::expects_lints_with_a_reason(&Source::new("id.rs", text)),
            expected,
        );
    };
    check("#![allow(dead_code)]", &["id.rs:1: 'allow'"]);
    check("#[allow(dead_code, reason = \"it is\")] fn f() {}", &["'allow'"]);
    check("#[cfg_attr(not(test), allow(dead_code))] fn f() {}", &["'allow'"]);
    check("\n#[expect(dead_code)] fn f() {}", &["id.rs:2: 'expect' has no reason"]);
    check("#[expect(dead_code, reason = \"shown\")] fn f() { x.expect(\"\"); allow(1) }", &[]);
}

#[test]
fn digest_comparison_with_an_early_exit_is_a_violation() {
    let check = |text, expected: &[&str]| {
        let source = Source::new("index.rs", text);
        assert_violations(&rules::compares_no_fingerprint_by_itself(&source), expected);
    };
    check("fn f() { if fingerprint == other {} }", &["index.rs:1: a fingerprint"]);
    check("fn f() { a != self.b.fingerprint }", &["a fingerprint"]);
    check("fn f() { a.fingerprint() == b.fingerprint() }", &["a fingerprint", "a fingerprint"]);
    check("let fingerprint = digest.fingerprint(); slot.has(fingerprint) // fingerprint == x", &[]);

    let check = |body: &str, expected: &[&str]| {
        let text = format!("impl Slot {{ fn has(&self, [a, b]: [u64; 2]) -> bool {{ {body} }} }}");
        assert_violations(
            &rules::compares_slots_as_a_whole(&Source::new("segment.rs", &text)),
            expected,
        );
    };
    check("let [x, y] = &self.0; (x.get() ^ a) | (y.get() ^ b) == 0", &[]);
    for early in [
        "x == a && y == b",
        "(x ^ a) == 0 && (y ^ b) == 0",
        "if x != a { return false; } y ^ b == 0",
        "[x, y] == [a, b]",
        "self.0.iter().zip([a, b]).all(|(x, a)| x ^ a == 0)",
    ] {
        check(early, &["may end before all is compared"]);
    }
    let none = Source::new("segment.rs", "fn is(&self) -> bool { true }");
    assert_violations(&rules::compares_slots_as_a_whole(&none), &["no 'fn has'"]);

    let check = |text: &str, expected: &[&str]| {
        assert_violations(
            &rules::compares_digests_as_hashes(&Source::new("digest.rs", text)),
            expected,
        );
    };
    let kept = "#[derive(PartialEq)] pub struct Digest(blake3::Hash);";
    check(kept, &[]);
    check("pub struct Digest([u8; 32]);", &["'Digest'"]);
    check(&format!("{kept} impl PartialEq for Digest {{ }}"), &["'Digest'"]);
}

#[test]
fn manifest_with_default_features_or_unsafe_code_is_a_violation() {
    let check = |path, text: &str, expected: &[&str]| {
        assert_violations(&rules::has_no_defaults_and_no_unsafe_code(path, text), expected);
    };
    let kept = "[features]\ndefault = []\n\n[lints.rust]\nunsafe_code = \"forbid\"\n";
    let workspace =
        format!("[lints]\nworkspace = true\n{}", kept.replace("lints", "workspace.lints"));
    for kept in [kept, &workspace] {
        check("Cargo.toml", kept, &[]);
        check("Cargo.toml", &kept.replace("[]", "[\"axum\"]"), &["default"]);
        check("Cargo.toml", &kept.replace("forbid", "deny"), &["unsafe code"]);
        check("Cargo.toml", &kept.replace("lints", "other"), &["unsafe code"]);
    }
    check("Cargo.toml", &workspace.replace("workspace = true", ""), &["unsafe code"]);
    check("crates/a/Cargo.toml", "[lints]\nworkspace = true", &[]);
    check("crates/a/Cargo.toml", "[lints.rust]\nunsafe_code = \"forbid\"", &[]);
    check("crates/a/Cargo.toml", "[features]\ndefault = [\"b\"]", &["unsafe code", "default"]);
}
