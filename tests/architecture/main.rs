//! The rules of the architecture, checked on the sources. A module imports only from modules above it;
//! the uses of files form no cycle; an external crate is named in its own modules only; the first
//! line of each file describes its purpose; no text that people read has an idiom of `idioms.txt`.
//!
//! `rules` has the rules and `rule_tests` tests them; `prose` and `prose_tests` do so for the idioms.
//! `modules` reads the crates, `references` finds the names in their code, and `cycles` builds the
//! dependency graph.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helper functions fail a test by panicking"
)]

mod cycles;
mod modules;
mod prose;
mod prose_tests;
mod reading;
mod references;
mod rule_tests;
mod rules;

use modules::{FOR_TESTS, crates};
use reading::{Source, files, read};

/// Files in which `#` begins a comment.
const SCRIPTS: &[&str] = &[
    ".ci/provision",
    ".ci/public-api/check",
    ".ci/run",
    "deploy/Caddyfile",
    "deploy/Containerfile",
    "deploy/envoy.yaml",
    "deploy/local-cluster",
    "deploy/nginx.conf",
    "deploy/portcullis.service",
    "deploy/traefik.yaml",
];

#[test]
fn modules_import_only_from_those_above_them() {
    assert_no_violations(crates().flat_map(|(_, krate)| rules::imports_upwards(&krate)));
}

#[test]
fn uses_of_files_form_no_cycle() {
    let edges: Vec<_> = crates().map(|(_, krate)| cycles::edges(&krate)).collect();
    assert_no_violations(edges.iter().flat_map(rules::has_no_cycles));
}

#[test]
fn external_crates_are_named_in_their_modules_only() {
    assert_no_violations(
        crates().flat_map(|(_, krate)| rules::names_external_crates_in_their_modules(&krate)),
    );
}

#[test]
fn every_file_is_declared_as_a_module() {
    assert_no_violations(product_files().iter().flat_map(|path| rules::is_declared(path, read)));
}

#[test]
fn every_file_describes_its_purpose() {
    assert_no_violations(
        product().flat_map(|(path, text)| rules::describes_its_purpose(&path, &text)),
    );
}

#[test]
fn no_string_contains_the_indentation_of_its_next_line() {
    assert_no_violations(
        product().flat_map(|(path, text)| rules::has_no_spaces_in_a_string(&path, &text)),
    );
}

#[test]
fn no_file_is_too_long() {
    assert_no_violations(sources().flat_map(|source| rules::stays_short(&source)));
}

#[test]
fn lints_are_expected_with_a_reason() {
    let files = product_files().into_iter().map(|path| source(&path));
    assert_no_violations(files.flat_map(|source| rules::expects_lints_with_a_reason(&source)));
}

/// No run of the code can check this: a comparison with an early exit has the same result.
#[test]
fn digests_are_compared_without_an_early_exit() {
    assert_no_violations(
        sources().flat_map(|source| rules::compares_no_fingerprint_by_itself(&source)),
    );
    assert_no_violations(rules::compares_slots_as_a_whole(&source("src/index/segment.rs")));
    assert_no_violations(rules::compares_digests_as_hashes(&source("src/digest.rs")));
}

#[test]
fn manifests_add_nothing_by_default_and_forbid_unsafe_code() {
    let mut manifests = files(&["crates"], "toml");
    manifests.retain(|path| path.ends_with("/Cargo.toml"));
    manifests.push("Cargo.toml".to_owned());
    let text = |path: &str| read(path).expect("a manifest can be read");
    assert_no_violations(
        manifests
            .iter()
            .flat_map(|path| rules::has_no_defaults_and_no_unsafe_code(path, &text(path))),
    );
}

#[test]
fn texts_that_people_read_have_no_idioms() {
    let text = |path: &str| read(path).unwrap_or_else(|| panic!("{path} cannot be read"));
    let code = product_files().into_iter().chain(files(&["crates/admin/examples"], "rs"));
    let code = code.map(|path| (prose::of_source(&source(&path)), path));
    let pages = ["README.md", "CHANGELOG.md", "SECURITY.md", "tests/mutants.md"].map(str::to_owned);
    let pages = pages.into_iter().chain(files(&["docs"], "md"));
    let pages = pages.map(|path| (prose::of_page(&text(&path)), path));
    let scripts = SCRIPTS.iter().map(|path| (prose::of_script(&text(path)), (*path).to_owned()));
    let violations = code.chain(pages).chain(scripts);
    let violations = violations.flat_map(|(blocks, path)| prose::has_no_idioms(&path, &blocks));
    assert_no_violations(prose::is_well_formed().into_iter().chain(violations));
}

/// Returns path and text of each file of the product, without tests and simulations.
fn product() -> impl Iterator<Item = (String, String)> {
    let is_test = |path: &String| path.ends_with("/tests.rs") || path.contains("/sim/");
    let files = product_files().into_iter().filter(move |path| !is_test(path));
    files.map(|path| (path.clone(), read(&path).expect("a file can be read")))
}

fn sources() -> impl Iterator<Item = Source> {
    product().map(|(path, text)| Source::new(&path, &text))
}

fn source(path: &str) -> Source {
    Source::new(path, &read(path).unwrap_or_else(|| panic!("{path} cannot be read")))
}

fn product_files() -> Vec<String> {
    let mut found = files(&["src", "crates"], "rs");
    found.retain(|path| path.starts_with("src/") || path.contains("/src/"));
    found.retain(|path| !FOR_TESTS.iter().any(|folder| path.starts_with(folder)));
    assert!(found.len() > 100, "only {} files were read", found.len());
    found
}

#[track_caller]
fn assert_no_violations(found: impl IntoIterator<Item = String>) {
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}
