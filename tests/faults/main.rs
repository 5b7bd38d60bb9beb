//! Injected faults: each is a patch that breaks one promise, and a test that must find it.
//!
//! A campaign that counts no failure may only be blind. So each patch below this folder is applied
//! to a copy of the sources in `target/faults/copy`, and the tests that it names must fail there;
//! without the patch they must pass. The product has nothing of it.
//!
//! A patch is a unified diff below a header:
//!
//! ```text
//! What the fault does, in words.
//! Breaks: the promise.
//!
//! Found by: NAME=value … cargo test … -- the::full::name_of_a_test
//! Message: what the failing test prints (optional)
//! ```
//!
//! A hunk is applied where its lines stand, and they must stand there once, whatever their numbers
//! are; `git diff -U1` makes such hunks. A campaign may miss a fault by chance, so it is run again
//! with another `PORTCULLIS_SEED`, up to twelve times.
//!
//! ```text
//! cargo test --test faults                                                          # every patch applies
//! cargo test --test faults -- --ignored --nocapture                                 # … compiles; some are run
//! PORTCULLIS_INJECT=all cargo test --test faults -- --ignored --nocapture           # all are run
//! PORTCULLIS_INJECT=store/failed cargo test --test faults -- --ignored --nocapture  # these are run
//! PORTCULLIS_INJECT=7 cargo test --test faults -- --ignored --nocapture             # those of day 7 are run
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by them, and reports its counts"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// How many faults are run where not all are; each day others.
const SOME: usize = 3;
/// How often a campaign is begun at most until it finds a fault.
const ROUNDS: usize = 12;

/// One patch.
struct Fault {
    /// Its path without the ending.
    name: String,
    hunks: Vec<Hunk>,
    found_by: Vec<Search>,
    /// What the output of the tests must contain.
    message: String,
}

/// A piece of a file and what stands there instead.
#[derive(Default)]
struct Hunk {
    file: String,
    right: String,
    wrong: String,
}

/// A test that must fail.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Search {
    variables: Vec<(String, String)>,
    /// Which binary cargo builds.
    target: Vec<String>,
    test: String,
}

#[test]
fn every_patch_applies_and_names_a_test() {
    let mut sources = BTreeMap::new();
    read_sources(root(), &mut sources);
    for fault in faults() {
        let patched = fault.patched(|file| sources[Path::new(file)].clone());
        assert!(!patched.is_empty(), "{}: it changes nothing", fault.name);
        for Search { test, .. } in &fault.found_by {
            let function = format!("fn {}(", test.rsplit("::").next().unwrap());
            let exists = sources.values().any(|text| text.contains(&function));
            assert!(exists, "{}: there is no test {test}", fault.name);
        }
    }
}

#[test]
#[ignore = "builds copies of the sources, for minutes"]
fn every_patched_copy_compiles_and_its_fault_is_found() {
    let copy = Copy::of_the_sources();
    let all = faults();
    let asked = env::var("PORTCULLIS_INJECT").unwrap_or_else(|_| today().to_string());
    let (chosen, start) = (chosen(&all, &asked), Instant::now());
    if asked.parse::<usize>().is_ok() {
        for fault in &all {
            copy.with(fault, || copy.check(fault));
        }
        println!("faults: {} compile, in {} s", all.len(), start.elapsed().as_secs());
    }
    let searches: BTreeSet<_> = chosen.iter().flat_map(|fault| &fault.found_by).collect();
    for search in &searches {
        let (passed, shown) = copy.run(search, 0);
        assert!(passed, "without a fault {} fails: {shown}", search.test);
    }
    let (mut missed, mut count) = (Vec::new(), 0);
    for fault in &chosen {
        for search in &fault.found_by {
            count += 1;
            if !copy.with(fault, || copy.finds(fault, search)) {
                missed.push(format!("{}, by {}", fault.name, search.test));
            }
        }
    }
    println!(
        "faults: {} injected, {count} searches for them, {} in vain, in {} s",
        chosen.len(),
        missed.len(),
        start.elapsed().as_secs()
    );
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

/// In days since 1970.
fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400
}

