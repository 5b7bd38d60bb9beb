//! The language of what people read: no idiom of `idioms.txt` is in a document, a comment or a string.
//!
//! A line of the list has the idiom, a tab, and the term to use instead. `…` matches at most three
//! words. `^` matches the beginning of a sentence that ends with a full stop, so it matches no question,
//! no heading and no description of a field.

use crate::reading::Source;
use proc_macro2::{TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    ops::RangeInclusive,
    sync::LazyLock,
};

const LIST: &str = include_str!("idioms.txt");

const MAX_WORDS_IN_GAP: usize = 3;

/// Consecutive lines of one text, with their numbers.
pub(crate) type Block = Vec<(usize, String)>;

struct Idiom {
    text: &'static str,
    instead: &'static str,
    begins_sentence: bool,
    words: Vec<&'static str>,
}

/// A part of a block up to a `.`, `!` or `?`.
#[derive(Default)]
struct Sentence {
    /// The words in lower case, with their lines. Other punctuation is an empty word.
    words: Vec<(usize, String)>,
    is_statement: bool,
}

// ── rules

/// No text has an idiom of the list.
pub(crate) fn has_no_idioms(path: &str, blocks: &[Block]) -> Vec<String> {
    static BY_FIRST_WORD: LazyLock<BTreeMap<&str, Vec<Idiom>>> = LazyLock::new(|| {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for idiom in list() {
            found.entry(idiom.words[0]).or_default().push(idiom);
        }
        found
    });
    let mut found = Vec::new();
    for sentence in blocks.iter().flat_map(|block| sentences(block)) {
        for (at, (line, word)) in sentence.words.iter().enumerate() {
            let idioms = BY_FIRST_WORD.get(word.as_str()).into_iter().flatten();
            for Idiom { text, instead, .. } in idioms.filter(|idiom| idiom.is_at(&sentence, at)) {
                found.push(format!("{path}:{line}: replace '{text}' with '{instead}'"));
            }
        }
    }
    found
}

/// Each line of the list is complete, and occurs once.
pub(crate) fn is_well_formed() -> Vec<String> {
    let mut seen = BTreeSet::new();
    let is_valid = |idiom: &Idiom| {
        let has_words =
            idiom.words.iter().all(|word| !word.is_empty() && *word == word.to_lowercase());
        has_words && idiom.words.first() != Some(&"…") && !idiom.instead.is_empty()
    };
    let mut found = Vec::new();
    for idiom in list() {
        if !is_valid(&idiom) || !seen.insert(idiom.text) {
            found.push(format!("idioms.txt: '{}' is malformed or repeated", idiom.text));
        }
    }
    found
}

fn list() -> Vec<Idiom> {
    let lines = LIST.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let idiom = |line: &'static str| {
        let (text, instead) = line.split_once('\t').unwrap_or((line, ""));
        let words = text.trim_start_matches('^').split(' ').collect();
        Idiom { text, instead, begins_sentence: text.starts_with('^'), words }
    };
    lines.map(idiom).collect()
}

impl Idiom {
    fn is_at(&self, sentence: &Sentence, at: usize) -> bool {
        let may_begin = !self.begins_sentence || (at == 0 && sentence.is_statement);
        may_begin && matches(&self.words, sentence.words.get(at..).unwrap_or_default())
    }
}

fn matches(idiom: &[&str], words: &[(usize, String)]) -> bool {
    match (idiom, words) {
        ([], _) => true,
        (["…", idiom @ ..], _) => {
            let gap = words.iter().take_while(|(_, word)| !word.is_empty()).count();
            (0..=gap.min(MAX_WORDS_IN_GAP)).any(|skipped| matches(idiom, &words[skipped..]))
        }
        ([first, idiom @ ..], [(_, word), words @ ..]) => first == word && matches(idiom, words),
        _ => false,
    }
}

// ── sentences

