//! The models find bugs: each of these is planted into a copy of the sources, and a model must fail.
//!
//! `cargo test --test planted_in_models -- --ignored` builds the library once a bug, some minutes in
//! all. A bug is a piece of the source and what stands there instead; a quick test says when a piece
//! is no longer found once, and once only.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by them, and tells its counts"
)]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

struct Bug {
    what: &'static str,
    file: &'static str,
    /// What stands in the source.
    right: &'static str,
    wrong: &'static str,
    /// The model that must fail.
    found_by: &'static str,
}

const SHUTTLE: &[Bug] = &[
    Bug {
        what: "a slot's word is stored before its key",
        file: "index/segment.rs",
        right: "                let parts = slot.fingerprint.iter().zip(fingerprint);",
        wrong: "                slot.word.store(word.raw(), Release);
                let parts = slot.fingerprint.iter().zip(fingerprint);",
        found_by: "invariant_4_no_reader_sees_another_keys_state",
    },
    Bug {
        what: "the slot of a deleted key is used again",
        file: "index/segment.rs",
        right: "if slot.word.load(Relaxed) == Word::EMPTY.raw() {",
        wrong: "if [Word::EMPTY, Word::GONE].map(Word::raw).contains(&slot.word.load(Relaxed)) {",
        found_by: "invariant_4_no_reader_sees_another_keys_state",
    },
    Bug {
        what: "a state is stored in two steps",
        file: "index/segment.rs",
        right: "        if let Some(slot) = slot {
            slot.word",
        wrong: "        if let Some(slot) = slot {
            let grant = word.raw() % (1 << 28);
            slot.word.store(slot.word.load(Relaxed) >> 28 << 28 | grant, Release);
            slot.word",
        found_by: "invariant_2_a_reader_sees_the_whole",
    },
    Bug {
        what: "a stripe stays with the old table",
        file: "index/mod.rs",
        right: "        for stripe in &self.stripes {
            *stripe.write() = Arc::clone(&next);",
        wrong: "        for stripe in self.stripes.iter().take(1) {
            *stripe.write() = Arc::clone(&next);",
        found_by: "invariant_1_a_lookup_that_starts_after_a_denial",
    },
    Bug {
        what: "a rebuild forgets what it was made for",
        file: "index/mod.rs",
        right: "        larger.insert(fingerprint, id, word);
        let mut next",
        wrong: "        let mut next",
        found_by: "invariant_1_a_lookup_that_starts_after_a_denial",
    },
    Bug {
        what: "the commit of an older change ends a denial",
        file: "index/directory.rs",
        right: "pending.retain(|(pending, _)| *pending > sequence);",
        wrong: "pending.clear();",
        found_by: "invariant_2_a_denial_outlasts_the_commit",
    },
    Bug {
        what: "a watch is registered after its key was looked at",
        file: "index/mod.rs",
        right: "        let watch = Revocation::register(&self.watches, holder.id(), *holder.grant(), now);
        let directory = self.directory.read();
        watch.see(directory.visible(holder.id(), &self.grants));",
        wrong: "        let visible = self.directory.read().visible(holder.id(), &self.grants);
        let watch = Revocation::register(&self.watches, holder.id(), *holder.grant(), now);
        watch.see(visible);",
        found_by: "invariant_6_a_watch_is_over_when_the_denial_returned",
    },
    Bug {
        what: "uses are taken over before the last reader has left the old segment",
        file: "index/mod.rs",
        right: "        let mut next = Table::clone(&table);",
        wrong: "        larger.take_uses(segment);
        let segment = &Segment::with_room_for(0);
        let mut next = Table::clone(&table);",
        found_by: "invariant_7_a_use_outlasts_a_rebuild",
    },
    Bug {
        what: "whoever awaits a key is woken before the watch is over",
        file: "index/watch.rs",
        right: "            _ => self.over.store(true, Release),
        }
        self.waker.lock().take()",
        wrong: "            _ => {
                let waker = self.waker.lock().take();
                waker.into_iter().for_each(Waker::wake);
                self.over.store(true, Release);
            }
        }
        None",
        found_by: "invariant_6_whoever_awaits_a_key_is_woken",
    },
    Bug {
        what: "a watch is not looked at again after its waker was left",
        file: "index/watch.rs",
        right: "if self.is_over() { Poll::Ready(()) } else { Poll::Pending }",
        wrong: "Poll::Pending",
        found_by: "invariant_6_whoever_awaits_a_key_is_woken",
    },
    Bug {
        what: "a denial waits for its commit",
        file: "store/writer.rs",
        right: "self.index.deny(sequence, id, record.standing());",
        wrong: "let _ = record;",
        found_by: "a_key_is_refused_before_its_revocation_is_written",
    },
    Bug {
        what: "a change is applied before it is durable",
        file: "store/writer/life.rs",
        right: "        let outcome = self.ledger.commit(&commits);",
        wrong: "        self.publish(&commits, changes.clone())?;
        let outcome = self.ledger.commit(&commits);",
        found_by: "a_key_is_refused_before_its_revocation_is_written",
    },
    Bug {
        what: "a change is acknowledged before it is durable",
        file: "store/writer/life.rs",
        right: "        let outcome = self.ledger.commit(&commits);",
        wrong: "        self.settle(Ok(last.sequence));
        let outcome = self.ledger.commit(&commits);",
        found_by: "a_validation_that_starts_after_a_revocation_returned",
    },
    Bug {
        what: "only one of those who wait is told",
        file: "store/writer/waiting.rs",
        right: "self.settled(batch).notify_all();",
        wrong: "self.settled(batch).notify_one();",
        found_by: "what_is_decided_last_is_what_is_planned_last",
    },
    Bug {
        what: "who is queued waits for the batch before",
        file: "store/writer/waiting.rs",
        right: "usize::from(sequence > plans.taken)",
        wrong: "usize::from(sequence > plans.tip.sequence)",
        found_by: "what_is_decided_last_is_what_is_planned_last",
    },
    Bug {
        what: "a failure is told only to those of the batch that failed",
        file: "store/writer/waiting.rs",
        right: "        if is_for_all {",
        wrong: "        if is_for_all && self.ledger.is_shared() {",
        found_by: "after_a_failed_commit_denials_stay",
    },
    Bug {
        what: "a failed commit is forgotten",
        file: "store/writer/waiting.rs",
        right: "plans.failure.get_or_insert_with(|| error.to_string().into());",
        wrong: "let _ = error;",
        found_by: "after_a_failed_commit_denials_stay",
    },
    Bug {
        what: "what is on its way is forgotten when an older change is committed",
        file: "store/writer/life.rs",
        right: "if plans.pending_sequence(id) <= commit.sequence {",
        wrong: "if plans.pending_sequence(id) > 0 {",
        found_by: "what_is_decided_last_is_what_is_planned_last",
    },
    Bug {
        what: "the writer is told of the end before it is set",
        file: "store/writer.rs",
        right: "        self.plan().closing = true;
        self.wake.notify_all();",
        wrong: "        self.wake.notify_all();
        self.plan().closing = true;",
        found_by: "a_watch_of_a_store_that_closes",
    },
];

