//! Commits many changes at once. They are planned in parts, each under one hold of the writers' mutex, so
//! another change waits for one part at most. All parts are queued, and their stricter changes denied in
//! memory, before the first is waited for.

use super::{
    caller::Caller,
    planning::{Planning, Unplanned},
    retry::rests_on_applied_state,
};
use crate::{
    audit_entry::Attempt,
    error::{Error, Forbidden},
    id::KeyId,
};
use std::cell::Cell;

/// The changes of a part.
const PART: usize = 512;

/// A change that was queued, and what its caller gets when it is durable.
struct Queued<T> {
    item: usize,
    sequence: u64,
    value: T,
}

/// Plans a change for each item and returns the outcomes in the order of the items. An item that is refused
/// or fails does not affect the others. `denies` is set by `plan` if a change denies anything: then the batch
/// is repeated for as long as other replicas commit first.
pub(super) fn commit_all<I, T>(
    caller: Caller<'_>,
    attempt: Attempt,
    items: &[I],
    denies: &Cell<bool>,
    key: impl Fn(&I) -> Option<KeyId>,
    plan: impl Fn(&mut Planning<'_>, &I) -> Result<(T, u64), Unplanned>,
) -> Vec<Result<T, Error>> {
    let mut outcomes: Vec<_> = items.iter().map(|_| Err(Error::Contended)).collect();
    let mut left: Vec<usize> = (0..items.len()).collect();
    let once = || {
        let mut queued: Vec<(u64, Vec<Queued<T>>)> = Vec::new();
        for part in left.chunks(PART) {
            let Ok(mut planning) = Planning::begin(caller, attempt, None) else {
                for &item in part {
                    set(&mut outcomes, item, Err(Forbidden::ActorRefused.into()));
                }
                continue;
            };
            let (mut planned, mut refused) = (Vec::with_capacity(part.len()), Vec::new());
            for (at, item) in part.iter().filter_map(|at| Some((*at, items.get(*at)?))) {
                match plan(&mut planning, item) {
                    Ok((value, sequence)) => planned.push(Queued { item: at, sequence, value }),
                    Err(Unplanned::Failed(error)) => set(&mut outcomes, at, Err(error)),
                    Err(Unplanned::Refused(error, asked)) => {
                        refused.push((at, key(item), error, asked));
                    }
                }
            }
            queued.push((planning.end(), planned));
            for (at, key, error, asked) in refused {
                let error = caller.refused(attempt, key, *asked, error);
                set(&mut outcomes, at, Err(error));
            }
        }
        for (generation, planned) in queued {
            let sequences: Vec<u64> = planned.iter().map(|queued| queued.sequence).collect();
            let durable = caller.core.wait_each(generation, &sequences);
            for (Queued { item, value, .. }, durable) in planned.into_iter().zip(durable) {
                set(&mut outcomes, item, durable.map(|()| value));
            }
        }
        left.retain(|item| match outcomes.get(*item) {
            Some(Err(error)) => matches!(error, Error::Contended) || rests_on_applied_state(error),
            _ => false,
        });
        let is_contended =
            |item: &usize| matches!(outcomes.get(*item), Some(Err(Error::Contended)));
        if left.iter().any(is_contended) {
            return Err(Error::Contended);
        }
        match left.first().and_then(|item| key(items.get(*item)?)) {
            // The newest state may differ; the outcomes keep their own errors.
            Some(id) => Err(Error::Changed(id)),
            None => Ok(()),
        }
    };
    // Each outcome has its own error.
    let _ = caller.core.retry_while(|| denies.get(), once);
    outcomes
}

fn set<T>(outcomes: &mut [Result<T, Error>], item: usize, outcome: Result<T, Error>) {
    if let Some(place) = outcomes.get_mut(item) {
        *place = outcome;
    }
}
