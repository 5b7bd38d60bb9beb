//! One busy key on several threads: how much more do two threads validate than one?

use rivals::{
    Rival,
    databases::Cached,
    keys::Portcullis,
    maps::{LockFree, Locked, Naive, Sharded},
    timing,
};

const KEYS: usize = 10_000;

fn main() {
    let rounds = if std::env::args().any(|argument| argument == "--bench") { 5 } else { 1 };
    let dir = tempfile::tempdir().unwrap();
    let house = Portcullis::with_keys(KEYS);
    let rivals: [Box<dyn Rival + Sync>; 5] = [
        Box::new(Locked::beside(&house)),
        Box::new(Sharded::beside(&house)),
        Box::new(LockFree::beside(&house)),
        Box::new(Naive::beside(&house)),
        Box::new(Cached::beside(&house, dir.path())),
    ];
    println!("one hot key, 1→2 threads; medians of {rounds} rounds");
    scaling(&house, rounds);
    rivals.iter().for_each(|rival| scaling(&**rival, rounds));
}

fn scaling(rival: &(impl Rival + Sync + ?Sized), rounds: usize) {
    let ratio = |_| {
        let one = timing::hammer(rival, 1);
        timing::hammer(rival, 2) / one
    };
    println!("{}: {:.2}", rival.name(), timing::median((0..rounds).map(ratio).collect()));
}
