//! How much slower is a validation with another design that keeps its keys in memory, or with one
//! that caches a database's answers?

use rivals::{
    Rival,
    databases::Cached,
    keys::{Hash, Portcullis},
    maps::{LockFree, Locked, Naive, Prefixed, Sharded},
    timing,
};

const KEYS: usize = 10_000;

fn main() {
    // `cargo bench` passes `--bench`. Without it this is only a short test run.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { 101 } else { 1 };
    let dir = tempfile::tempdir().unwrap();
    let house = Portcullis::with_keys(KEYS);
    println!(
        "{KEYS} keys, walked at random (seed {:#x}); medians of {rounds} rounds",
        timing::SEED
    );
    println!("portcullis / blake3::hash: {:.2}", timing::ratio(&house, &Hash(&house.keys), rounds));
    let rivals: [Box<dyn Rival>; 6] = [
        Box::new(Locked::beside(&house)),
        Box::new(Sharded::beside(&house)),
        Box::new(LockFree::beside(&house)),
        Box::new(Naive::beside(&house)),
        Box::new(Cached::beside(&house, dir.path())),
        Box::new(Prefixed::with_keys(KEYS)),
    ];
    for rival in rivals {
        println!("{} / portcullis: {:.2}", rival.name(), timing::ratio(&*rival, &house, rounds));
    }
}
