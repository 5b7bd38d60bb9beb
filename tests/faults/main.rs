//! Injected faults: each is a patch that breaks one promise, and a test that must find it.
//!
//! A test that never fails may detect nothing. So each patch below this folder is applied to a copy of
//! the sources in `target/faults/copy`, and the tests that it names must fail there. Without the patch
//! they must pass. The product contains no fault.
//!
//! A patch is a unified diff below a header:
//!
//! ```text
//! A description of the fault.
//! Breaks: the promise.
//!
//! Found by: NAME=value … cargo test … -- the::full::name_of_a_test
//! Message: a part of the output of the failed test (optional)
//! ```
//!
//! A hunk is matched by its lines, which must occur exactly once in the file. Line numbers are ignored.
//! `git diff -U1` creates such hunks. A randomized test may miss a fault by chance, so it is repeated with
//! another `PORTCULLIS_SEED`, up to twelve times.
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
    reason = "a test fails with a panic, and prints its counts"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// The number of faults that are run by default. Each day selects others.
const DAILY_FAULTS: usize = 2;
/// The maximum number of runs of a test until it finds a fault.
const MAX_ROUNDS: usize = 12;

/// One patch.
struct Fault {
    /// Its path without the extension.
    name: String,
    hunks: Vec<Hunk>,
    found_by: Vec<Search>,
    /// A text that the output of the failed test must contain.
    message: String,
}

/// A part of a file, and its replacement.
#[derive(Default)]
struct Hunk {
    file: String,
    original: String,
    faulty: String,
}

/// A test that must fail.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Search {
    variables: Vec<(String, String)>,
    /// The arguments of cargo that select the test binary.
    target: Vec<String>,
    test: String,
}

#[test]
fn every_patch_applies_and_names_a_test() {
    let mut sources = BTreeMap::new();
    read_sources(root(), &mut sources);
    for fault in faults() {
        assert!(!fault.hunks.is_empty(), "{}: it changes nothing", fault.name);
        let read = |file: &str| sources[Path::new(file)].clone();
        fault.apply(&mut BTreeMap::new(), read).unwrap_or_else(|why| panic!("{why}"));
        for Search { test, .. } in &fault.found_by {
            let function = format!("fn {}(", test.rsplit("::").next().unwrap());
            let exists = sources.values().any(|text| text.contains(&function));
            assert!(exists, "{}: there is no test {test}", fault.name);
        }
        let is_printed = sources.values().any(|text| text.contains(&fault.message));
        assert!(is_printed, "{}: no test prints {:?}", fault.name, fault.message);
    }
}

#[test]
#[ignore = "builds copies of the sources, which takes minutes"]
fn every_patched_copy_compiles_and_its_fault_is_found() {
    let copy = Copy::of_the_sources();
    let all = faults();
    let selection = env::var("PORTCULLIS_INJECT").unwrap_or_else(|_| today().to_string());
    let (selected, start) = (selected(&all, &selection), Instant::now());
    if selection.parse::<usize>().is_ok() {
        for group in copy.groups(&all) {
            // A fault may hinder another one of its group from compiling.
            if copy.with(&group, || copy.check()).is_err() {
                for fault in group {
                    let checked = copy.with(&[fault], || copy.check());
                    checked.unwrap_or_else(|why| panic!("{} does not compile: {why}", fault.name));
                }
            }
        }
        println!("faults: {} compile, in {} s", all.len(), start.elapsed().as_secs());
    }
    let searches: BTreeSet<_> = selected.iter().flat_map(|fault| &fault.found_by).collect();
    for search in &searches {
        let (passed, shown) = copy.run(search, 0);
        assert!(passed, "without a fault {} fails: {shown}", search.test);
    }
    let (mut missed, mut count) = (Vec::new(), 0);
    for fault in &selected {
        for search in &fault.found_by {
            count += 1;
            if !copy.with(&[fault], || copy.finds(fault, search)) {
                missed.push(format!("{}, by {}", fault.name, search.test));
            }
        }
    }
    println!(
        "faults: {} injected, {count} tests run on them, {} missed, in {} s",
        selected.len(),
        missed.len(),
        start.elapsed().as_secs()
    );
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

/// Returns the days since 1970.
fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400
}

/// Returns the faults of a day, the faults with this prefix of their names, or all.
fn selected<'f>(all: &'f [Fault], selection: &str) -> Vec<&'f Fault> {
    let Ok(day) = selection.parse::<usize>() else {
        let is_selected = |fault: &&Fault| selection == "all" || fault.name.starts_with(selection);
        let selected: Vec<_> = all.iter().filter(is_selected).collect();
        assert!(!selected.is_empty(), "there is no fault {selection}");
        return selected;
    };
    println!("faults: those of day {day}; PORTCULLIS_INJECT={day} runs them again");
    // The factor selects faults of different folders, and over time all of them.
    (0..DAILY_FAULTS).map(|n| &all[(day * DAILY_FAULTS + n) * 17 % all.len()]).collect()
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

    /// Puts the fault into its files. Reads those that are not among `files`. Changes nothing if it does
    /// not apply.
    fn apply(
        &self,
        files: &mut BTreeMap<String, String>,
        read: impl Fn(&str) -> String,
    ) -> Result<(), String> {
        let mut patched = files.clone();
        for Hunk { file, original, faulty } in &self.hunks {
            let text = patched.entry(file.clone()).or_insert_with(|| read(file));
            let count = text.matches(original).count();
            if count != 1 {
                let name = &self.name;
                return Err(format!(
                    "{name}: these lines occur {count} times in {file}:{original}"
                ));
            }
            *text = text.replace(original, faulty);
        }
        *files = patched;
        Ok(())
    }
}