/// Those of a day, or those whose name begins so, or all.
fn chosen<'f>(all: &'f [Fault], asked: &str) -> Vec<&'f Fault> {
    let Ok(day) = asked.parse::<usize>() else {
        let is_asked = |fault: &&Fault| asked == "all" || fault.name.starts_with(asked);
        let chosen: Vec<_> = all.iter().filter(is_asked).collect();
        assert!(!chosen.is_empty(), "there is no fault {asked}");
        return chosen;
    };
    println!("faults: those of day {day}; PORTCULLIS_INJECT={day} runs them again");
    // The stride takes them from different folders, and in the end all of them.
    (0..SOME).map(|n| &all[(day * SOME + n) * 17 % all.len()]).collect()
}

// ── the patches

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn faults() -> Vec<Fault> {
    let home = root().join("tests/faults");
    let mut files = Vec::new();
    for folder in fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().path()) {
        if folder.is_dir() {
            files.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    files.sort();
    assert!(!files.is_empty() && !files.len().is_multiple_of(17));
    let name = |file: &Path| file.strip_prefix(&home).unwrap().with_extension("");
    files.iter().map(|file| Fault::read(name(file).display().to_string(), file)).collect()
}

impl Fault {
    fn read(name: String, file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap();
        let (header, diff) = text.split_at(text.find("\ndiff --git ").unwrap());
        let fields = |field| header.lines().filter_map(move |line| line.strip_prefix(field));
        assert!(fields("Breaks: ").count() == 1, "{name}: it does not say what it breaks");
        let found_by: Vec<_> = fields("Found by: ").map(Search::parse).collect();
        assert!(!found_by.is_empty(), "{name}: it does not say what finds it");
        let message = fields("Message: ").next().unwrap_or_default().to_owned();
        Self { hunks: hunks(diff), name, found_by, message }
    }

    /// The files that it changes, changed.
    fn patched(&self, mut source: impl FnMut(&str) -> String) -> BTreeMap<&str, String> {
        let mut files = BTreeMap::new();
        for Hunk { file, right, wrong } in &self.hunks {
            let text = files.entry(file.as_str()).or_insert_with(|| source(file));
            let places = text.matches(right).count();
            assert_eq!(
                places, 1,
                "{}: the lines stand {places} times in {file}:{right}",
                self.name
            );
            *text = text.replace(right, wrong);
        }
        files
    }
}

/// Each begins with a line break, so that it stands for whole lines.
fn hunks(diff: &str) -> Vec<Hunk> {
    let (mut hunks, mut file) = (Vec::new(), "");
    for line in diff.lines() {
        if let Some(path) = line.strip_prefix("+++ b/") {
            file = path;
        } else if line.starts_with("@@") {
            hunks.push(Hunk { file: file.to_owned(), ..Hunk::default() });
        } else if let Some(hunk) = hunks.last_mut()
            && hunk.file == file
            && !line.starts_with("diff ")
            && !line.starts_with("---")
            && let Some(mark @ (" " | "-" | "+")) = line.get(..1)
        {
            let (right, wrong) = (mark != "+", mark != "-");
            hunk.right.extend(right.then(|| format!("\n{}", &line[1..])));
            hunk.wrong.extend(wrong.then(|| format!("\n{}", &line[1..])));
        }
    }
    hunks
}

impl Search {
    fn parse(command: &str) -> Self {
        let (before, test) = command.split_once(" -- ").unwrap();
        let mut words = before.split(' ').map(str::to_owned);
        let mut variables = Vec::new();
        let target = loop {
            let word = words.next().unwrap();
            match word.split_once('=') {
                Some((name, value)) => variables.push((name.to_owned(), value.to_owned())),
                None => break words,
            }
        };
        Self { variables, target: target.skip(1).collect(), test: test.to_owned() }
    }
}

// ── the copy

/// The sources once more, and what is built from them.
struct Copy {
    home: PathBuf,
}

impl Copy {
    fn of_the_sources() -> Self {
        let copy = Self { home: Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("faults") };
        let _ = fs::remove_dir_all(copy.sources());
        copy_all(root(), &copy.sources());
        copy
    }

    fn sources(&self) -> PathBuf {
        self.home.join("copy")
    }

    /// Does something while a fault is in the copy.
    fn with<T>(&self, fault: &Fault, act: impl FnOnce() -> T) -> T {
        let path = |file: &str| self.sources().join(file);
        let mut right = BTreeMap::new();
        let patched = fault.patched(|file| {
            let text = fs::read_to_string(path(file)).unwrap();
            right.insert(file.to_owned(), text.clone());
            text
        });
        for (file, text) in patched {
            fs::write(path(file), text).unwrap();
        }
        let outcome = act();
        for (file, text) in right {
            fs::write(path(&file), text).unwrap();
        }
        outcome
    }

    fn check(&self, fault: &Fault) {
        let builds = fault.found_by.iter().map(|search| (search.flags(), search));
        for search in builds.collect::<BTreeMap<_, _>>().into_values() {
            let checked = self.cargo("check", search, &["--profile", "test"]).output().unwrap();
            let complaints = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success(), "{} does not compile: {complaints}", fault.name);
        }
    }

    /// Whether a test finds a fault, and prints what it shows.
    fn finds(&self, fault: &Fault, search: &Search) -> bool {
        for round in 0..ROUNDS {
            let start = Instant::now();
            let (passed, shown) = self.run(search, round);
            let (name, seconds) = (&fault.name, start.elapsed().as_secs());
            let verdict = match passed {
                true => "missed",
                false if shown.contains(&fault.message) => "found",
                false => "failed for another reason",
            };
            println!(
                "| {name} | {} | round {round}, {seconds} s | {verdict}: {shown} |",
                search.test
            );
            if verdict == "found" {
                return true;
            }
        }
        false
    }

    /// Builds and runs a test; says whether it passed, and what it failed by.
    fn run(&self, search: &Search, round: usize) -> (bool, String) {
        let built = self.cargo("test", search, &["--no-run"]).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let mut command =
            self.cargo("test", search, &["--", &search.test, "--exact", "--nocapture"]);
        if round > 0 {
            command.env("PORTCULLIS_SEED", round.to_string());
        }
        let output = command.output().unwrap();
        let is_run = String::from_utf8_lossy(&output.stdout).contains("\nrunning 1 test\n");
        assert!(is_run, "{} did not run", search.test);
        (output.status.success(), shown(&output))
    }

    fn cargo(&self, act: &str, search: &Search, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO"));
        command
            .arg(act)
            .args(&search.target)
            .arg("--target-dir")
            .arg(self.home.join(search.flags()));
        command.args(more).current_dir(self.sources());
        // Those of the test that runs this are about another package.
        for name in
            ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "PORTCULLIS_SEED"]
        {
            command.env_remove(name);
        }
        command.envs(search.variables.iter().cloned()).env("RUST_BACKTRACE", "0");
        command
    }
}

