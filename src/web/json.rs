//! JSON text without control characters that a terminal would obey.

use serde::Serialize;
use serde_json::{Serializer, ser::Formatter};
use std::io;

/// Writes a value as JSON, and escapes the control characters U+007F to U+009F too. JSON does not
/// require that, but some terminals obey them.
pub fn write(out: impl io::Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Escaping))
}

struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut plain = 0;
        for (at, control) in fragment.match_indices(|c| matches!(c, '\u{7f}'..='\u{9f}')) {
            out.write_all(fragment.get(plain..at).unwrap_or_default().as_bytes())?;
            for c in control.chars() {
                write!(out, "\\u{:04x}", u32::from(c))?;
            }
            plain = at + control.len();
        }
        out.write_all(fragment.get(plain..).unwrap_or_default().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::write;
    use serde_json::json;

    #[test]
    fn delete_and_c1_controls_are_escaped_and_parse_to_the_same_text() {
        let value = json!({"a\u{7f}": "\u{9b}2J \u{80}\u{9f}~\u{a0}é\n", "b": ["", "plain"]});
        let mut text = Vec::new();
        write(&mut text, &value).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            r#"{"a\u007f":"\u009b2J \u0080\u009f~"#.to_owned()
                + "\u{a0}é"
                + r#"\n","b":["","plain"]}"#
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
