//! The locks, atomics and threads that the index and the writer meet on.
//!
//! In the product they are `parking_lot`'s and std's. `--cfg shuttle` and `--cfg loom` put a model
//! checker's in their place, so that the models run the code itself and not a copy of it. A model
//! has few stripes and slots: what matters is that there are more readers than stripes, and that a
//! segment fills up, not how soon.

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

/// Whether a model checker runs this.
pub(crate) const MODELLED: bool = cfg!(any(shuttle, loom));

/// A number for each thread, from 0 up.
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

/// The same for the threads of one execution; under loom all read from one stripe.
#[cfg(any(shuttle, loom))]
pub(crate) fn thread_number() -> usize {
    #[cfg(shuttle)]
    return shuttle::current::me().into();
    #[cfg(loom)]
    return 0;
}

/// What the writer waits with: std's, whose mutex has a condition variable of its own kind.
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

/// A checker's locks with the manners of `parking_lot`'s: they are never poisoned.
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

/// Runs a model in as many schedules as `PORTCULLIS_SCHEDULES` says: half of them at random, half with few
/// preemptions at random places, which finds what needs one thread to be held up for long.
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
