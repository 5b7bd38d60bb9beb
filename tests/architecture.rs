//! The rules of the house, kept by reading its sources: modules import upwards only, an outside
//! crate has one room, each file says what it is for, and none outgrows its idea.
//!
//! Each rule is a function of a file's path and text that returns what it objects to; the second
//! half of this file shows each of them an offence and sees it caught.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path};

/// Rooms at the edge; they may also use what the crate's root exports, as a host does.
const DOORS: &[&str] = &["web", "admin", "server", "cli", "main"];

/// Outside crates and the rooms that may name them.
const ONE_ROOM: &[(&str, &[&str])] = &[
    ("axum_server", &["server"]),
    ("bincode", &["codec"]),
    ("blake3", &["digest"]),
    ("caseless", &["index"]),
    ("clap", &["cli", "main"]),
    ("crc32fast", &["secret"]),
    ("crossbeam_utils", &["index"]),
    ("etcd_client", &["cluster/etcd"]),
    ("governor", &["server"]),
    ("indicatif", &["cli"]),
    ("loom", &["sync", "index/orders"]),
    ("hashbrown", &["index"]),
    ("maud", &["admin/portal"]),
    ("memchr", &["index"]),
    ("parking_lot", &["sync"]),
    ("prometheus_client", &["server"]),
    ("rand", &["random"]),
    ("rcgen", &["server"]),
    ("rustls", &["server"]),
    ("shuttle", &["sync", "index/models", "store/models"]),
    ("sled", &["ledger"]),
    ("unicode_normalization", &["index"]),
    ("unicode_width", &["cli"]),
    ("utoipa", &["admin"]),
    ("utoipa_axum", &["admin"]),
];

const SHORTEST_PURPOSE: usize = 20;
const LONGEST_FILE: usize = 400;

#[test]
fn modules_import_only_from_those_above_them() {
    let order = order_of_modules();
    objections(|path, text| imports_upwards(path, text, &order));
}

#[test]
fn an_outside_crate_is_named_in_one_room() {
    objections(names_outside_crates_in_their_room);
}

#[test]
fn each_file_says_what_it_is_for() {
    objections(says_its_purpose);
}

#[test]
fn no_text_is_continued_with_the_blanks_of_its_line() {
    objections(has_no_gap_in_a_text);
}

#[test]
fn no_file_outgrows_its_idea() {
    objections(stays_short);
}

/// No run of the code shows it: a comparison that ends early decides the same.
#[test]
fn digests_are_compared_without_an_early_exit() {
    objections(compares_no_fingerprint_by_itself);
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = compares_slots_as_a_whole(&read(&src.join("index/segment.rs")));
    found.extend(compares_digests_as_hashes(&read(&src.join("digest.rs"))));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_manifest_adds_nothing_by_default_and_forbids_unsafe_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = keeps_its_promises("Cargo.toml", &read(&root.join("Cargo.toml")));
    assert!(found.is_empty(), "{found:#?}");
}

// ── the rules

fn imports_upwards(path: &str, text: &str, order: &[String]) -> Vec<String> {
    let room = room(path);
    if room == "lib" {
        return Vec::new();
    }
    let place = |name: &str| order.iter().position(|module| module == name);
    let Some(own) = place(room) else {
        return vec![format!("{path}: neither lib.rs nor main.rs lists the module '{room}'")];
    };
    let code = tokens(text);
    let mut found = Vec::new();
    for (line, name) in names_at_the_root(path, &without_tests(&code)) {
        match place(name) {
            _ if name == room => {}
            Some(other) if other < own => {}
            Some(_) => found.push(format!("{path}:{line}: '{name}' is listed below '{room}'")),
            None if DOORS.contains(&room) => {}
            None => found.push(format!("{path}:{line}: '{name}' is no module; name its own path")),
        }
    }
    found
}

