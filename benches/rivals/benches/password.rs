//! How much slower is a password hash? It protects weak passwords, but is useless for a key of 190
//! random bits, and every request would pay for it.

use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use rivals::{keys::Portcullis, timing};
use std::time::Instant;

fn main() {
    let rounds = if std::env::args().any(|argument| argument == "--bench") { 11 } else { 1 };
    let house = Portcullis::with_keys(1);
    let key = house.keys.row(0);
    let argon = Argon2::default();
    let hash = argon.hash_password(key).unwrap();
    let ratios = (0..rounds).map(|_| {
        let start = Instant::now();
        argon.verify_password(key, &hash).unwrap();
        let theirs = start.elapsed().as_nanos() as f64;
        theirs / timing::time(&house, 20_000, &mut timing::Order(timing::SEED))
    });
    let ratio = timing::median(ratios.collect());
    println!("argon2id (19 MiB, 2 passes) / portcullis: {ratio:.0}; median of {rounds} rounds");
}
