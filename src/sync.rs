//! The locks, atomics and threads of the index and the writer, or those of a model checker.
//!
//! In the product they are from `parking_lot` and std. `--cfg shuttle` and `--cfg loom` replace them
//! with those of a model checker, so the models run the product's own code. A model has few stripes
//! and slots: it needs more readers than stripes and a segment that fills up, nothing more.

#[cfg(loom)]
use loom::sync as checker;
#[cfg(not(any(shuttle, loom)))]
pub(crate) use parking_lot::{Mutex, RwLock};
#[cfg(shuttle)]
use shuttle::sync as checker;
#[cfg(not(any(shuttle, loom)))]
pub(crate) use std::sync::atomic;
#[cfg(any(shuttle, loom))]
pub(crate) use {checker::atomic, modelled::Mutex, modelled::RwLock};

/// Whether a model checker runs the code.
pub(crate) const MODELLED: bool = cfg!(any(shuttle, loom));

/// Returns the number of the calling thread, counted from 0.
#[cfg(not(any(shuttle, loom)))]
#[inline]
pub(crate) fn thread_number() -> usize {
    use std::{cell::Cell, sync::atomic::AtomicUsize};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<usize> = const { Cell::new(usize::MAX) });
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, atomic::Ordering::Relaxed));
        }
        mine.get()
    })
}

/// Returns the number of the thread within one execution. Under loom all threads use one stripe.
#[cfg(any(shuttle, loom))]
pub(crate) fn thread_number() -> usize {
    #[cfg(shuttle)]
    return shuttle::current::me().into();
    #[cfg(loom)]
    return 0;
}

/// The primitives that the writer waits with. std's condition variable needs std's mutex.
pub(crate) mod waiting {
    #[cfg(shuttle)]
    pub(crate) use shuttle::{
        sync::{Condvar, Mutex, MutexGuard},
        thread,
    };
    #[cfg(not(shuttle))]
    pub(crate) use std::{
        sync::{Condvar, Mutex, MutexGuard},
        thread,
    };
}

/// The locks of a model checker with the interface of `parking_lot`: they are never poisoned.
#[cfg(any(shuttle, loom))]
mod modelled {
    use super::checker::{self, MutexGuard, RwLockReadGuard, RwLockWriteGuard};
    use std::sync::PoisonError;

    #[derive(Default)]
    pub(crate) struct Mutex<T>(checker::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(checker::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    pub(crate) struct RwLock<T>(checker::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(checker::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

/// Runs a model in `PORTCULLIS_SCHEDULES` schedules. Half of them are random. The other half have few
/// preemptions at random places. They find faults that need one thread to be delayed for long.
#[cfg(all(test, shuttle))]
pub(crate) fn explore(model: impl Fn() + Clone + Send + Sync + 'static) {
    use shuttle::{
        Config, Runner,
        scheduler::{PctScheduler, RandomScheduler},
    };
    let schedules =
        std::env::var("PORTCULLIS_SCHEDULES").map_or(2000, |n| n.parse().expect("a number"));
    let mut config = Config::new();
    config.stack_size = 1 << 19;
    config.silence_warnings = true;
    let half = usize::div_ceil(schedules, 2);
    Runner::new(RandomScheduler::new(half), config.clone()).run(model.clone());
    Runner::new(PctScheduler::new(3, half), config).run(model);
}