fn names_outside_crates_in_their_room(path: &str, text: &str) -> Vec<String> {
    let stem = path.trim_end_matches(".rs");
    let within = |room: &str| {
        stem == room || stem.strip_prefix(room).is_some_and(|rest| rest.starts_with('/'))
    };
    let code = tokens(text);
    let code = without_tests(&code);
    let mut found = Vec::new();
    let strangers = ONE_ROOM.iter().filter(|(_, rooms)| !rooms.iter().any(|room| within(room)));
    for (name, rooms) in strangers {
        let padded = [&[(0, ""); 2], code.as_slice(), &[(0, "")]].concat();
        for window in padded.windows(4) {
            let [(_, earlier), (_, before), (line, token), (_, next)] = window else { continue };
            let continues = match *before {
                "." => true,
                "::" => *earlier == ">" || earlier.starts_with(is_of_name) && *earlier != "use",
                _ => false,
            };
            let is_whole = matches!(*before, "use" | "crate") && *next != "::";
            if token == name && (is_whole || *next == "::" && !continues) {
                found.push(format!("{path}:{line}: '{name}' belongs to {rooms:?}"));
            }
        }
    }
    found
}

fn says_its_purpose(path: &str, text: &str) -> Vec<String> {
    let first = text.lines().next().unwrap_or_default();
    let purpose = first.strip_prefix("//!").map_or(0, |words| words.trim().chars().count());
    let short = purpose < SHORTEST_PURPOSE;
    short
        .then(|| format!("{path}: the first line does not say what the file is for"))
        .into_iter()
        .collect()
}

/// rustfmt leaves no two blanks between words but within a text, where a line was continued without a
/// backslash.
fn has_no_gap_in_a_text(path: &str, text: &str) -> Vec<String> {
    let has_gap = |line: &str| {
        let words: Vec<_> =
            line.trim().split("  ").filter(|part| !part.trim().is_empty()).collect();
        let ends_a_word = |c: char| c.is_alphanumeric() || ",.;:)".contains(c);
        words.iter().zip(words.iter().skip(1)).any(|(word, next)| {
            word.ends_with(ends_a_word)
                && !word.ends_with("\\n")
                && next.trim_start().starts_with(char::is_alphanumeric)
        })
    };
    let code = text.lines().zip(1..).filter(|(line, _)| !line.trim_start().starts_with("//"));
    let lines = code.filter(|(line, _)| has_gap(line));
    lines.map(|(_, number)| format!("{path}: line {number} has blanks within a text")).collect()
}

fn stays_short(path: &str, text: &str) -> Vec<String> {
    let (_, lines_of_tests) = split_tests(&tokens(text));
    let lines = text.lines().count() - lines_of_tests;
    (lines > LONGEST_FILE)
        .then(|| format!("{path}: {lines} lines; look for the second idea"))
        .into_iter()
        .collect()
}

/// Whoever presents a digest meets a slot's fingerprint in `Slot::has` and nowhere else.
fn compares_no_fingerprint_by_itself(path: &str, text: &str) -> Vec<String> {
    let code = tokens(text);
    let code = without_tests(&code);
    let compares = |tokens: &[Token<'_>]| {
        matches!(tokens, [(_, "=" | "!"), (_, "=")]) // `==` or `!=`
    };
    let mut found = Vec::new();
    for (at, (line, token)) in code.iter().enumerate() {
        if *token != "fingerprint" {
            continue;
        }
        let call =
            code.get(at + 1..at + 3).is_some_and(|next| matches!(next, [(_, "("), (_, ")")]));
        let end = if call { at + 3 } else { at + 1 };
        let before = code.get(..at).unwrap_or_default();
        // `digest.fingerprint`, `self.digest.fingerprint`
        let names = before
            .iter()
            .rev()
            .take_while(|(_, t)| matches!(*t, "." | "&" | "*") || t.starts_with(is_of_name));
        let begin = at - names.count();
        let is_compared = code.get(end..end + 2).is_some_and(compares)
            || begin.checked_sub(2).and_then(|two| code.get(two..begin)).is_some_and(compares);
        if is_compared {
            found.push(format!("{path}:{line}: a fingerprint is compared outside of 'Slot::has'"));
        }
    }
    found
}

