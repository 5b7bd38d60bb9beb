//! The rules: each is a function that returns the violations it finds.

use crate::{
    cycles::{Edges, cycles, describe},
    modules::Crate,
    reading::{Source, words},
    references::{Kind, references},
};

/// Modules that may also use the exports of their crate's root, as a host does.
const ENTRY_POINTS: &[&str] = &["web"];

/// External crates, and the folders or files that may name them.
const EXTERNAL_CRATES: &[(&str, &[&str])] = &[
    ("aws_lc_rs", &["crates/admin/src/leak_reports", "crates/server/src/tls"]),
    ("axum_server", &["crates/server/src"]),
    ("bincode", &["src/codec"]),
    ("blake3", &["src/digest"]),
    ("caseless", &["src/index"]),
    ("clap", &["crates/server/src/cli", "crates/server/src/main"]),
    ("crc32fast", &["src/secret"]),
    ("crossbeam_utils", &["src/index"]),
    ("etcd_client", &["crates/etcd/src"]),
    ("governor", &["crates/server/src"]),
    ("hashbrown", &["src/index"]),
    ("indicatif", &["crates/server/src/cli"]),
    ("loom", &["src/sync", "src/index/orders"]),
    ("maud", &["crates/admin/src/portal"]),
    ("memchr", &["src/index", "src/secret_scan"]),
    ("parking_lot", &["src/sync"]),
    ("prometheus_client", &["crates/server/src"]),
    ("rand", &["src/random"]),
    ("rcgen", &["crates/server/src"]),
    ("rustls", &["crates/server/src"]),
    ("shuttle", &["src/sync", "src/index/models", "src/store/models"]),
    ("sled", &["src/ledger"]),
    ("unicode_normalization", &["src/index"]),
    ("unicode_width", &["crates/server/src/cli"]),
    ("utoipa", &["crates/admin/src"]),
    ("utoipa_axum", &["crates/admin/src"]),
];

const MIN_PURPOSE_CHARS: usize = 20;
pub(crate) const MAX_FILE_LINES: usize = 400;

// ── rules for a crate

/// A module may name only modules above it, and items by the path of their module.
pub(crate) fn imports_upwards(krate: &Crate) -> Vec<String> {
    let order = &krate.modules[0].children;
    let position = |top| order.iter().position(|(_, module)| *module == top);
    let mut found = Vec::new();
    for reference in references(krate) {
        let Some(own) = krate.top_level_module(reference.module) else { continue };
        let own_name = order.iter().find(|(_, module)| *module == own).map_or("", |(name, _)| name);
        let Some(name) = name_at_the_root(krate, reference.module, &reference.path) else {
            continue;
        };
        let location = format!("{}:{}", krate.path(reference.module), reference.line);
        match order.iter().find(|(module, _)| module == name) {
            Some((_, module)) if position(*module) > position(own) => {
                found.push(format!("{location}: '{name}' is listed below '{own_name}'"));
            }
            None if !ENTRY_POINTS.contains(&own_name) => {
                found.push(format!("{location}: '{name}' is not a module; use the path of the module that defines it"));
            }
            _ => {}
        }
    }
    found.dedup();
    found
}

/// Returns the name that a path refers to in the crate's root, through `crate::` or `super::`.
fn name_at_the_root<'a>(krate: &Crate, module: usize, path: &'a [String]) -> Option<&'a str> {
    let mut module = Some(module);
    let mut rest = path;
    while let [first, after @ ..] = rest {
        match first.as_str() {
            "crate" => module = Some(0),
            "super" => module = krate.modules[module?].parent,
            "self" => {}
            _ => break,
        }
        rest = after;
    }
    let is_relative = rest.len() == path.len();
    let name = rest.first().map_or("the root", String::as_str);
    (module == Some(0) && !is_relative).then_some(name)
}