const LOOM: &[Bug] = &[
    Bug {
        what: "a slot's word is stored without releasing its key",
        file: "index/segment.rs",
        right: "slot.word.store(word.raw(), Release);
                self.taken",
        wrong: "slot.word.store(word.raw(), Relaxed);
                self.taken",
        found_by: "whoever_sees_a_slots_word_sees_its_key",
    },
    Bug {
        what: "a slot's word is read without acquiring its key",
        file: "index/segment.rs",
        right: "slot.word.load(Acquire)",
        wrong: "slot.word.load(Relaxed)",
        found_by: "whoever_sees_a_slots_word_sees_its_key",
    },
    Bug {
        what: "a watch is not looked at again after its waker was left",
        file: "index/watch.rs",
        right: "if self.is_over() { Poll::Ready(()) } else { Poll::Pending }",
        wrong: "Poll::Pending",
        found_by: "a_watch_and_a_denial_that_meet",
    },
];

/// So that no piece grows old unnoticed between two runs of the long test.
#[test]
fn each_piece_stands_in_the_sources_once() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for bug in SHUTTLE.iter().chain(LOOM) {
        let text = fs::read_to_string(src.join(bug.file)).unwrap();
        assert_eq!(text.matches(bug.right).count(), 1, "{}: the source has changed", bug.what);
    }
}

#[test]
#[ignore = "builds the library once a bug"]
fn each_bug_that_is_planted_is_found_by_its_model() {
    let missed: Vec<_> = [("shuttle", "models", SHUTTLE), ("loom", "orders", LOOM)]
        .iter()
        .flat_map(missed)
        .collect();
    let planted = SHUTTLE.len() + LOOM.len();
    println!("planted in models: {planted} bugs, {} found", planted - missed.len());
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

/// The bugs of which the models know nothing.
fn missed((checker, models, bugs): &(&str, &str, &'static [Bug])) -> Vec<String> {
    let copy = copy_of_the_sources(checker);
    let mut missed = Vec::new();
    for bug in *bugs {
        let path = copy.join("src").join(bug.file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(bug.right, bug.wrong)).unwrap();
        // A directory of its own: cargo would take what is built here for what the models build.
        let run = Command::new(env!("CARGO"))
            .args(["test", "--lib", "--target-dir"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/planted").join(checker))
            .arg(format!("{models}::{}", bug.found_by))
            .env("RUSTFLAGS", format!("--cfg {checker}"))
            .env("RUST_BACKTRACE", "0")
            .current_dir(&copy)
            .output()
            .unwrap();
        fs::write(&path, text).unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        let found = said.lines().any(|l| l.contains(bug.found_by) && l.ends_with("... FAILED"));
        eprintln!("{checker}: {}: {}", bug.what, if found { "found" } else { "MISSED" });
        if !found {
            missed.push(format!("{}\n{said}{}", bug.what, String::from_utf8_lossy(&run.stderr)));
        }
    }
    missed
}

/// What cargo needs, with a `src` of its own.
fn copy_of_the_sources(checker: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(checker).join("copy");
    let _ = fs::remove_dir_all(&copy);
    copy_all(&root.join("src"), &copy.join("src"));
    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(root.join(file), copy.join(file)).unwrap();
    }
    for folder in ["benches", "docs", "examples", "tests"] {
        symlink(root.join(folder), copy.join(folder)).unwrap();
    }
    copy
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_all(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}
