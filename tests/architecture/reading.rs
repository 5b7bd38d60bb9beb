//! Reading source files: their paths, their text, and their tokens without tests.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use std::{fs, path::Path};

/// One source file.
pub(crate) struct Source {
    /// Relative to the workspace, as in `crates/admin/src/keys.rs`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) all_code: TokenStream,
    /// The code without its tests.
    pub(crate) code: TokenStream,
    pub(crate) lines_of_tests: usize,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let all_code: TokenStream =
            text.parse().unwrap_or_else(|error| panic!("{path} is not valid Rust: {error}"));
        let mut lines_of_tests = 0;
        let code = without_tests(all_code.clone(), &mut lines_of_tests);
        Self { path: path.to_owned(), text: text.to_owned(), all_code, code, lines_of_tests }
    }
}

// ── removing tests

/// Returns the code without the items, fields and statements of `#[cfg(test)]`.
fn without_tests(code: TokenStream, lines: &mut usize) -> TokenStream {
    let tokens: Vec<_> = code.into_iter().collect();
    let mut kept = Vec::new();
    let mut rest = tokens.as_slice();
    while let [first, after @ ..] = rest {
        let (attributes, item) = attributes(rest);
        if attributes.iter().any(is_test) {
            let length = length_of_item(item);
            let last = item[..length].last().unwrap_or(first);
            *lines += last.span().end().line - first.span().start().line + 1;
            rest = &item[length..];
            continue;
        }
        kept.push(match first {
            TokenTree::Group(group) => {
                let inner = without_tests(group.stream(), lines);
                let mut whole = proc_macro2::Group::new(group.delimiter(), inner);
                whole.set_span(group.span());
                TokenTree::Group(whole)
            }
            other => other.clone(),
        });
        rest = after;
    }
    kept.into_iter().collect()
}

/// Splits the code into the attributes at its start and the rest.
fn attributes(code: &[TokenTree]) -> (Vec<TokenStream>, &[TokenTree]) {
    let mut found = Vec::new();
    let mut rest = code;
    while let [hash, TokenTree::Group(attribute), after @ ..] = rest
        && is_punct(hash, '#')
    {
        found.push(attribute.stream());
        rest = after;
    }
    (found, rest)
}

/// Returns whether an attribute is a `cfg` that is true in tests only.
fn is_test(attribute: &TokenStream) -> bool {
    fn is_true_in_tests_only(condition: &[TokenTree]) -> bool {
        match condition {
            [TokenTree::Ident(name)] => name == "test",
            [TokenTree::Ident(name), TokenTree::Group(list)] => {
                let list: Vec<_> = list.stream().into_iter().collect();
                let mut parts = list.split(|token| is_punct(token, ','));
                (name == "all" && parts.clone().any(is_true_in_tests_only))
                    || (name == "any"
                        && parts.all(|part| part.is_empty() || is_true_in_tests_only(part)))
            }
            _ => false,
        }
    }
    let tokens: Vec<_> = attribute.clone().into_iter().collect();
    matches!(tokens.as_slice(), [TokenTree::Ident(name), TokenTree::Group(condition)]
        if name == "cfg" && is_true_in_tests_only(&condition.stream().into_iter().collect::<Vec<_>>()))
}

/// Returns the number of tokens up to the item's `;`, `,` or braces.
fn length_of_item(item: &[TokenTree]) -> usize {
    let first_word = item.iter().find_map(|token| match token {
        TokenTree::Ident(word) if word != "pub" => Some(word),
        _ => None,
    });
    let ends_with_semicolon = first_word
        .is_some_and(|word| ["use", "static", "let", "const"].iter().any(|is| word == is))
        && !item
            .iter()
            .take(4)
            .any(|token| matches!(token, TokenTree::Ident(word) if word == "fn"));
    let mut angles = 0;
    for (at, token) in item.iter().enumerate() {
        match token {
            TokenTree::Punct(sign) if sign.as_char() == ';' => return at + 1,
            TokenTree::Punct(sign) if sign.as_char() == '<' => angles += 1,
            TokenTree::Punct(sign) if sign.as_char() == '>' => {
                let is_arrow = at > 0 && is_punct(&item[at - 1], '-');
                angles -= i32::from(!is_arrow);
            }
            TokenTree::Punct(sign) if sign.as_char() == ',' && angles <= 0 => return at + 1,
            TokenTree::Group(group)
                if group.delimiter() == Delimiter::Brace && !ends_with_semicolon =>
            {
                let ended = |next: &TokenTree| is_punct(next, ';') || is_punct(next, ',');
                return at + 1 + usize::from(item.get(at + 1).is_some_and(ended));
            }
            _ => {}
        }
    }
    item.len()
}

pub(crate) fn is_punct(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

// ── tokens

/// Splits the code into words: names, joined punctuation, and brackets. Literals other than numbers
/// are empty words.
pub(crate) fn words(code: &TokenStream) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    add_words(code.clone(), &mut found);
    found
}

fn add_words(code: TokenStream, found: &mut Vec<(usize, String)>) {
    let mut is_joined = false;
    for token in code {
        let line = token.span().start().line;
        let joins = matches!(&token, TokenTree::Punct(sign) if sign.spacing() == Spacing::Joint);
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::None => ("", ""),
                };
                found.push((line, open.to_owned()));
                add_words(group.stream(), found);
                found.push((group.span_close().start().line, close.to_owned()));
            }
            TokenTree::Punct(sign) if is_joined => {
                found.last_mut().expect("punctuation precedes it").1.push(sign.as_char());
            }
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let is_number = text.starts_with(|c: char| c.is_ascii_digit());
                found.push((line, if is_number { text } else { String::new() }));
            }
            other => found.push((line, other.to_string())),
        }
        is_joined = joins;
    }
}

// ── the workspace

pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the path, relative to the workspace, of every file in these folders with this extension.
pub(crate) fn files(folders: &[&str], extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = folders.iter().map(|folder| workspace().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a folder can be read").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let path = path.strip_prefix(workspace()).expect("the file is in the workspace");
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn read(path: &str) -> Option<String> {
    fs::read_to_string(workspace().join(path)).ok()
}
