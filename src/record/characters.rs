//! The characters that a name may have: visible characters and their joiners.
//!
//! Names are compared by eye, in lists, audit logs and terminals. A character that is invisible or
//! changes the direction of a text makes two names look alike, or one name look like another text.

/// Whether a name has at least one visible character and none that is invisible, changes the direction
/// of text or ends a line. Joiners and the emoji variation selector are allowed after visible
/// characters: Persian and emoji need them.
pub(super) fn is_name(text: &str) -> bool {
    // Whether a joiner may follow.
    let mut is_after_visible = false;
    let mut has_visible = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{200c}' | '\u{200d}' => {
                let is_before_visible = chars.peek().is_some_and(|next| is_visible(*next));
                if !is_after_visible || !is_before_visible {
                    return false;
                }
                is_after_visible = false;
            }
            '\u{fe0f}' => {
                if !is_after_visible || chars.peek() == Some(&c) {
                    return false;
                }
            }
            _ if c.is_control() || is_line_end(c) || is_noncharacter(c) || is_ignorable(c) => {
                return false;
            }
            _ => {
                is_after_visible = is_visible(c);
                has_visible |= is_after_visible;
            }
        }
    }
    has_visible
}

/// Whether a text of several lines has no control character for a terminal or a page.
pub(super) fn is_plain_text(text: &str) -> bool {
    text.chars().all(|c| match c {
        '\t' | '\n' => true,
        _ => !(c.is_control() || is_line_end(c) || is_noncharacter(c) || is_bidi_control(c)),
    })
}

fn is_visible(c: char) -> bool {
    // U+2800 is the Braille pattern without dots.
    !(c.is_whitespace() || c.is_control() || is_ignorable(c) || is_noncharacter(c))
        && c != '\u{2800}'
}

/// The general categories Zl and Zp.
fn is_line_end(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

/// The property `Bidi_Control`.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Code points that are never characters.
fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
}

/// The property `Default_Ignorable_Code_Point` of Unicode 17; `Bidi_Control` is within it.
fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{00ad}'
            | '\u{034f}'
            | '\u{061c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_are_accepted() {
        for name in [
            "Nightly export",
            "Nachtläufer ☾",
            "Till ❤\u{fe0f}",
            "👩\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}\u{200d}🔥",
            "1\u{fe0f}\u{20e3}",
            "می\u{200c}خواهم",
            "قلم \u{0600}5 \u{06dd}",
            "e\u{0301}",
            " spaced ",
            "ﬁ Ⅷ ½",
            "مفتاح",
        ] {
            assert!(is_name(name), "{name:?}");
            assert!(is_plain_text(name), "{name:?}");
        }
    }

    #[test]
    fn invisible_and_bidirectional_characters_are_refused() {
        let bad = [
            "\u{0}",
            "\u{7f}",
            "\u{85}",
            "\u{2028}",
            "\u{2029}",
            "\u{061c}",
            "\u{200e}",
            "\u{202e}",
            "\u{2066}",
            "\u{2069}",
            "\u{fdd0}",
            "\u{ffff}",
            "\u{10fffe}",
            "\u{00ad}",
            "\u{034f}",
            "\u{115f}",
            "\u{1160}",
            "\u{180e}",
            "\u{200b}",
            "\u{2060}",
            "\u{3164}",
            "\u{fe00}",
            "\u{feff}",
            "\u{ffa0}",
            "\u{1d173}",
            "\u{e0041}",
            "\u{e01ef}",
        ];
        for bad in bad {
            for name in [format!("a{bad}b"), format!("{bad}ab"), format!("ab{bad}")] {
                assert!(!is_name(&name), "{name:?}");
            }
        }
        for name in [
            "",
            " ",
            "\u{a0}\u{3000}",
            "\u{2800}",
            "\u{200d}",
            "a\u{200d}",
            "\u{200d}a",
            "a\u{200d}\u{200d}b",
            "a \u{200d}b",
            "a\u{200c} b",
            "\u{fe0f}",
            "\u{fe0f}a",
            " \u{fe0f}",
            "a\u{fe0f}\u{fe0f}",
        ] {
            assert!(!is_name(name), "{name:?}");
        }
    }

    #[test]
    fn plain_text_may_contain_line_feeds_and_tabs_but_no_other_control_characters() {
        for text in ["", "two\nlines", "a\tb", "a\u{ad}b", "\u{200b}"] {
            assert!(is_plain_text(text), "{text:?}");
        }
        for text in
            ["\r\n", "\u{1b}[2J", "\u{9b}2J", "\u{7f}", "a\u{202e}b", "\u{2028}", "\u{fffe}"]
        {
            assert!(!is_plain_text(text), "{text:?}");
        }
    }
}