/// `Slot::has` gathers all differences and looks at them once, at its end.
fn compares_slots_as_a_whole(text: &str) -> Vec<String> {
    let code = tokens(text);
    let code: Vec<_> = without_tests(&code).into_iter().map(|(_, token)| token).collect();
    let Some(begin) = code.windows(2).position(|two| two == ["fn", "has"]) else {
        return vec!["index/segment.rs: there is no 'fn has'".into()];
    };
    let body = code.iter().skip(begin).skip_while(|token| **token != "{").copied();
    let body: Vec<_> = body.take_while(|token| *token != "}").collect();
    let is_early = |two: &[&str]| {
        matches!(
            two,
            ["&", "&"] | ["|", "|"] | ["if" | "match" | "return" | "?" | "for" | "while", _]
        )
    };
    let comparisons = body.windows(2).filter(|two| matches!(two, ["=" | "!", "="])).count();
    let is_whole = comparisons == 1 && body.ends_with(&["=", "=", "0"]);
    (!is_whole || body.windows(2).any(is_early))
        .then(|| "index/segment.rs: 'fn has' may end before all is compared".to_owned())
        .into_iter()
        .collect()
}

/// blake3 promises for its own type, and not for the bytes, that `==` looks at all of them.
fn compares_digests_as_hashes(text: &str) -> Vec<String> {
    let code = tokens(text);
    let code: Vec<_> = without_tests(&code).into_iter().map(|(_, token)| token).collect();
    let has = |tokens: &[&str]| code.windows(tokens.len()).any(|window| window == tokens);
    let is_derived = has(&["struct", "Digest", "(", "blake3", "::", "Hash", ")"])
        && !has(&["PartialEq", "for", "Digest"]);
    (!is_derived)
        .then(|| "digest.rs: 'Digest' is not compared as a 'blake3::Hash'".to_owned())
        .into_iter()
        .collect()
}

fn keeps_its_promises(path: &str, text: &str) -> Vec<String> {
    let promises = [("[features]", "default = []"), ("[lints.rust]", "unsafe_code = \"forbid\"")];
    let stands = |section: &str, line: &str| {
        let mut lines = text.lines().map(str::trim).skip_while(|&l| l != section).skip(1);
        lines.by_ref().take_while(|l| !l.starts_with('[')).any(|l| l == line)
    };
    let broken = promises.iter().filter(|(section, line)| !stands(section, line));
    broken.map(|(section, line)| format!("{path}: {section} lacks '{line}'")).collect()
}

// ── reading the house

/// Runs a rule over every file of `src` and fails with all that it objects to.
fn objections(rule: impl Fn(&str, &str) -> Vec<String>) {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut files = 0;
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !is_a_test(&path) {
                let name = path.strip_prefix(&src).expect("it lies in src").to_string_lossy();
                found.extend(rule(&name, &read(&path)));
                files += 1;
            }
        }
    }
    assert!(files > 5, "only {files} files were read");
    assert!(found.is_empty(), "{found:#?}");
}

/// A simulation is one as well.
fn is_a_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "sim")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The modules of the library in the order of lib.rs, then those of the program.
fn order_of_modules() -> Vec<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut order = modules(&read(&src.join("lib.rs")));
    order.extend(modules(&read(&src.join("../crates/server/src/main.rs"))));
    order.push("main".into());
    order
}

/// The names after `mod` in a crate's root.
fn modules(text: &str) -> Vec<String> {
    let code = tokens(text);
    let code = without_tests(&code);
    let pairs = code.iter().zip(code.iter().skip(1));
    pairs
        .filter(|((_, token), _)| *token == "mod")
        .map(|(_, (_, name))| (*name).to_owned())
        .collect()
}

/// `ledger` for `ledger/disk.rs` as for `ledger.rs`.
fn room(path: &str) -> &str {
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// How many `super::` lead from a file to its crate's root.
fn depth(path: &str) -> usize {
    match path.trim_end_matches(".rs") {
        "lib" | "main" => 0,
        stem => stem.trim_end_matches("/mod").split('/').count(),
    }
}

/// Each name that the file asks of its crate's root, by `crate::` or by enough `super::`.
fn names_at_the_root<'t>(path: &str, code: &[Token<'t>]) -> Vec<Token<'t>> {
    let mut found = Vec::new();
    let mut blocks = Vec::new();
    let mut rest = code;
    loop {
        rest = match rest {
            [] => return found,
            [(_, "mod"), _, (_, "{"), after @ ..] => {
                blocks.push("mod");
                after
            }
            [(_, "{"), after @ ..] => {
                blocks.push("{");
                after
            }
            [(_, "}"), after @ ..] => {
                blocks.pop();
                after
            }
            [(_, "crate"), (_, "::"), after @ ..] => {
                found.extend(first_names(after));
                after
            }
            [(_, "super"), (_, "::"), ..] => {
                let mut steps = 0;
                let mut after = rest;
                while let [(_, "super"), (_, "::"), further @ ..] = after {
                    steps += 1;
                    after = further;
                }
                let inline = blocks.iter().filter(|&&block| block == "mod").count();
                if steps >= depth(path) + inline {
                    found.extend(first_names(after));
                }
                after
            }
            [_, after @ ..] => after,
        }
    }
}

