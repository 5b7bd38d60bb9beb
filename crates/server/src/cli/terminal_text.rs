//! Escapes text for a terminal, so that no character acts as a command.

/// Escapes each character that a terminal executes or does not show: controls, direction marks, line
/// separators and invisible characters. Joiners and variation selectors stay: words and emoji need them.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) { escaped.extend(c.escape_unicode()) } else { escaped.push(c) }
    }
    escaped
}

/// Like [`escape`], but keeps line breaks.
pub(crate) fn escape_lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(escape).collect();
    lines.join("\n")
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_control_characters_are_escaped() {
        for (text, shown) in [
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\u{9b}31mb\u{7f}", "a\\u{9b}31mb\\u{7f}"),
            ("\u{202e}txt.exe\u{2066}", "\\u{202e}txt.exe\\u{2066}"),
            ("a\r\nb\tc", "a\\u{d}\\u{a}b\\u{9}c"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
            (
                "Stra\u{df}e \u{1f469}\u{200d}\u{1f4bb} \u{2764}\u{fe0f}",
                "Stra\u{df}e \u{1f469}\u{200d}\u{1f4bb} \u{2764}\u{fe0f}",
            ),
        ] {
            assert_eq!(escape(text), shown);
        }
        assert_eq!(escape_lines("a\nb\u{7}"), "a\nb\\u{7}");
    }
}
