//! The encodings of a key in memory: text, base64 at each of the three byte offsets, and HPACK's Huffman
//! code of both at each of the eight bit offsets.

use crate::huffman::huffman;
use portcullis_testkit::base64;
use std::collections::HashMap;

/// Every run of this many bytes of an encoding counts as a copy. A shorter run, or one of up to 14 bytes
/// that holds no aligned word, is not found.
pub(crate) const PIECE: usize = 8;
const WORD: usize = 8;

/// The encodings of some keys, indexed by their words.
pub(crate) struct Encodings {
    /// The name of the encoding with the number of its key, and its bytes.
    all: Vec<(String, Vec<u8>)>,
    /// The positions of each run of eight bytes.
    words: HashMap<u64, Vec<(usize, usize)>>,
    /// Which low 16 bits occur in a word, so that most of the memory is skipped quickly.
    first: Vec<bool>,
}

/// One run of bytes that an encoding and the memory share.
#[derive(Debug)]
pub(crate) struct Match<'s> {
    pub(crate) name: &'s str,
    /// The offset of the run in the haystack.
    pub(crate) start: usize,
    pub(crate) length: usize,
}

impl Encodings {
    pub(crate) fn of(keys: &[String]) -> Self {
        let mut all = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            all.extend(
                encode(key)
                    .into_iter()
                    .map(|(name, text)| (format!("{name} of key {number}"), text)),
            );
        }
        let (mut words, mut first) = (HashMap::<_, Vec<_>>::new(), vec![false; 1 << 16]);
        for (encoding, (_, text)) in all.iter().enumerate() {
            for (place, word) in text.windows(WORD).enumerate() {
                let word = u64::from_le_bytes(word.try_into().unwrap());
                words.entry(word).or_default().push((encoding, place));
                first[usize::try_from(word & 0xffff).unwrap()] = true;
            }
        }
        Self { all, words, first }
    }

    /// Looks at each aligned word, since a spilled register is one.
    pub(crate) fn matches<'s>(&'s self, haystack: &[u8], found: &mut impl FnMut(Match<'s>)) {
        let (words, _) = haystack.as_chunks::<WORD>();
        for (number, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            if word == 0 || !self.first[(word & 0xffff) as usize] {
                continue;
            }
            for &(encoding, place) in self.words.get(&word).into_iter().flatten() {
                let (name, text) = &self.all[encoding];
                let at = number * WORD;
                let before = text[..place]
                    .iter()
                    .rev()
                    .zip(haystack[..at].iter().rev())
                    .take_while(|(a, b)| a == b)
                    .count();
                let after =
                    text[place..].iter().zip(&haystack[at..]).take_while(|(a, b)| a == b).count();
                if before + after >= PIECE {
                    found(Match { name, start: at - before, length: before + after });
                }
            }
        }
    }
}

/// Returns the part after the id: the random digits and the checksum.
fn secret_of(key: &str) -> &[u8] {
    let (_, secret) = key.rsplit_once('_').expect("a key has two underscores");
    assert!(secret.len() >= 2 * PIECE, "{} characters are no secret", secret.len());
    secret.as_bytes()
}

fn encode(key: &str) -> Vec<(&'static str, Vec<u8>)> {
    let secret = secret_of(key);
    let mut plain = vec![("text", secret.to_vec())];
    for (before, name) in
        ["base64", "base64 after 1 byte", "base64 after 2 bytes"].iter().enumerate()
    {
        // Only these digits depend on the secret alone.
        let text = base64(&[&[0, 0][..before], secret].concat());
        let own = (8 * before).div_ceil(6)..8 * (before + secret.len()) / 6;
        plain.push((name, text.as_bytes()[own].to_vec()));
    }
    let coded: Vec<_> = plain
        .iter()
        .flat_map(|(_, text)| (0..8).map(|offset| ("Huffman code", huffman(text, offset))))
        .collect();
    plain.into_iter().chain(coded).collect()
}

/// Returns encodings that a test places where the scan must find them.
pub(crate) fn samples(key: &str) -> Vec<(&'static str, Vec<u8>)> {
    let header = basic(key);
    vec![
        ("text", secret_of(key).to_vec()),
        ("base64", header.as_bytes()[header.len() - 56..].to_vec()),
        ("Huffman code", huffman(header.as_bytes(), 0)[20..].to_vec()),
    ]
}

/// The value of `Authorization`.
pub(crate) fn basic(key: &str) -> String {
    format!("Basic {}", base64(format!("{key}:").as_bytes()))
}