/// `a` and `b` of `a::x` and of `{a::{x, y}, b}`.
fn first_names<'t>(path: &[Token<'t>]) -> Vec<Token<'t>> {
    let [(_, "{"), group @ ..] = path else {
        return path.first().copied().into_iter().collect();
    };
    let mut found = Vec::new();
    let (mut depth, mut starts) = (1, true);
    for &(line, token) in group {
        match token {
            "{" => depth += 1,
            "}" if depth == 1 => break,
            "}" => depth -= 1,
            "," if depth == 1 => starts = true,
            _ if starts => {
                found.push((line, token));
                starts = false;
            }
            _ => {}
        }
    }
    found
}

// ── a small lexer

/// A token and its line.
type Token<'t> = (usize, &'t str);

/// The code of a file: names, `::` and single signs, without comments and literals.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut rest, mut line) = (text, 1);
    let mut found = Vec::new();
    while let Some(sign) = rest.chars().next() {
        let (length, is_code) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false)
        } else if rest.starts_with("/*") {
            (comment(rest), false)
        } else if let Some(length) = raw_string(rest) {
            (length, false)
        } else if sign == '"' {
            (quoted(rest, '"'), false)
        } else if sign == '\'' {
            // A quote begins a character if one ends it; else a lifetime.
            let mut after = rest.chars().skip(1);
            let is_character = after.next() == Some('\\') || after.next() == Some('\'');
            (if is_character { quoted(rest, '\'') } else { 1 }, false)
        } else if is_of_name(sign) {
            (rest.find(|c| !is_of_name(c)).unwrap_or(rest.len()), true)
        } else if rest.starts_with("::") {
            (2, true)
        } else {
            (sign.len_utf8(), !sign.is_whitespace())
        };
        let (token, after) = rest.split_at(length);
        if is_code {
            found.push((line, token));
        }
        line += token.matches('\n').count();
        rest = after;
    }
    found
}

fn is_of_name(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

/// The length of the block comment that `text` begins with; they nest.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = text.get(at..).unwrap_or_default();
        match (rest.starts_with("/*"), rest.starts_with("*/")) {
            (true, _) => (depth, at) = (depth + 1, at + 2),
            (_, true) => (depth, at) = (depth - 1, at + 2),
            _ => at += rest.chars().next().map_or(0, char::len_utf8),
        }
        if depth == 0 || at >= text.len() {
            return at;
        }
    }
}

/// The length of the literal that `text` begins with, up to the same quote without a backslash.
fn quoted(text: &str, quote: char) -> usize {
    let mut signs = text.char_indices().skip(1);
    while let Some((at, sign)) = signs.next() {
        match sign {
            '\\' => drop(signs.next()),
            _ if sign == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `r"…"`, `br#"…"#` and their like, if `text` begins with one.
fn raw_string(text: &str) -> Option<usize> {
    let raw = text.trim_start_matches(['b', 'c']).strip_prefix('r')?;
    let body = raw.trim_start_matches('#');
    let hashes = raw.len() - body.len();
    let end = format!("\"{}", "#".repeat(hashes));
    let begun = text.len() - body.len() + 1;
    let inner = body.strip_prefix('"')?;
    Some(inner.find(&end).map_or(text.len(), |at| begun + at + end.len()))
}

fn without_tests<'t>(code: &[Token<'t>]) -> Vec<Token<'t>> {
    split_tests(code).0
}

