//! API error texts as sentences of a page.

/// Turns an error text of the API into a sentence.
pub(crate) fn sentence(text: &str) -> String {
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{}{end}", capitalize(text))
}

/// Capitalizes the first letter, unless the text begins with an id, a scope or another name, which
/// keep their case.
pub(crate) fn capitalize(text: &str) -> String {
    let word = text.split(char::is_whitespace).next().unwrap_or_default();
    let word = word.trim_end_matches([',', ';', ':', '.', '?', '!']);
    let is_plain =
        word.chars().all(|sign| sign.is_alphabetic() || matches!(sign, '-' | '\'' | '’'));
    let mut signs = text.chars();
    match signs.next() {
        Some(first) if is_plain => first.to_uppercase().chain(signs).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_or_scope_at_the_start_of_a_sentence_keeps_its_case() {
        for (text, expected) in [
            (
                "key_8fK2mQ9xZ1a is active; deactivate it",
                "key_8fK2mQ9xZ1a is active; deactivate it.",
            ),
            ("pcl_8fK2mQ9xZ1a: unknown", "pcl_8fK2mQ9xZ1a: unknown."),
            ("api.read is needed", "api.read is needed."),
            ("no key has this id.", "No key has this id."),
            ("scopes: unknown", "Scopes: unknown."),
            ("", "."),
        ] {
            assert_eq!(sentence(text), expected);
        }
    }
}
