//! Bugs planted on purpose: each campaign must find those that are its to find.
//!
//! A campaign that counts no failure may only be blind. So the library and the campaigns are built
//! once more with `--cfg planted`, in a crate of its own below `target/planted` with nothing but
//! what they need; then each bug of `src/planted.rs` is switched on in turn, and the campaign named
//! here must fail, with its counts or at what it holds for impossible. Without a bug the same build
//! must pass, so that nothing but the bug can have made it fail. Whether a short form hits on a bug
//! is a matter of chance, so it is begun again with another seed where it did not.
//!
//! ```text
//! cargo test --test planted -- --nocapture
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by them, and tells its counts"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    thread,
    time::Instant,
};

/// A campaign in a short form.
#[derive(Clone, Copy)]
struct Campaign {
    /// The test's binary, and which of its tests.
    binary: &'static str,
    test: &'static str,
    /// What its line of counts begins with.
    line: &'static str,
    knob: (&'static str, &'static str),
}

const KILL: Campaign = Campaign {
    binary: "kill",
    test: "what_was_acknowledged_survives_a_kill",
    line: "kill: ",
    knob: ("PORTCULLIS_KILLS", "40"),
};
const STARVE: Campaign = Campaign {
    binary: "starve",
    test: "the_promises_hold_where_the_disk_fails",
    line: "starve: ",
    // Each cause at each time.
    knob: ("PORTCULLIS_STARVES", "96"),
};
const POWER: Campaign = Campaign {
    binary: "power",
    test: "what_was_acknowledged_survives_a_power_cut",
    line: "power: ",
    knob: ("PORTCULLIS_POWER_POINTS", "100"),
};

const DAMAGE: Campaign = Campaign {
    binary: "damage",
    test: "campaign::many_damaged_copies_are_refused_or_whole",
    line: "damage: ",
    knob: ("PORTCULLIS_DAMAGES", "150"),
};

/// Who must find what.
const BUGS: &[(&str, Campaign)] = &[
    ("two-transactions", KILL),
    ("publish-before-durable", KILL),
    ("anchor-first", KILL),
    ("keep-generating", KILL),
    ("poison-ignored", STARVE),
    ("failure-swallowed", STARVE),
    ("deny-late", STARVE),
    ("read-unchecked", STARVE),
    ("uncontained", STARVE),
    ("no-fsync", POWER),
    ("no-anchor", DAMAGE),
    ("no-mac", DAMAGE),
];

/// How many campaigns run at once; they wait for most of their time.
const AT_ONCE: usize = 2;

/// A short form may miss a bug by chance. It must be found in so many, each with its own seed; a
/// short form finds the rarest in more than every second.
const ROUNDS: u32 = 12;

#[test]
fn each_campaign_finds_the_bugs_that_are_its_to_find() {
    let binaries = build();
    let missed = Mutex::new(Vec::new());
    let campaigns = [KILL, STARVE, POWER, DAMAGE].map(|campaign| ("no bug", campaign));
    let rows = [&campaigns, BUGS].concat();
    let next = Mutex::new(rows.into_iter());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((bug, campaign)) = next.lock().unwrap().next() else { break };
                    let is_planted = bug != "no bug";
                    let found = (0..if is_planted { ROUNDS } else { 1 }).any(|round| {
                        let start = Instant::now();
                        let (failed, line) = run(&binaries[campaign.binary], campaign, bug, round);
                        println!("{bug}, {} s: {line}", start.elapsed().as_secs());
                        failed
                    });
                    if found != is_planted {
                        missed.lock().unwrap().push((bug, campaign.binary));
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "{missed:?}");
    println!("planted: {} bugs, {} found", BUGS.len(), BUGS.len());
}

#[test]
fn each_bug_that_can_be_planted_is_some_campaigns_to_find() {
    let source = fs::read_to_string(root().join("src/planted.rs")).unwrap();
    let bugs = source.split("enum Bug {").nth(1).unwrap().split("\n}").next().unwrap();
    let names = bugs.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let names = names.map(|line| line.trim_end_matches(',')).filter(|line| !line.is_empty());
    let mut count = 0;
    for name in names {
        let mut chosen = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !chosen.is_empty() {
                chosen.push('-');
            }
            chosen.push(letter.to_ascii_lowercase());
        }
        assert!(BUGS.iter().any(|(bug, _)| *bug == chosen), "nobody looks for {chosen}");
        count += 1;
    }
    assert_eq!(count, BUGS.len());
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a campaign with a bug; says whether it failed, and its line or what it stumbled over.
fn run(binary: &Path, campaign: Campaign, bug: &str, round: u32) -> (bool, String) {
    let mut command = Command::new(binary);
    if round > 0 {
        command.env("PORTCULLIS_SEED", round.to_string());
    }
    let output = command
        .args([campaign.test, "--exact", "--nocapture"])
        .env(campaign.knob.0, campaign.knob.1)
        .env("PORTCULLIS_PLANTED", bug)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line =
        text.lines().find_map(|line| line.find(campaign.line).map(|at| line[at..].to_owned()));
    let complaints = String::from_utf8_lossy(&output.stderr);
    let stumbled =
        || complaints.rsplit_once("panicked at").and_then(|(_, rest)| rest.lines().nth(1));
    let line = line.or_else(|| stumbled().map(|line| format!("stumbled: {line}")));
    (!output.status.success(), line.unwrap_or_default())
}

/// Builds the campaigns; gives their binaries.
fn build() -> BTreeMap<String, PathBuf> {
    let place = root().join("target/planted");
    let package = place.join("campaigns");
    fs::create_dir_all(&package).unwrap();
    let link = package.join("tests");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(root().join("tests"), &link).unwrap();
    // The versions that the library is tested with.
    fs::copy(root().join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    fs::write(package.join("Cargo.toml"), manifest()).unwrap();
    fs::write(package.join("lib.rs"), "").unwrap();
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default() + " --cfg planted";
    let output = Command::new(env!("CARGO"))
        .args(["test", "--no-run", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&place)
        .env("RUSTFLAGS", flags)
        // Those of the test that runs this are about another package.
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let executables = text.lines().filter_map(|line| line.trim().strip_prefix("Executable tests/"));
    let binaries: BTreeMap<_, _> = executables
        .map(|line| {
            let (name, path) = line.split_once(".rs (").unwrap();
            (name.to_owned(), PathBuf::from(path.trim_end_matches(')')))
        })
        .collect();
    assert!(!binaries.is_empty(), "{text}");
    binaries
}

/// With what every test may use: the library's own dependencies.
fn manifest() -> String {
    let own = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let own = own.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let always: Vec<&str> = own.lines().filter(|line| !line.contains("optional = true")).collect();
    format!("{HEAD}{}\n{TESTS}", always.join("\n"))
}

const HEAD: &str = r#"# Written by tests/planted.rs.
[package]
name = "campaigns"
version = "0.0.0"
edition = "2024"
autotests = false

[workspace]

[lib]
path = "lib.rs"

[dev-dependencies]
portcullis = { path = "../../.." }
serde_json = "*"
tempfile = "*"
"#;

const TESTS: &str = r#"
[[test]]
name = "kill"

[[test]]
name = "starve"

[[test]]
name = "power"

[[test]]
name = "damage"
"#;
