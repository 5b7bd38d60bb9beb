//! `#[needs("etcd", "etcdctl")]`: names the programs and conditions that a test requires.
//!
//! libtest decides at compile time which tests are ignored, so the attribute checks then. If a need is
//! missing, the runner reports the test as ignored and prints the need. With `CI=true` no test is ignored.
//! A test that runs checks its needs again and fails if one is missing. `build.rs` makes cargo check again
//! when the environment changes.
//!
//! A need is the name of a program on `PATH`. Other needs are written as a name, a colon and a
//! shell command that succeeds if the need is met: `"root: test $(id -u) = 0"`. The command runs in
//! the root of the repository. Cargo cannot detect that its outcome has changed: touch
//! `crates/needs/build.rs` then.

mod need;

use need::Need;
use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Ignores a test if one of its needs is missing, except with `CI=true`. Place it above `#[test]`.
#[proc_macro_attribute]
pub fn needs(needs: TokenStream, test: TokenStream) -> TokenStream {
    let names = needs.clone().into_iter().filter_map(|token| match token {
        TokenTree::Literal(literal) => Some(literal.to_string().trim_matches('"').to_owned()),
        _ => None,
    });
    let missing = names.into_iter().find_map(|name| Need::parse(&name).missing());
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let ignored = match missing {
        Some(reason) if !is_ci && !is_ignored(&test) => format!("#[ignore = {reason:?}]"),
        _ => String::new(),
    };
    let mut tokens: TokenStream = ignored.parse().unwrap_or_default();
    let mut test: Vec<TokenTree> = test.into_iter().collect();
    if let Some(TokenTree::Group(body)) = test.last_mut() {
        let check = format!("::portcullis_testkit::check_needs(&[{needs}]);");
        let mut checked: TokenStream = check.parse().unwrap_or_default();
        checked.extend(body.stream());
        *body = Group::new(Delimiter::Brace, checked);
    }
    tokens.extend(test);
    tokens
}

/// Whether the test has an `#[ignore]` of its own.
fn is_ignored(test: &TokenStream) -> bool {
    test.clone().into_iter().any(|token| match token {
        TokenTree::Group(attribute) => attribute.stream().to_string().starts_with("ignore"),
        _ => false,
    })
}