impl Search {
    /// A name for the flags of the compiler. What is built with others must not get mixed up.
    fn flags(&self) -> &str {
        let flags = self.variables.iter().find(|(name, _)| name == "RUSTFLAGS");
        flags.map_or("plain", |(_, flags)| flags.trim_start_matches("--cfg="))
    }
}

/// The message of the last panic, but for that of a scope whose thread has panicked.
fn shown(output: &Output) -> String {
    let complaints = String::from_utf8_lossy(&output.stderr);
    let panics = complaints.split("panicked at ").skip(1).map(|panic| {
        let ends = |line: &&str| {
            !line.is_empty() && !line.starts_with("note: ") && !line.starts_with("error: ")
        };
        let lines: Vec<_> = panic.lines().skip(1).take(3).take_while(ends).collect();
        lines.join(" ")
    });
    let shown = panics.filter(|panic| !panic.starts_with("a scoped thread panicked")).last();
    shown.unwrap_or_default().chars().take(200).collect()
}

/// What the copy has: no hidden files, nothing that was built.
fn is_source(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    (!name.starts_with('.') || name == ".cargo") && name != "target" && name != "node_modules"
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| is_source(path)).collect()
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in entries(from) {
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_all(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// The Rust files, by their path from the root.
fn read_sources(folder: &Path, sources: &mut BTreeMap<PathBuf, String>) {
    for path in entries(folder) {
        if path.is_dir() {
            read_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().to_owned();
            sources.insert(name, fs::read_to_string(path).unwrap());
        }
    }
}
