//! The keys in the order of their creation, packed for lists and searches.
//!
//! Design. A piece has up to 512 keys: their state words, and one text of all folded names and ids, a
//! line each. A page reads one piece at a time, newest first, and releases the index in between. A
//! search for a text is one pass of `memchr`'s substring search over the texts of the pieces. It
//! decodes only the records that it finds.
//!
//! Rejected:
//! - An index of trigrams. It takes several times the memory, and each change of a name would update
//!   dozens of lists. A scan is fast enough.
//! - Decoding each record that is skipped. This allocates for each key that does not match.

use super::{fold::folded, word::Word};
use crate::{
    id::{ID_DIGITS, KeyId},
    time::Timestamp,
};
use memchr::memmem::Finder;
use std::{collections::BTreeMap, ops::Bound};

/// The most keys in a piece, and so the most that a page reads while a change waits.
const MAX_PIECE_KEYS: usize = 512;
/// The pieces whose states are counted while a change waits: some microseconds.
const PIECES_COUNTED_AT_ONCE: usize = 8;
/// The end of each line of a text. No name contains it.
const LINE_END: u8 = b'\n';

/// The position of a key in the order: its creation time and its id.
pub(crate) type Position = (Timestamp, KeyId);

pub(super) const FIRST: Position = (Timestamp::from_millis(0), KeyId::from_u64(0));

/// The fields of a record that filters read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) word: Word,
    /// The number of the owner.
    pub(super) owner: u32,
    /// The number of the actor who created the key.
    pub(super) creator: u32,
    /// Whether another key replaced it.
    pub(super) is_replaced: bool,
    /// Whether it is a key of another system.
    pub(super) is_imported: bool,
}

/// A key as a filter reads it.
pub(super) struct ListedKey<'p> {
    pub(super) position: Position,
    pub(super) state: State,
    /// The minute of the last use; 0 if no use is known.
    pub(super) last_use: u32,
    /// The folded name.
    pub(super) name: &'p [u8],
}

/// Twelve bytes of a key besides its word.
#[derive(Clone, Copy)]
struct Columns {
    owner: u32,
    /// The number of the creator, and in the lowest bits whether the key is imported and replaced.
    origin: u32,
    /// The minute of the last use; 0 if no use is known.
    last_use: u32,
}

impl Columns {
    fn of(state: State, last_use: u32) -> Self {
        let bits = u32::from(state.is_imported) << 1 | u32::from(state.is_replaced);
        let origin = state.creator << 2 | bits;
        Self { owner: state.owner, origin, last_use }
    }
}

#[derive(Default)]
struct Piece {
    positions: Vec<Position>,
    words: Vec<Word>,
    columns: Vec<Columns>,
    /// The end of the line of each key.
    ends: Vec<u32>,
    lines: Vec<u8>,
}

impl Piece {
    fn lines_before(&self, at: usize) -> usize {
        at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize)
    }

    fn insert(&mut self, at: usize, position: Position, state: State, line: &[u8]) {
        let start = self.lines_before(at);
        self.positions.insert(at, position);
        self.words.insert(at, state.word);
        self.columns.insert(at, Columns::of(state, 0));
        self.ends.insert(at, u32::try_from(start).unwrap_or(u32::MAX));
        self.put_line(at, start, start, line);
    }

    /// Adds a key that is newer than all others.
    fn push(&mut self, position: Position, state: State, last_use: u32, line: &[u8]) {
        self.positions.push(position);
        self.words.push(state.word);
        self.columns.push(Columns::of(state, last_use));
        self.lines.extend_from_slice(line);
        self.ends.push(u32::try_from(self.lines.len()).unwrap_or(u32::MAX));
    }

    fn update(&mut self, at: usize, state: State, line: &[u8]) {
        if let (Some(word), Some(columns)) = (self.words.get_mut(at), self.columns.get_mut(at)) {
            (*word, *columns) = (state.word, Columns::of(state, columns.last_use));
        }
        let (start, end) = (self.lines_before(at), self.lines_before(at + 1));
        if self.lines.get(start..end) != Some(line) {
            self.put_line(at, start, end, line);
        }
    }

    fn remove(&mut self, at: usize) {
        let (start, end) = (self.lines_before(at), self.lines_before(at + 1));
        self.put_line(at, start, end, &[]);
        self.positions.remove(at);
        self.words.remove(at);
        self.columns.remove(at);
        self.ends.remove(at);
        if self.positions.len() * 4 < self.positions.capacity() {
            self.shrink();
        }
    }

    /// Replaces a line and moves the lines after it.
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
        let (positions, words) = (self.positions.split_off(at), self.words.split_off(at));
        let (columns, lines) = (self.columns.split_off(at), self.lines.split_off(start));
        Self { positions, words, columns, ends, lines }
    }

    fn key(&self, at: usize) -> Option<ListedKey<'_>> {
        let Columns { owner, origin, last_use } = *self.columns.get(at)?;
        let (start, end) = (self.lines_before(at), self.lines_before(at + 1));
        Some(ListedKey {
            position: *self.positions.get(at)?,
            state: State {
                word: *self.words.get(at)?,
                owner,
                creator: origin >> 2,
                is_replaced: origin & 1 == 1,
                is_imported: origin & 2 == 2,
            },
            last_use,
            name: self.lines.get(start..end.saturating_sub(ID_LINE.len()))?,
        })
    }

    fn shrink(&mut self) {
        self.positions.shrink_to_fit();
        self.words.shrink_to_fit();
        self.columns.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.lines.shrink_to_fit();
    }
}