/// Parses the hunks of a diff. Each begins with a line break, so that it matches whole lines.
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
            let (is_original, is_faulty) = (mark != "+", mark != "-");
            hunk.original.extend(is_original.then(|| format!("\n{}", &line[1..])));
            hunk.faulty.extend(is_faulty.then(|| format!("\n{}", &line[1..])));
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

/// A copy of the sources, and its build output.
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

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.sources().join(file)).unwrap()
    }

    /// Divides the faults into groups that apply together, so that few builds compile all.
    fn groups<'f>(&self, faults: &'f [Fault]) -> Vec<Vec<&'f Fault>> {
        let (mut rest, mut groups): (Vec<_>, _) = (faults.iter().collect(), Vec::new());
        while !rest.is_empty() {
            let mut files = BTreeMap::new();
            let applies = |fault: &&Fault| fault.apply(&mut files, |file| self.read(file)).is_ok();
            let (group, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(applies);
            assert!(!group.is_empty(), "{} does not apply", others[0].name);
            groups.push(group);
            rest = others;
        }
        groups
    }

    /// Runs `act` while faults are in the copy.
    fn with<T>(&self, faults: &[&Fault], act: impl FnOnce() -> T) -> T {
        let mut files = BTreeMap::new();
        for fault in faults {
            fault.apply(&mut files, |file| self.read(file)).unwrap();
        }
        let write = |file: &str, text| fs::write(self.sources().join(file), text).unwrap();
        let originals: Vec<_> = files.keys().map(|file| (file.clone(), self.read(file))).collect();
        for (file, text) in files {
            write(&file, text);
        }
        let outcome = act();
        for (file, text) in originals {
            write(&file, text);
        }
        outcome
    }

    /// Compiles the library with its unit tests: no fault is anywhere else.
    fn check(&self) -> Result<(), String> {
        let mut command = self.cargo("check", "plain");
        command.args(["-p", "portcullis", "--lib", "--profile", "test", "--all-features"]);
        let checked = command.output().unwrap();
        let output = String::from_utf8_lossy(&checked.stderr);
        checked.status.success().then_some(()).ok_or_else(|| output.into_owned())
    }

    /// Whether a test finds a fault. Prints the message of the failed test.
    fn finds(&self, fault: &Fault, search: &Search) -> bool {
        for round in 0..MAX_ROUNDS {
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

    /// Builds and runs a test. Returns whether it passed, and the message of its failure.
    fn run(&self, search: &Search, round: usize) -> (bool, String) {
        let built = self.test(search).arg("--no-run").output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let mut command = self.test(search);
        command.args(["--", &search.test, "--exact", "--nocapture"]);
        if round > 0 {
            command.env("PORTCULLIS_SEED", round.to_string());
        }
        let output = command.output().unwrap();
        let is_run = String::from_utf8_lossy(&output.stdout).contains("\nrunning 1 test\n");
        assert!(is_run, "{} did not run", search.test);
        (output.status.success(), shown(&output))
    }

    fn test(&self, search: &Search) -> Command {
        let mut command = self.cargo("test", search.flags());
        command.args(&search.target).envs(search.variables.iter().cloned());
        command
    }

    /// Returns a command of cargo. Its target directory is the one of the repository for these compiler
    /// flags, which may have the dependencies already.
    fn cargo(&self, act: &str, flags: &str) -> Command {
        let target = self.home.parent().unwrap();
        let target = if flags == "plain" { target.to_owned() } else { target.join(flags) };
        let mut command = Command::new(env!("CARGO"));
        command.arg(act).arg("--target-dir").arg(target).current_dir(self.sources());
        // Cargo would take a patched crate for the unpatched one of the repository: both are at the root of their
        // workspace. With another profile they have other files.
        command.args(["--config", "profile.dev.package.portcullis.codegen-units=255"]);
        // The variables of this test run belong to another package.
        for name in
            ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "PORTCULLIS_SEED"]
        {
            command.env_remove(name);
        }
        command.env("RUST_BACKTRACE", "0");
        command
    }
}

impl Search {
    /// Returns a name for the compiler flags. Each set of flags has its own target directory.
    fn flags(&self) -> &str {
        let flags = self.variables.iter().find(|(name, _)| name == "RUSTFLAGS");
        flags.map_or("plain", |(_, flags)| flags.trim_start_matches("--cfg="))
    }
}

/// Returns the message of the last panic, except for the panic of a thread scope.
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

/// Whether a path is copied: no hidden files, and no build output.
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

/// Reads the Rust files, by their path from the root.
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
