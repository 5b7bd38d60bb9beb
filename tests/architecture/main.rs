//! The rules of the architecture, kept by reading the sources: modules import upwards only, no files
//! use each other in a circle, an outside crate has one room, each file says what it is for.
//!
//! `rules` has the rules and `bites` shows each of them an offence and sees it caught. `modules`
//! reads the crates; `references` finds what their code names; `circles` makes a graph of it.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bites;
mod circles;
mod modules;
mod reading;
mod references;
mod rules;

use modules::{FOR_TESTS, crates};
use reading::{Source, files, read};

#[test]
fn modules_import_only_from_those_above_them() {
    no_objections(crates().flat_map(|(_, house)| rules::imports_upwards(&house)));
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let edges: Vec<_> = crates().map(|(_, house)| circles::edges(&house)).collect();
    no_objections(edges.iter().flat_map(rules::has_no_circles));
}

#[test]
fn an_outside_crate_is_named_in_one_room() {
    no_objections(
        crates().flat_map(|(_, house)| rules::names_outside_crates_in_their_room(&house)),
    );
}

#[test]
fn each_file_is_a_module() {
    no_objections(product_files().iter().flat_map(|path| rules::is_declared(path, read)));
}

#[test]
fn each_file_says_what_it_is_for() {
    no_objections(product().flat_map(|(path, text)| rules::says_its_purpose(&path, &text)));
}

#[test]
fn no_text_is_continued_with_the_blanks_of_its_line() {
    no_objections(product().flat_map(|(path, text)| rules::has_no_gap_in_a_text(&path, &text)));
}

#[test]
fn no_file_outgrows_its_idea() {
    no_objections(sources().flat_map(|source| rules::stays_short(&source)));
}

#[test]
fn lints_are_expected_with_a_reason() {
    let files = product_files().into_iter().map(|path| source(&path));
    no_objections(files.flat_map(|source| rules::expects_lints_with_a_reason(&source)));
}

/// No run of the code shows it: a comparison that ends early decides the same.
#[test]
fn digests_are_compared_without_an_early_exit() {
    no_objections(sources().flat_map(|source| rules::compares_no_fingerprint_by_itself(&source)));
    no_objections(rules::compares_slots_as_a_whole(&source("src/index/segment.rs")));
    no_objections(rules::compares_digests_as_hashes(&source("src/digest.rs")));
}

#[test]
fn manifests_add_nothing_by_default_and_forbid_unsafe_code() {
    let mut manifests = files(&["crates"], "toml");
    manifests.retain(|path| path.ends_with("/Cargo.toml"));
    manifests.push("Cargo.toml".to_owned());
    let text = |path: &str| read(path).expect("a manifest can be read");
    no_objections(manifests.iter().flat_map(|path| rules::keeps_its_promises(path, &text(path))));
}

/// Path and text of each file of the product that is no test. A simulation is one as well.
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
fn no_objections(found: impl IntoIterator<Item = String>) {
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}