/// A search for a text, or for every key.
pub(crate) struct Search<'q> {
    text: Option<Finder<'q>>,
    /// No name and no id has a control character.
    matches_nothing: bool,
}

impl<'q> Search<'q> {
    /// Creates a search for the keys whose name or id contains this [`folded`] text, or for every key.
    pub(crate) fn new(text: Option<&'q str>) -> Self {
        let matches_nothing = text.is_some_and(|text| text.chars().any(char::is_control));
        Self { text: text.filter(|text| !text.is_empty()).map(Finder::new), matches_nothing }
    }

    /// The indexes of the lines in a piece that contain the text, ascending.
    fn find(&self, piece: &Piece, below: usize) -> Vec<usize> {
        if self.matches_nothing {
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

/// All keys by creation.
pub(super) struct Order(BTreeMap<Position, Piece>);

impl Default for Order {
    fn default() -> Self {
        // A piece has the keys from its own position up to that of the next piece, so every key has one.
        Self(BTreeMap::from([(FIRST, Piece::default())]))
    }
}

impl Order {
    /// Creates the order of sorted keys.
    pub(super) fn of_sorted<'a>(
        keys: impl Iterator<Item = (Position, State, u32, &'a str)>,
    ) -> Self {
        let (mut order, mut first) = (BTreeMap::new(), FIRST);
        let mut keys = keys.peekable();
        loop {
            let mut piece = Piece::default();
            for (position, state, last_use, name) in keys.by_ref().take(MAX_PIECE_KEYS) {
                piece.push(position, state, last_use, &line(name, position.1));
            }
            piece.shrink();
            order.insert(first, piece);
            match keys.peek() {
                Some((next, ..)) => first = *next,
                None => return Self(order),
            }
        }
    }

    pub(super) fn insert(&mut self, position: Position, state: State, name: &str) {
        let line = line(name, position.1);
        let Some((_, piece)) = self.0.range_mut(..=position).next_back() else { return };
        let at = piece.positions.partition_point(|other| *other < position);
        if piece.positions.len() < MAX_PIECE_KEYS {
            return piece.insert(at, position, state, &line);
        }
        // New keys come last, so a full piece stays full.
        let mut next =
            piece.split_off(if at == MAX_PIECE_KEYS { MAX_PIECE_KEYS } else { MAX_PIECE_KEYS / 2 });
        piece.shrink();
        if at <= piece.positions.len() && at != MAX_PIECE_KEYS {
            piece.insert(at, position, state, &line);
        } else {
            next.insert(at - piece.positions.len(), position, state, &line);
        }
        if let Some(first) = next.positions.first() {
            self.0.insert(*first, next);
        }
    }

    pub(super) fn update(&mut self, position: Position, state: State, name: &str) {
        if let Some((_, piece)) = self.0.range_mut(..=position).next_back()
            && let Ok(at) = piece.positions.binary_search(&position)
        {
            piece.update(at, state, &line(name, position.1));
        }
    }

    pub(super) fn remove(&mut self, position: Position) {
        if let Some((key, piece)) = self.0.range_mut(..=position).next_back()
            && let Ok(at) = piece.positions.binary_search(&position)
        {
            piece.remove(at);
            let (key, is_empty) = (*key, piece.positions.is_empty());
            if is_empty && key != FIRST {
                self.0.remove(&key);
            }
        }
    }

    /// Searches the next piece below `position`, newest first. Returns at most `limit` keys and the position
    /// to continue from; `None` at the end.
    pub(super) fn search(
        &self,
        position: Option<Position>,
        search: &Search<'_>,
        mut fits: impl FnMut(&ListedKey<'_>) -> bool,
        limit: usize,
    ) -> (Vec<KeyId>, Option<Position>) {
        let end = position.map_or(Bound::Unbounded, Bound::Excluded);
        let Some((key, piece)) = self.0.range((Bound::Unbounded, end)).next_back() else {
            return (Vec::new(), None);
        };
        let below = position.map_or(piece.positions.len(), |position| {
            piece.positions.partition_point(|other| *other < position)
        });
        let mut found = Vec::new();
        for at in search.find(piece, below).into_iter().rev() {
            let Some(listed) = piece.key(at).filter(&mut fits) else { continue };
            found.push(listed.position.1);
            if found.len() == limit {
                return (found, Some(listed.position));
            }
        }
        (found, (*key != FIRST).then_some(*key))
    }

    /// Passes the keys of the piece at `from` to `each`, from `from` on, in the order of their creation.
    /// Returns the position to continue from; `None` at the end.
    pub(super) fn scan(
        &self,
        from: Position,
        search: &Search<'_>,
        each: impl FnMut(ListedKey<'_>),
    ) -> Option<Position> {
        let (first, piece) = self.0.range(..=from).next_back()?;
        let start = piece.positions.partition_point(|other| *other < from);
        let found = search.find(piece, piece.positions.len()).into_iter();
        found.filter(|at| *at >= start).filter_map(|at| piece.key(at)).for_each(each);
        let after = (Bound::Excluded(*first), Bound::Unbounded);
        self.0.range(after).next().map(|(next, _)| *next)
    }

    /// Records that a key was used in this minute.
    pub(super) fn record_use(&mut self, position: Position, minute: u32) {
        if let Some((_, piece)) = self.0.range_mut(..=position).next_back()
            && let Ok(at) = piece.positions.binary_search(&position)
            && let Some(columns) = piece.columns.get_mut(at)
        {
            columns.last_use = columns.last_use.max(minute);
        }
    }

    /// Counts the expired active keys of some pieces from `from` on. Returns the count and the position to
    /// continue from; `None` at the end.
    pub(super) fn count_expired(
        &self,
        from: Position,
        now: Timestamp,
    ) -> (usize, Option<Position>) {
        let mut pieces = self.0.range(from..);
        let words =
            pieces.by_ref().take(PIECES_COUNTED_AT_ONCE).flat_map(|(_, piece)| &piece.words);
        let expired = words.filter(|word| word.has_expired(now)).count();
        (expired, pieces.next().map(|(next, _)| *next))
    }
}

/// The end of a line, with an id.
const ID_LINE: &[u8; 6 + ID_DIGITS] = b"\nkey_00000000000\n";

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

    fn state(active: bool) -> State {
        State {
            word: Word::new(active, Expiry::Never, 0),
            owner: u32::from(active),
            creator: 7,
            is_replaced: !active,
            is_imported: active,
        }
    }

    fn position(n: u64) -> Position {
        (Timestamp::from_secs(n / 3), KeyId::from_u64(n))
    }

    /// All that a search finds, newest first.
    fn all(order: &Order, text: Option<&str>, active: Option<bool>, limit: usize) -> Vec<u64> {
        let (mut found, mut from) = (Vec::new(), None);
        let search = Search::new(text);
        loop {
            let fits =
                |seen: &ListedKey<'_>| active.is_none_or(|active| seen.state == state(active));
            let (ids, next) = order.search(from, &search, fits, limit);
            found.extend(ids.into_iter().map(KeyId::as_u64));
            if next.is_none() {
                return found;
            }
            from = next;
        }
    }

    #[test]
    fn text_is_found_in_names_and_ids_but_not_across_them() {
        let mut order = Order::default();
        for (n, name) in ["Nightly export", "ÜBERSICHT", "x"].into_iter().enumerate() {
            order.insert(position(n as u64), state(true), name);
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
    fn key_inserted_into_an_emptied_order_is_found() {
        let mut order = Order::default();
        order.insert(position(1), state(true), "a");
        order.remove(position(1));
        assert_eq!(all(&order, None, None, 9), [0; 0]);
        order.insert(position(2), state(true), "b");
        assert_eq!(all(&order, None, None, 9), [2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn order_agrees_with_a_map(
            steps in prop::collection::vec((0u64..1400, 0u8..8, "[abü]{1,3}"), 1..2000),
            sorted in any::<bool>(),
        ) {
            let mut model = BTreeMap::new();
            let mut order = Order::default();
            if sorted {
                let names: Vec<_> = (0..700).map(|n| format!("n{}", n % 7)).collect();
                let keys = || names.iter().enumerate().map(|(n, name)| (position(n as u64), state(true), 0, name.as_str()));
                model.extend(keys().map(|(position, _, _, name)| (position, (true, name.to_owned()))));
                order = Order::of_sorted(keys());
            }
            for (n, step, name) in steps {
                if step == 0 {
                    model.remove(&position(n));
                    order.remove(position(n));
                } else {
                    let active = step % 2 == 0;
                    if model.insert(position(n), (active, name.clone())).is_some() {
                        order.update(position(n), state(active), &name);
                    } else {
                        order.insert(position(n), state(active), &name);
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
            prop_assert!(order.0.values().all(|piece| piece.positions.len() <= MAX_PIECE_KEYS && piece.positions.capacity() <= 4 * MAX_PIECE_KEYS));
        }
    }
}
