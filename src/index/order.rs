//! The keys in the order in which they were made, packed for lists and searches.
//!
//! Design. Pieces of up to 512 keys, each with what a search asks for side by side: the state
//! words, and one text of all folded names and ids, a line each. A page looks at one piece at
//! a time, newest first, and lets the index go in between. A search for a text is one pass of
//! `memchr`'s substring search over the texts of the pieces, and touches no record but
//! those that it finds.
//!
//! Rejected: postings of three letters each (several times the memory, and a change of a name
//! would touch dozens of lists, for searches that a scan does in time); to decode each record that
//! is passed over (an allocation or more for each key that nobody asked for).

use super::{fold::folded, word::Word};
use crate::{id::KeyId, time::Timestamp};
use memchr::memmem::Finder;
use std::{collections::BTreeMap, ops::Bound};

/// Keys in a piece, and so the most that are looked at while a change waits.
const MOST: usize = 512;
/// Pieces whose states are counted while a change waits: some microseconds.
const STRIDE: usize = 8;
/// Ends each line of a text; no name has it.
const LINE_END: u8 = b'\n';

/// When a key was made, and its id.
pub(crate) type Place = (Timestamp, KeyId);

pub(super) const FIRST: Place = (Timestamp::from_millis(0), KeyId::from_u64(0));

#[derive(Default)]
struct Piece {
    places: Vec<Place>,
    words: Vec<Word>,
    /// Where the line of each key ends.
    ends: Vec<u32>,
    lines: Vec<u8>,
}

impl Piece {
    fn lines_before(&self, at: usize) -> usize {
        at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize)
    }

    fn insert(&mut self, at: usize, place: Place, word: Word, line: &[u8]) {
        let start = self.lines_before(at);
        self.places.insert(at, place);
        self.words.insert(at, word);
        self.ends.insert(at, u32::try_from(start).unwrap_or(u32::MAX));
        self.put_line(at, start, start, line);
    }

    /// Adds a key that comes after all others.
    fn push(&mut self, place: Place, word: Word, line: &[u8]) {
        self.places.push(place);
        self.words.push(word);
        self.lines.extend_from_slice(line);
        self.ends.push(u32::try_from(self.lines.len()).unwrap_or(u32::MAX));
    }

    fn update(&mut self, at: usize, word: Word, line: &[u8]) {
        if let Some(old) = self.words.get_mut(at) {
            *old = word;
        }
        let (start, end) = (self.lines_before(at), self.lines_before(at + 1));
        if self.lines.get(start..end) != Some(line) {
            self.put_line(at, start, end, line);
        }
    }

    fn remove(&mut self, at: usize) {
        let (start, end) = (self.lines_before(at), self.lines_before(at + 1));
        self.put_line(at, start, end, &[]);
        self.places.remove(at);
        self.words.remove(at);
        self.ends.remove(at);
        if self.places.len() * 4 < self.places.capacity() {
            self.shrink();
        }
    }

    /// Puts a line in the place of what lies there, and moves what lies behind it.
    fn put_line(&mut self, at: usize, start: usize, end: usize, line: &[u8]) {
        self.lines.splice(start..end, line.iter().copied());
        for later in self.ends.iter_mut().skip(at) {
            let moved = (*later as usize + line.len()).saturating_sub(end - start);
            *later = u32::try_from(moved).unwrap_or(u32::MAX);
        }
    }

    fn split_off(&mut self, at: usize) -> Self {
        let start = self.lines_before(at);
        let mut ends = self.ends.split_off(at);
        for end in &mut ends {
            *end -= u32::try_from(start).unwrap_or(u32::MAX);
        }
        let (places, words) = (self.places.split_off(at), self.words.split_off(at));
        Self { places, words, ends, lines: self.lines.split_off(start) }
    }

    fn shrink(&mut self) {
        self.places.shrink_to_fit();
        self.words.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.lines.shrink_to_fit();
    }
}

/// What a page looks for.
pub(crate) struct Search<'q> {
    text: Option<Finder<'q>>,
    /// No name and no id has a control character.
    is_vain: bool,
}

impl<'q> Search<'q> {
    /// Every key, or those whose name or id contains this text, which is [`folded`].
    pub(crate) fn new(text: Option<&'q str>) -> Self {
        let is_vain = text.is_some_and(|text| text.chars().any(char::is_control));
        Self { text: text.filter(|text| !text.is_empty()).map(Finder::new), is_vain }
    }

