//! The folded form of a text, which a search compares: without case and with one Unicode spelling.

use caseless::Caseless;
use std::borrow::Cow;
use unicode_normalization::UnicodeNormalization;

/// Returns the compatibility caseless form of a text (Unicode, definition D146), composed, and without the
/// dot of a folded İ. ASCII text only changes the case of its letters, in place.
pub(crate) fn folded(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        let has_upper = text.bytes().any(|byte| byte.is_ascii_uppercase());
        return if has_upper { text.to_ascii_lowercase().into() } else { text.into() };
    }
    let once = text.chars().nfkd().default_case_fold();
    let folded: String = once.nfkd().default_case_fold().nfkc().collect();
    // Turkish has İ where other languages have I: a search for i finds both.
    if folded.contains(DOTTED_I) { folded.replace(DOTTED_I, "i").into() } else { folded.into() }
}

const DOTTED_I: &str = "i\u{307}";

#[cfg(test)]
mod tests {
    use super::folded;

    #[test]
    fn equivalent_texts_fold_to_the_same_form() {
        for (one, other) in [
            ("ΟΔΟΣ", "οδος"),
            ("ΟΔΟΣ", "οδοσ"),
            ("İstanbul", "istanbul"),
            ("İSTANBUL", "i\u{307}stanbul"),
            ("Straße", "STRASSE"),
            ("STRAẞE", "strasse"),
            ("Zoë", "ZOE\u{308}"),
            ("Über", "U\u{308}BER"),
            ("Ⅷ ﬁ", "viii FI"),
            ("ＡＢＣ", "abc"),
            ("a\u{a0}b", "A b"),
            ("가", "\u{1100}\u{1161}"),
            ("Till 4", "tILL 4"),
        ] {
            assert_eq!(folded(one), folded(other), "{one} {other}");
        }
        assert_ne!(folded("Zoe"), folded("Zoë"));
        assert_eq!(folded("nightly export 3"), "nightly export 3");
    }

    #[test]
    fn folding_is_idempotent_and_yields_no_line_end() {
        for c in (0..=0x2ffff).filter_map(char::from_u32) {
            if c == '\n' {
                continue;
            }
            let text = c.to_string();
            let once = folded(&text);
            assert!(!once.contains('\n'), "{c:?}");
            assert_eq!(folded(&once), once, "{c:?}");
        }
    }
}
