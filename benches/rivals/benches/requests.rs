//! How much slower is a database query on each request, in an embedded database or a server on this host?

use rivals::{
    Rival,
    databases::{Sled, Sqlite},
    keys::Portcullis,
    redis::{AT_ONCE, Pipelined, Server},
    timing,
};

const KEYS: usize = 10_000;

fn main() {
    let rounds = if std::env::args().any(|argument| argument == "--bench") { 101 } else { 1 };
    let dir = tempfile::tempdir().unwrap();
    let house = Portcullis::with_keys(KEYS);
    println!(
        "{KEYS} keys, walked at random (seed {:#x}); medians of {rounds} rounds",
        timing::SEED
    );
    let embedded: [Box<dyn Rival>; 2] =
        [Box::new(Sled::beside(&house, dir.path())), Box::new(Sqlite::beside(&house, dir.path()))];
    for rival in embedded {
        println!("{} / portcullis: {:.1}", rival.name(), timing::ratio(&*rival, &house, rounds));
    }
    let server = Server::start(dir.path());
    server.fill(&house);
    for rival in [server.over_tcp(&house), server.over_a_socket(&house)] {
        println!("{} / portcullis: {:.0}", rival.name(), timing::ratio(&rival, &house, rounds));
    }
    let pipelined = Pipelined(server.over_tcp(&house));
    let each = timing::ratio(&pipelined, &house, rounds) / AT_ONCE as f64;
    println!("{} / portcullis: {each:.1}", pipelined.name());
}