    /// The places in a piece, ascending, whose lines have the text.
    fn find(&self, piece: &Piece, below: usize) -> Vec<usize> {
        if self.is_vain {
            return Vec::new();
        }
        let Some(finder) = &self.text else { return (0..below).collect() };
        let (mut found, mut from) = (Vec::new(), 0);
        let end = piece.lines_before(below);
        while let Some(hit) = piece.lines.get(from..end).and_then(|rest| finder.find(rest)) {
            let at = piece.ends.partition_point(|end| *end as usize <= from + hit);
            found.push(at);
            from = piece.lines_before(at + 1);
        }
        found
    }
}

/// All keys by age.
pub(super) struct Order(BTreeMap<Place, Piece>);

impl Default for Order {
    fn default() -> Self {
        // Each piece has the keys from its own place up to the next one's; so there is always one
        // for any key.
        Self(BTreeMap::from([(FIRST, Piece::default())]))
    }
}

impl Order {
    /// Of keys that are in order already.
    pub(super) fn of_sorted<'a>(keys: impl Iterator<Item = (Place, Word, &'a str)>) -> Self {
        let (mut order, mut first) = (BTreeMap::new(), FIRST);
        let mut keys = keys.peekable();
        loop {
            let mut piece = Piece::default();
            for (place, word, name) in keys.by_ref().take(MOST) {
                piece.push(place, word, &line(name, place.1));
            }
            piece.shrink();
            order.insert(first, piece);
            match keys.peek() {
                Some((next, ..)) => first = *next,
                None => return Self(order),
            }
        }
    }

    pub(super) fn insert(&mut self, place: Place, word: Word, name: &str) {
        let line = line(name, place.1);
        let Some((_, piece)) = self.0.range_mut(..=place).next_back() else { return };
        let at = piece.places.partition_point(|other| *other < place);
        if piece.places.len() < MOST {
            return piece.insert(at, place, word, &line);
        }
        // New keys come last, and leave full pieces behind them.
        let mut next = piece.split_off(if at == MOST { MOST } else { MOST / 2 });
        piece.shrink();
        if at <= piece.places.len() && at != MOST {
            piece.insert(at, place, word, &line);
        } else {
            next.insert(at - piece.places.len(), place, word, &line);
        }
        if let Some(first) = next.places.first() {
            self.0.insert(*first, next);
        }
    }

    pub(super) fn update(&mut self, place: Place, word: Word, name: &str) {
        if let Some((_, piece)) = self.0.range_mut(..=place).next_back()
            && let Ok(at) = piece.places.binary_search(&place)
        {
            piece.update(at, word, &line(name, place.1));
        }
    }

    pub(super) fn remove(&mut self, place: Place) {
        if let Some((key, piece)) = self.0.range_mut(..=place).next_back()
            && let Ok(at) = piece.places.binary_search(&place)
        {
            piece.remove(at);
            let (key, is_empty) = (*key, piece.places.is_empty());
            if is_empty && key != FIRST {
                self.0.remove(&key);
            }
        }
    }

    /// Looks through the next piece below `place`, newest first, for at most `limit` keys; gives
    /// them, and where to go on unless that was all.
    pub(super) fn look(
        &self,
        place: Option<Place>,
        search: &Search<'_>,
        mut fits: impl FnMut(Word) -> bool,
        limit: usize,
    ) -> (Vec<KeyId>, Option<Place>) {
        let end = place.map_or(Bound::Unbounded, Bound::Excluded);
        let Some((key, piece)) = self.0.range((Bound::Unbounded, end)).next_back() else {
            return (Vec::new(), None);
        };
        let below = place.map_or(piece.places.len(), |place| {
            piece.places.partition_point(|other| *other < place)
        });
        let mut found = Vec::new();
        for at in search.find(piece, below).into_iter().rev() {
            let (Some(place), Some(word)) = (piece.places.get(at), piece.words.get(at)) else {
                continue;
            };
            if fits(*word) {
                found.push(place.1);
                if found.len() == limit {
                    return (found, Some(*place));
                }
            }
        }
        (found, (*key != FIRST).then_some(*key))
    }

    /// How many keys of some pieces from `from` on are active and have ended, and where to go on
    /// unless those were all.
    pub(super) fn count_expired(&self, from: Place, now: Timestamp) -> (usize, Option<Place>) {
        let mut pieces = self.0.range(from..);
        let words = pieces.by_ref().take(STRIDE).flat_map(|(_, piece)| &piece.words);
        let expired = words.filter(|word| word.has_expired(now)).count();
        (expired, pieces.next().map(|(next, _)| *next))
    }
}