pub(crate) fn names_external_crates_in_their_modules(krate: &Crate) -> Vec<String> {
    let mut found = Vec::new();
    for reference in references(krate) {
        let path = krate.path(reference.module);
        let (name, is_path) = match reference.path.as_slice() {
            [start, name, ..] if start.is_empty() => (name, true),
            [name] => (name, reference.kind != Kind::Code),
            [name, ..] => (name, true),
            [] => continue,
        };
        let is_local = reference.path[0] == *name && krate.knows(reference.module, name);
        let allowed = EXTERNAL_CRATES.iter().find(|(external, _)| external == name);
        if let (Some((_, allowed)), true, false) = (allowed, is_path, is_local) {
            let stem = path.trim_end_matches(".rs");
            let is_within = |path: &&str| {
                stem.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if !allowed.iter().any(is_within) {
                found.push(format!("{path}:{}: '{name}' belongs to {allowed:?}", reference.line));
            }
        }
    }
    found.dedup();
    found
}

/// Files do not use one another in a cycle.
pub(crate) fn has_no_cycles(edges: &Edges) -> Vec<String> {
    cycles(edges).iter().map(|cycle| describe(cycle, edges)).collect()
}

// ── rules for a file

pub(crate) fn describes_its_purpose(path: &str, text: &str) -> Vec<String> {
    let first = text.lines().next().unwrap_or_default();
    let purpose = first.strip_prefix("//!").map_or(0, |words| words.trim().chars().count());
    violation(purpose < MIN_PURPOSE_CHARS, || {
        format!("{path}: the first line does not describe the purpose of the file")
    })
}

/// After rustfmt, several spaces between words occur only in a string that was continued on the next
/// line without a backslash.
pub(crate) fn has_no_spaces_in_a_string(path: &str, text: &str) -> Vec<String> {
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
    let lines = text.lines().zip(1..);
    let code = lines.filter(|(line, _)| !line.trim_start().starts_with("//"));
    code.filter(|(line, _)| has_gap(line))
        .map(|(_, number)| format!("{path}: line {number} has several spaces within a string; end the line before with a backslash"))
        .collect()
}

pub(crate) fn stays_short(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count() - source.lines_of_tests;
    violation(lines > MAX_FILE_LINES, || {
        format!("{}: {lines} lines; the maximum is {MAX_FILE_LINES}, split the file", source.path)
    })
}

/// A lint is disabled only by `expect` with a reason, which warns once the lint no longer applies.
pub(crate) fn expects_lints_with_a_reason(source: &Source) -> Vec<String> {
    let words = words(&source.all_code);
    let mut found = Vec::new();
    for (at, (line, word)) in words.iter().enumerate() {
        let [opens, parenthesis] =
            [at.checked_sub(1), at.checked_add(1)].map(|at| at.and_then(|at| words.get(at)));
        let is_attribute = opens.is_some_and(|(_, word)| ["[", ","].contains(&word.as_str()))
            && parenthesis.is_some_and(|(_, word)| word == "(");
        let mut arguments = words.iter().skip(at).take_while(|(_, word)| word != ")");
        if is_attribute && word == "allow" {
            found.push(format!(
                "{}:{line}: 'allow' is not permitted; use 'expect' with a reason",
                source.path
            ));
        } else if is_attribute && word == "expect" && !arguments.any(|(_, word)| word == "reason") {
            found.push(format!("{}:{line}: 'expect' has no reason", source.path));
        }
    }
    found
}

/// Each file is a module of its parent; otherwise it is not compiled.
pub(crate) fn is_declared(path: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let stem = path.trim_end_matches(".rs").trim_end_matches("/mod");
    let Some((folder, name)) = stem.rsplit_once('/') else { return Vec::new() };
    let parents = ["/mod.rs", ".rs", "/lib.rs", "/main.rs"].map(|end| format!("{folder}{end}"));
    let declares = |parent: &String| {
        let text = read(parent).unwrap_or_default();
        let words = words(&Source::new(parent, &text).all_code);
        words.windows(3).any(|three| three[0].1 == "mod" && three[1].1 == name && three[2].1 == ";")
    };
    let is_root = ["lib", "main"].contains(&name) && folder.ends_with("src");
    violation(!is_root && !parents.iter().any(declares), || {
        format!("{path}: no file declares the module '{name}'")
    })
}

// ── rules for digests

/// Only `Slot::has` compares a presented digest with the fingerprint of a slot.
pub(crate) fn compares_no_fingerprint_by_itself(source: &Source) -> Vec<String> {
    let words = words(&source.code);
    let is_comparison = |at: Option<usize>| {
        at.and_then(|at| words.get(at)).is_some_and(|(_, word)| word == "==" || word == "!=")
    };
    let mut found = Vec::new();
    for (at, (line, _)) in words.iter().enumerate().filter(|(_, (_, word))| word == "fingerprint") {
        let is_call =
            words.get(at + 1..at + 3).is_some_and(|two| two[0].1 == "(" && two[1].1 == ")");
        let end = if is_call { at + 3 } else { at + 1 };
        // `digest.fingerprint`, `self.digest.fingerprint`
        let is_of_path = |word: &str| {
            ["", ".", "&", "*"].contains(&word)
                || word.starts_with(|c: char| c.is_alphabetic() || c == '_')
        };
        let before = words[..at].iter().rev().take_while(|(_, word)| is_of_path(word)).count();
        if is_comparison(Some(end)) || is_comparison((at - before).checked_sub(1)) {
            let path = &source.path;
            found.push(format!("{path}:{line}: a fingerprint is compared outside of 'Slot::has'"));
        }
    }
    found
}

/// `Slot::has` combines all differences and checks them once, at its end.
pub(crate) fn compares_slots_as_a_whole(source: &Source) -> Vec<String> {
    let words: Vec<_> = words(&source.code).into_iter().map(|(_, word)| word).collect();
    let Some(begin) = words.windows(2).position(|two| two == ["fn", "has"]) else {
        return vec![format!("{}: there is no 'fn has'", source.path)];
    };
    let body = words.iter().skip(begin).skip_while(|word| *word != "{");
    let body: Vec<_> = body.take_while(|word| *word != "}").map(String::as_str).collect();
    let early = ["&&", "||", "if", "match", "return", "?", "for", "while"];
    let comparisons = body.iter().filter(|word| ["==", "!="].contains(word)).count();
    let is_whole = comparisons == 1 && body.ends_with(&["==", "0"]);
    violation(!is_whole || body.iter().any(|word| early.contains(word)), || {
        format!("{}: 'fn has' may end before all is compared", source.path)
    })
}

/// blake3 guarantees a constant-time `==` for its own type, but not for bytes.
pub(crate) fn compares_digests_as_hashes(source: &Source) -> Vec<String> {
    let words: Vec<_> = words(&source.code).into_iter().map(|(_, word)| word).collect();
    let has = |sought: &[&str]| words.windows(sought.len()).any(|window| window == sought);
    let is_derived = has(&["struct", "Digest", "(", "blake3", "::", "Hash", ")"])
        && !has(&["PartialEq", "for", "Digest"]);
    violation(!is_derived, || {
        format!("{}: 'Digest' is not compared as a 'blake3::Hash'", source.path)
    })
}

// ── rules for manifests

/// Every crate has no default features, forbids unsafe code and inherits the workspace's lints.
pub(crate) fn has_no_defaults_and_no_unsafe_code(path: &str, text: &str) -> Vec<String> {
    let has_line = |section: &str, line: &str| {
        let mut lines = text.lines().map(str::trim).skip_while(|&l| l != section).skip(1);
        lines.by_ref().take_while(|l| !l.starts_with('[')).any(|l| l == line)
    };
    let unsafe_code = "unsafe_code = \"forbid\"";
    let is_inherited = has_line("[lints]", "workspace = true")
        && (path != "Cargo.toml" || has_line("[workspace.lints.rust]", unsafe_code));
    let lints = is_inherited || has_line("[lints.rust]", unsafe_code);
    let default = has_line("[features]", "default = []") || !text.contains("[features]");
    let mut found =
        violation(!lints, || format!("{path}: lacks the lints that forbid unsafe code"));
    found.extend(violation(!default, || format!("{path}: [features] lacks 'default = []'")));
    found
}

fn violation(is_violated: bool, describe: impl FnOnce() -> String) -> Vec<String> {
    is_violated.then(describe).into_iter().collect()
}
