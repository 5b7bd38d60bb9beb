//! Measures contenders alternately, in chains of dependent calls, and compares them by ratios.

use crate::{Rival, keys::Rows};
use std::{
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

/// The seed of the order of the keys.
pub const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
/// The approximate duration of one measurement of a contender.
const TURN: Duration = Duration::from_millis(4);
const WINDOW: Duration = Duration::from_millis(400);

/// Returns the nanoseconds per call over `calls` calls. The input of each call depends on the result
/// before it.
pub fn time(rival: &(impl Rival + ?Sized), calls: u64, order: &mut Order) -> f64 {
    let (headers, zero) = (rival.headers(), black_box(0));
    let (count, mut last) = (headers.count(), 0);
    let start = Instant::now();
    for _ in 0..calls {
        let at = order.next(count) + (last & zero) as usize;
        last = rival.check(headers.row(at));
    }
    black_box(last);
    start.elapsed().as_nanos() as f64 / calls as f64
}

/// Returns the number of calls that fill one measurement.
pub fn calls_in_a_turn(rival: &(impl Rival + ?Sized)) -> u64 {
    let mut order = Order(SEED);
    let nanos = time(rival, 2, &mut order).min(time(rival, 20, &mut order));
    ((TURN.as_nanos() as f64 / nanos) as u64).max(1)
}

/// Returns `rival`'s time as a multiple of `ours`: the median over rounds that measure both.
pub fn ratio(rival: &(impl Rival + ?Sized), ours: &(impl Rival + ?Sized), rounds: usize) -> f64 {
    let (theirs_calls, our_calls) = (calls_in_a_turn(rival), calls_in_a_turn(ours));
    let (mut there, mut here) = (Order(SEED), Order(SEED));
    let rounds = (0..rounds).map(|round| {
        // The order alternates, so that neither is always second.
        if round % 2 == 0 {
            let theirs = time(rival, theirs_calls, &mut there);
            theirs / time(ours, our_calls, &mut here)
        } else {
            let mine = time(ours, our_calls, &mut here);
            time(rival, theirs_calls, &mut there) / mine
        }
    });
    median(rounds.collect())
}

/// Like [`ratio`], over headers in their order. If the headers do not fit the caches, the
/// processor then prefetches them, so that the time of reading them is not measured.
pub fn walk_ratio(rival: &impl Rival, ours: &impl Rival, rounds: usize) -> f64 {
    let calls = [calls_in_a_turn(rival), calls_in_a_turn(ours)];
    let (mut there, mut here) = (0, 0);
    let rounds = (0..rounds).map(|round| {
        if round % 2 == 0 {
            let theirs = walk(rival, calls[0], &mut there);
            theirs / walk(ours, calls[1], &mut here)
        } else {
            let mine = walk(ours, calls[1], &mut here);
            walk(rival, calls[0], &mut there) / mine
        }
    });
    median(rounds.collect())
}

fn walk(rival: &impl Rival, calls: u64, at: &mut usize) -> f64 {
    let (headers, zero) = (rival.headers(), black_box(0));
    let mut last = 0;
    let start = Instant::now();
    for _ in 0..calls {
        *at += 1 + (last & zero) as usize;
        if *at >= headers.count() {
            *at = 0;
        }
        last = rival.check(headers.row(*at));
    }
    black_box(last);
    start.elapsed().as_nanos() as f64 / calls as f64
}

/// Returns the calls per second of this number of threads that all present one key.
pub fn hammer(rival: &(impl Rival + Sync + ?Sized), threads: usize) -> f64 {
    let start = Barrier::new(threads);
    let header = rival.headers().row(0);
    let work = || {
        start.wait();
        let (begun, mut calls) = (Instant::now(), 0);
        while begun.elapsed() < WINDOW {
            for _ in 0..1000 {
                black_box(rival.check(black_box(header)));
            }
            calls += 1000;
        }
        f64::from(calls) / begun.elapsed().as_secs_f64()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A pseudorandom sequence that is the same in each run.
pub struct Order(pub u64);

impl Order {
    #[inline]
    pub fn next(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // Scaled, since a division would cost more than some of the measured calls.
        (((self.0 >> 32) * count as u64) >> 32) as usize
    }
}

/// Returns the rows in a random order, so that the time of reading them is not measured.
pub fn shuffled(rows: &Rows, count: usize) -> Rows {
    let mut order = Order(SEED);
    Rows::new((0..count).map(|_| rows.row(order.next(rows.count()))))
}