fn sentences(block: &[(usize, String)]) -> Vec<Sentence> {
    let mut found = Vec::new();
    let mut sentence = Sentence::default();
    for (number, line) in block {
        let mut chars = line.to_lowercase().replace('’', "'").chars().collect::<Vec<_>>();
        chars.push(' ');
        let mut word = String::new();
        for pair in chars.windows(2) {
            let (sign, next) = (pair[0], pair[1]);
            if sign.is_alphanumeric() || "_-'".contains(sign) {
                word.push(sign);
                if next.is_alphanumeric() || "_-'".contains(next) {
                    continue;
                }
                let whole = mem::take(&mut word);
                let whole = whole.trim_matches(['-', '\'']);
                if !whole.is_empty() {
                    sentence.words.push((*number, whole.to_owned()));
                }
            } else if ".!?".contains(sign) && !next.is_alphanumeric() {
                sentence.is_statement = sign == '.';
                found.push(mem::take(&mut sentence));
            } else if !sign.is_whitespace() && !"*`".contains(sign) && !sentence.words.is_empty() {
                sentence.words.push((*number, String::new()));
            }
        }
    }
    found.push(sentence);
    found
}

// ── texts

/// Returns the paragraphs, list items and table rows of a Markdown page.
pub(crate) fn of_page(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = vec![Vec::new()];
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        let is_new = line.is_empty() || line.starts_with(['#', '-', '*', '|', '>', '`']);
        if is_new || line.starts_with(|c: char| c.is_ascii_digit()) {
            found.push(Vec::new());
        }
        found.last_mut().expect("a block was added").push((number, line.to_owned()));
    }
    found
}

/// Returns the comments of a file in which `#` begins a comment.
pub(crate) fn of_script(text: &str) -> Vec<Block> {
    joined(text.lines().zip(1..).filter_map(|(line, number)| {
        line.trim_start().strip_prefix('#').map(|comment| (number, comment.to_owned()))
    }))
}

/// Returns the comments and the strings of a Rust file.
pub(crate) fn of_source(source: &Source) -> Vec<Block> {
    let mut literals = Vec::new();
    add_literals(source.all_code.clone(), &mut literals);
    let lines: Vec<&str> = source.text.lines().collect();
    // The tokens of a documentation comment have its position.
    let is_comment = |literal: &proc_macro2::Literal| {
        let start = literal.span().start();
        let line = lines.get(start.line - 1).copied().unwrap_or_default();
        line.chars().skip(start.column).take(2).eq("//".chars())
    };
    literals.retain(|literal| !is_comment(literal));
    let range = |literal: &proc_macro2::Literal| {
        let (start, end) = (literal.span().start(), literal.span().end());
        (start.line, start.column)..=(end.line, end.column.saturating_sub(1))
    };
    let ranges: Vec<_> = literals.iter().map(range).collect();
    let comments = lines.iter().zip(1..).filter_map(|(line, number)| {
        comment(line, number, &ranges).map(|comment| (number, comment))
    });
    let mut found = joined(comments);
    found.extend(literals.into_iter().filter_map(string));
    found
}

fn add_literals(code: TokenStream, found: &mut Vec<proc_macro2::Literal>) {
    for token in code {
        match token {
            TokenTree::Group(group) => add_literals(group.stream(), found),
            TokenTree::Literal(literal) => found.push(literal),
            _ => {}
        }
    }
}

/// Returns the comment in a line, without the slashes.
fn comment(
    line: &str,
    number: usize,
    literals: &[RangeInclusive<(usize, usize)>],
) -> Option<String> {
    let chars: Vec<char> = line.chars().collect();
    let is_literal = |column| literals.iter().any(|range| range.contains(&(number, column)));
    let mut slashes = chars.windows(2).enumerate().filter(|(_, pair)| *pair == ['/', '/']);
    let (column, _) = slashes.find(|(column, _)| !is_literal(*column))?;
    let comment: String = chars.iter().skip(column).collect();
    Some(comment.trim_start_matches(['/', '!']).to_owned())
}

/// Returns the lines of a string. All have the number of the first one.
fn string(literal: proc_macro2::Literal) -> Option<Block> {
    let number = literal.span().start().line;
    let text = match syn::Lit::new(literal) {
        syn::Lit::Str(text) => text.value(),
        syn::Lit::ByteStr(bytes) => String::from_utf8_lossy(&bytes.value()).into_owned(),
        _ => return None,
    };
    Some(text.lines().map(|line| (number, line.to_owned())).collect())
}

/// Joins consecutive lines. An empty line, a list item and a table row begin a new block.
fn joined(lines: impl Iterator<Item = (usize, String)>) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut expected = 0;
    for (number, line) in lines {
        let is_new = line.trim_start().starts_with(['#', '-', '*', '|']) || line.trim().is_empty();
        if is_new || number != expected || found.is_empty() {
            found.push(Vec::new());
        }
        expected = number + 1;
        found.last_mut().expect("a block was added").push((number, line));
    }
    found
}
