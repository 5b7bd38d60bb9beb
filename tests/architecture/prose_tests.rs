//! Tests of the rule against idioms: it reports each of them, with its line, and accepts plain text.

use crate::{
    prose::{has_no_idioms, of_page, of_script, of_source},
    reading::Source,
};

/// Asserts that the rule reported exactly these violations; each contains the expected text.
#[track_caller]
fn assert_violations(found: &[String], expected: &[&str]) {
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found:?} does not contain {expected:?}");
    }
}

#[track_caller]
fn page(text: &str, expected: &[&str]) {
    assert_violations(&has_no_idioms("a.md", &of_page(text)), expected);
}

#[track_caller]
fn source(text: &str, expected: &[&str]) {
    assert_violations(&has_no_idioms("a.rs", &of_source(&Source::new("a.rs", text))), expected);
}

#[test]
fn idiom_in_a_page_is_a_violation() {
    page("# Keys\n\nThe key is **Taken Away**.", &["a.md:3: replace 'taken away' with 'revoked'"]);
    page("- It takes\n  away the key", &["a.md:1: replace 'takes … away' with 'revokes'"]);
    page("It takes the old key away.", &["takes … away"]);
    page("| a | at a glance |\n| b | at the door |", &["a.md:1: ", "a.md:2: "]);
    page("```\nat a glance\n```", &["a.md:2: "]);
    page("It is taken. Away from it, it takes, away, a taken\n\naway and taken-away.", &[]);
    page("It takes all of the old keys away.", &[]);
}

#[test]
fn statement_that_begins_with_what_is_a_violation() {
    page("It is so. What is stricter\nis refused.", &["a.md:1: replace '^what'"]);
    page("- What is stricter is refused.", &["'^what'"]);
    page("# What is protected\n\nWhat is it? It says what it is.", &[]);
}

#[test]
fn idiom_in_a_comment_or_a_string_is_a_violation() {
    source("//! At a\n//! glance.", &["a.rs:1: replace 'at a glance'"]);
    source("fn f() {\n    /// Taken\n    // away.\n    let x; }", &["a.rs:2: "]);
    source("const A: &str = \"https://a\"; // At a glance.", &["a.rs:1: "]);
    source("/// `//` at a glance.\nstruct A;", &["a.rs:1: "]);
    source("#[doc = \"at a glance\"] struct A;", &["a.rs:1: "]);
    source("fn f() { error!(\"{x} is taken \\\n    away\") }", &["a.rs:1: "]);
    source("const A: &[u8] = b\"a\\nat a glance\";", &["a.rs:1: "]);
    source("const A: &str = \"// at\"; // a glance\nfn taken_away() { taken.away }", &[]);
    source("const A: (&str, &str) = (\"at a\", \"glance\");", &[]);
}

#[test]
fn idiom_in_a_script_is_a_violation() {
    let check = |text, expected: &[&str]| {
        assert_violations(&has_no_idioms("run", &of_script(text)), expected);
    };
    check("#!/bin/sh\n  # Taken\n  # away.", &["run:2: "]);
    check("echo taken away # taken away", &[]);
}