fn line(name: &str, id: KeyId) -> Vec<u8> {
    let mut line = folded(name).into_owned().into_bytes();
    line.push(LINE_END);
    line.extend_from_slice(b"key_");
    line.extend(id.digits().map(|digit| digit.to_ascii_lowercase()));
    line.push(LINE_END);
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Expiry;
    use proptest::prelude::*;

    fn word(active: bool) -> Word {
        Word::new(active, Expiry::Never, 0)
    }

    fn place(n: u64) -> Place {
        (Timestamp::from_secs(n / 3), KeyId::from_u64(n))
    }

    /// All that a search finds, newest first.
    fn all(order: &Order, text: Option<&str>, active: Option<bool>, limit: usize) -> Vec<u64> {
        let (mut found, mut from) = (Vec::new(), None);
        let search = Search::new(text);
        loop {
            let fits = |seen: Word| active.is_none_or(|active| seen == word(active));
            let (ids, next) = order.look(from, &search, fits, limit);
            found.extend(ids.into_iter().map(KeyId::as_u64));
            if next.is_none() {
                return found;
            }
            from = next;
        }
    }

    #[test]
    fn a_text_is_found_in_names_and_ids_and_never_across_them() {
        let mut order = Order::default();
        for (n, name) in ["Nightly export", "ÜBERSICHT", "x"].into_iter().enumerate() {
            order.insert(place(n as u64), word(true), name);
        }
        let found = |text: &str| all(&order, Some(text), None, 9);
        assert_eq!(found("export"), [0]);
        assert_eq!(found("über"), [1]);
        assert_eq!(found("key_0000000000"), [2, 1, 0]);
        assert_eq!(found("0002"), [2]);
        assert_eq!(found(""), [2, 1, 0]);
        for nothing in ["exportkey", "t\nkey", "\n", "0x", "0\nx", "EXPORT"] {
            assert_eq!(found(nothing), [0; 0], "{nothing:?}");
        }
    }

    #[test]
    fn a_key_that_comes_after_all_others_went_is_found() {
        let mut order = Order::default();
        order.insert(place(1), word(true), "a");
        order.remove(place(1));
        assert_eq!(all(&order, None, None, 9), [0; 0]);
        order.insert(place(2), word(true), "b");
        assert_eq!(all(&order, None, None, 9), [2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_order_agrees_with_a_map(
            steps in prop::collection::vec((0u64..1400, 0u8..8, "[abü]{1,3}"), 1..2000),
            sorted in any::<bool>(),
        ) {
            let mut model = BTreeMap::new();
            let mut order = Order::default();
            if sorted {
                let names: Vec<_> = (0..700).map(|n| format!("n{}", n % 7)).collect();
                let keys = || names.iter().enumerate().map(|(n, name)| (place(n as u64), word(true), name.as_str()));
                model.extend(keys().map(|(place, _, name)| (place, (true, name.to_owned()))));
                order = Order::of_sorted(keys());
            }
            for (n, step, name) in steps {
                if step == 0 {
                    model.remove(&place(n));
                    order.remove(place(n));
                } else {
                    let active = step % 2 == 0;
                    if model.insert(place(n), (active, name.clone())).is_some() {
                        order.update(place(n), word(active), &name);
                    } else {
                        order.insert(place(n), word(active), &name);
                    }
                }
            }
            for text in [None, Some("b"), Some("ü"), Some("key_00"), Some("zz")] {
                for active in [None, Some(true)] {
                    let expected: Vec<u64> = model.iter().rev()
                        .filter(|((_, id), (on, name))| active.is_none_or(|active| active == *on)
                            && text.is_none_or(|text| name.contains(text) || id.to_string().to_lowercase().contains(text)))
                        .map(|((_, id), _)| id.as_u64()).collect();
                    for limit in [5, usize::MAX] {
                        prop_assert_eq!(&all(&order, text, active, limit), &expected, "{:?}", text);
                    }
                }
            }
            prop_assert!(order.0.values().all(|piece| piece.places.len() <= MOST && piece.places.capacity() <= 4 * MOST));
        }
    }
}