/// The code without its `#[cfg(test)]` items, and how many lines they take.
fn split_tests<'t>(code: &[Token<'t>]) -> (Vec<Token<'t>>, usize) {
    let (mut kept, mut lines) = (Vec::new(), 0);
    let mut rest = code;
    while let [first, after @ ..] = rest {
        if let Some(item) = test_item(rest) {
            lines += lines_of(item);
            rest = rest.get(item.len()..).unwrap_or_default();
        } else {
            kept.push(*first);
            rest = after;
        }
    }
    (kept, lines)
}

/// The `#[cfg(test)]` item that the code begins with: up to its `;` or its last brace.
fn test_item<'c, 't>(code: &'c [Token<'t>]) -> Option<&'c [Token<'t>]> {
    let [(_, "#"), (_, "["), (_, "cfg"), (_, "("), (_, "test"), (_, ")"), (_, "]"), item @ ..] =
        code
    else {
        return None;
    };
    let mut depth = 0;
    let end = item.iter().position(|(_, token)| {
        match *token {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        depth == 0 && matches!(*token, ";" | "}")
    });
    code.get(..end.map_or(code.len(), |end| code.len() - item.len() + end + 1))
}

fn lines_of(item: &[Token<'_>]) -> usize {
    match item {
        [(first, _), .., (last, _)] => last - first + 1,
        _ => 0,
    }
}

// ── each guard is seen to bite

fn order() -> Vec<String> {
    ["id", "record", "ledger", "store", "web", "server", "main"].map(String::from).to_vec()
}

/// Asserts that the rule objects to exactly these lines, given as `line: words of the objection`.
#[track_caller]
fn bites(found: &[String], expected: &[&str]) {
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
}

#[test]
fn an_import_from_below_is_caught() {
    let bite =
        |path, text, expected: &[&str]| bites(&imports_upwards(path, text, &order()), expected);
    bite("record.rs", "use crate::ledger::Ledger;", &["record.rs:1: 'ledger' is listed below"]);
    bite(
        "record.rs",
        "use std::fmt;\nuse crate::{id::{KeyId, X},\n store::Store};",
        &["record.rs:3: 'store'"],
    );
    bite("record.rs", "fn f() -> u8 { crate::store::f() }", &["'store' is listed below 'record'"]);
    bite(
        "record.rs",
        "pub(in crate::web) fn f(x: &'static crate::server::X<'_>) {}",
        &["'web'", "'server'"],
    );
    bite("record.rs", "use super::store::Store;", &["'store'"]);
    bite("record.rs", "mod a { use super::super::store; use super::store; }", &["'store'"]);
    bite("ledger/disk.rs", "use super::super::{store, id};", &["'store'"]);
    bite("ledger/mod.rs", "use super::{store, id};", &["'store'"]);
    bite(
        "ledger/disk.rs",
        "const A: char = '\"'; use crate::web; const B: char = '\"';",
        &["'web'"],
    );
    bite("web/layer.rs", "use crate::server::tls;", &["'server'"]);
    bite("stray.rs", "", &["neither lib.rs nor main.rs lists the module 'stray'"]);
}

#[test]
fn a_name_from_the_crates_root_is_caught_below_the_doors() {
    let bite =
        |path, text, expected: &[&str]| bites(&imports_upwards(path, text, &order()), expected);
    bite("record.rs", "use crate::KeyId;", &["'KeyId' is no module"]);
    bite("store.rs", "use crate::{id::KeyId, Record, self};", &["'Record'", "'self'"]);
    bite("store/list.rs", "use crate::*;", &["'*'"]);
    bite("web.rs", "use crate::{KeyId, record::Record};", &[]);
    bite("server/tls.rs", "use crate::KeyId;", &[]);
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
        #[cfg(test)]
        fn f(x: [u8; 2]) { crate::web::f() }
        #[cfg(test)]
        mod tests { use crate::store::Store; fn g() { { } } }
        use crate::ledger::anchor;
    "##;
    bites(&imports_upwards("ledger/disk.rs", innocent, &order()), &[]);
    let caught = imports_upwards("ledger/disk.rs", &format!("{innocent}use crate::web;"), &order());
    bites(&caught, &["ledger/disk.rs:17: 'web'"]);
}

#[test]
fn an_outside_crate_in_another_room_is_caught() {
    let bite = |path, text, expected: &[&str]| {
        bites(&names_outside_crates_in_their_room(path, text), expected);
    };
    bite("store.rs", "use std::fmt;\nuse sled::Db;", &["store.rs:2: 'sled' belongs to"]);
    bite("store.rs", "pub use {std::fmt, sled::Db};", &["'sled'"]);
    bite("store.rs", "use bincode;\nextern crate rand as dice;", &["'bincode'", "'rand'"]);
    bite("store.rs", "use ::rand::rngs; fn f(db: &::sled::Db) {}", &["'rand'", "'sled'"]);
    bite("codec_of_old.rs", "fn f() { bincode::serialize(&1) }", &["'bincode'"]);
    bite("ledger/disk.rs", "fn f(e: etcd_client::Client) {}", &["'etcd_client'"]);
    bite("codec/v1.rs", "use bincode::Options;", &[]);
    bite("ledger/disk.rs", "use sled::Db; use crate::rand::x; use random::fill; // clap::X", &[]);
    bite("store.rs", "#[cfg(test)] mod tests { use blake3::hash; }", &[]);
}

#[test]
fn a_file_without_a_purpose_is_caught() {
    bites(&says_its_purpose("id.rs", "//! Ids.\nfn f() {}"), &["id.rs"]);
    bites(&says_its_purpose("id.rs", "use std::fmt;\n//! The public name of a key.\n"), &["id.rs"]);
    bites(&says_its_purpose("id.rs", ""), &["id.rs"]);
    bites(&says_its_purpose("id.rs", "//! The public name of a key.\n"), &[]);
}

#[test]
fn a_file_that_is_too_long_is_caught() {
    let long = "fn f() {}\n".repeat(LONGEST_FILE);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    bites(&stays_short("id.rs", &format!("{long}{tests}")), &[]);
    bites(&stays_short("id.rs", &format!("{long}\n{tests}")), &["401 lines"]);
}

#[test]
fn a_comparison_of_digests_that_ends_early_is_caught() {
    let bite = |text, expected: &[&str]| {
        bites(&compares_no_fingerprint_by_itself("index.rs", text), expected);
    };
    bite("fn f() { if fingerprint == other {} }", &["index.rs:1: a fingerprint"]);
    bite("fn f() { a != self.b.fingerprint }", &["a fingerprint"]);
    bite("fn f() { a.fingerprint() == b.fingerprint() }", &["a fingerprint", "a fingerprint"]);
    bite("let fingerprint = digest.fingerprint(); slot.has(fingerprint) // fingerprint == x", &[]);

    let bite = |body: &str, expected: &[&str]| {
        let text = format!("impl Slot {{ fn has(&self, [a, b]: [u64; 2]) -> bool {{ {body} }} }}");
        bites(&compares_slots_as_a_whole(&text), expected);
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
    bites(&compares_slots_as_a_whole("fn is(&self) -> bool { true }"), &["no 'fn has'"]);

    let kept = "#[derive(PartialEq)] pub struct Digest(blake3::Hash);";
    bites(&compares_digests_as_hashes(kept), &[]);
    bites(&compares_digests_as_hashes("pub struct Digest([u8; 32]);"), &["'Digest'"]);
    let by_hand = format!("{kept} impl PartialEq for Digest {{ }}");
    bites(&compares_digests_as_hashes(&by_hand), &["'Digest'"]);
}

#[test]
fn a_manifest_that_breaks_its_promises_is_caught() {
    let kept = "[features]\ndefault = []\n\n[lints.rust]\nunsafe_code = \"forbid\"\n";
    bites(&keeps_its_promises("Cargo.toml", kept), &[]);
    bites(&keeps_its_promises("Cargo.toml", &kept.replace("[]", "[\"axum\"]")), &["default"]);
    bites(&keeps_its_promises("Cargo.toml", &kept.replace("forbid", "deny")), &["unsafe_code"]);
    bites(
        &keeps_its_promises("Cargo.toml", &kept.replace("lints.rust", "lints.other")),
        &["unsafe_code"],
    );
}
