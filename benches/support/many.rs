//! What the benches with many keys share: a store full of keys, and the middle of many figures.

#![allow(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "each bench uses a part of this, and figures are rounded"
)]

use portcullis::{Expiry, Grant, KeyId, Metadata, NewKey, Store};
use std::thread;

/// How many ask for keys at the same time, so that the writer has something to gather.
const MAKERS: usize = 32;
const KINDS: [&str; 4] = ["Nightly export", "Till", "Partner", "Dashboard of branch"];

/// Sizes from the command line, or these; a single small one unless figures are wanted.
pub(crate) fn sizes(usual: &[usize]) -> Vec<usize> {
    let asked: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    match (wants_figures(), asked.is_empty()) {
        (false, _) => vec![1000],
        (true, true) => usual.to_vec(),
        (true, false) => asked,
    }
}

/// Cargo passes `--bench` where figures are wanted; otherwise a run only shows that it works.
pub(crate) fn wants_figures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Makes keys with names as they are given, of which one in eight is inactive; calls `each` with
/// those that one maker made.
pub(crate) fn fill(store: &Store, keys: usize, each: impl Fn(usize, KeyId, &str) + Sync) {
    let (reads, both) = (["api.read"], ["api.read", "api.write"]);
    thread::scope(|scope| {
        for maker in 0..MAKERS {
            let each = &each;
            scope.spawn(move || {
                for number in (maker..keys).step_by(MAKERS) {
                    let scopes = if number % 3 == 0 { &reads[..] } else { &both };
                    let issued = store.issue(NewKey {
                        name: format!("{} {number}", KINDS[number % KINDS.len()]),
                        grant: Grant::Scopes(store.scopes(scopes).unwrap()),
                        active: number % 8 != 0,
                        expiry: Expiry::Never,
                        owner: Some(format!("shop-{}", number % 1000)),
                        metadata: Metadata::new(),
                    });
                    let issued = issued.unwrap();
                    issued.secret.reveal(|text| each(number, issued.record.id, text));
                }
            });
        }
    });
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The figure that this share of all does not exceed.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}
