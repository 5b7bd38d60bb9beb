//! What the tests of directories need: copies, all that a store holds, seeded chance.

use portcullis::{ListQuery, Record, Store};
use std::{fs, path::Path, sync::Arc};

/// A place for many short-lived copies: in memory where the machine has such a place.
pub(crate) fn room() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap()
}

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Puts a copy in the place of what was there.
pub(crate) fn replace(from: &Path, to: &Path) {
    fs::remove_dir_all(to).unwrap();
    copy(from, to);
}

/// Every record, newest first.
pub(crate) fn records(store: &Store) -> Vec<Arc<Record>> {
    let mut query = ListQuery { page_size: Some(200), ..ListQuery::default() };
    let mut all = Vec::new();
    loop {
        let page = store.list(&query).unwrap();
        all.extend(page.records);
        query.page_token = page.next_page_token;
        if query.page_token.is_none() {
            return all;
        }
    }
}

/// Chance that a seed repeats (`SplitMix64`).
pub(crate) struct Chance(pub u64);

impl Chance {
    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, and without, `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.word() % end as u64).unwrap()
    }
}

/// A number from the environment, or this one.
pub(crate) fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect(variable))
}

/// `4812` as `4,812`.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
