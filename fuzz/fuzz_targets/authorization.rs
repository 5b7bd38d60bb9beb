//! Any bytes as an `Authorization` value: the parser agrees with the slow reference parser, and
//! neither panics. A line break separates two values.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::{Refusal, fuzzing};

#[path = "../../src/credential/slow_parser.rs"]
mod slow_parser;

fuzz_target!(|data: &[u8]| {
    let slow = |value: &[u8]| slow_parser::parse(value).ok_or(Refusal::Malformed);
    assert_eq!(fuzzing::read(data), slow(data));

    // A token without a scheme: the text after the last space. A value has one scheme.
    if let Some(key) = fuzzing::read_bearer(data) {
        assert!((1..=64).contains(&key.len()) && data.trim_ascii().ends_with(&key));
        assert!(key.iter().all(|byte| byte.is_ascii_graphic() && *byte != b':'));
        assert!(fuzzing::read(data).is_err());
    }

    let values: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    let expected = match values[..] {
        [value] => slow(value),
        _ => Err(Refusal::Ambiguous),
    };
    assert_eq!(fuzzing::read_all(&values), expected);
});
