//! `key scanner-rules`: the expression in each rule finds the keys of the store, and nothing else.

use portcullis_testkit::{
    WORKSPACE,
    serving::{Home, id_of, text},
};
use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

/// Returns what an expression matches in each line, as GNU grep finds it.
fn matches(pattern: &str, lines: &[String]) -> Vec<String> {
    let mut grep = Command::new("grep")
        .args(["-oE", pattern])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    grep.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    let output = grep.wait_with_output().unwrap();
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// Returns the text between two quotes.
fn quoted<'t>(text: &'t str, before: &str, quote: &str) -> &'t str {
    text.split_once(&format!("{before}{quote}")).unwrap().1.split_once(quote).unwrap().0
}

#[test]
fn rules_find_the_keys_of_the_store_and_no_id_hint_or_near_miss() {
    for prefix in ["pcl", "ab", "abcdefghij12"] {
        let home = Home::new();
        let root = home.done(&["init", "--prefix", prefix, "--scopes=financial-data"]);
        let keys = [root, home.key("a", "api.read")];
        let gitleaks = home.done(&["key", "scanner-rules", "gitleaks"]);
        let trufflehog = home.done(&["key", "scanner-rules", "trufflehog"]);
        assert!(gitleaks.starts_with("[[rules]]\nid = \"portcullis-"), "{gitleaks}");
        assert!(gitleaks.contains(&format!(r#"keywords = ["{prefix}_"]"#)), "{gitleaks}");
        assert!(trufflehog.starts_with("detectors:\n  - name: portcullis-"), "{trufflehog}");
        assert!(trufflehog.contains(&format!("keywords:\n      - {prefix}_\n")), "{trufflehog}");
        let pattern = quoted(&gitleaks, "regex = ", "\u{27}\u{27}\u{27}");
        assert_eq!(quoted(&trufflehog, "key: ", "\u{27}"), pattern);
        for key in &keys {
            let places = [
                key.clone(),
                format!("API_KEY={key}"),
                format!("curl -u {key}: https://api.example"),
                format!("\"key\": \"{key}\","),
                format!("https://{key}:@api.example/"),
            ];
            assert_eq!(matches(pattern, &places), vec![key.clone(); places.len()]);
            let (hint, secret) = key.rsplit_once('_').unwrap();
            let no_key = [
                id_of(key),
                hint.to_owned(),
                format!("{hint}_"),
                format!("{hint}…"),
                key[..key.len() - 1].to_owned(),
                format!("{key}0"),
                format!("x{key}"),
                key.to_uppercase(),
                key.replace('_', "-"),
                format!("{hint}_{}", secret.replacen(|_| true, "-", 1)),
                format!("other_{}", key.split_once('_').unwrap().1),
                secret.to_owned(),
            ];
            assert_eq!(matches(pattern, &no_key), Vec::<String>::new());
        }
        // A running server has the prefix, too.
        let _server = home.serve(&[]);
        assert_eq!(home.done(&["key", "scanner-rules", "gitleaks"]), gitleaks);
    }
}

#[test]
fn documents_have_the_expression_of_the_library() {
    let pattern = portcullis::Prefix::default().pattern();
    let page = fs::read_to_string(format!("{WORKSPACE}/docs/reference/header.md")).unwrap();
    assert!(page.contains(&format!("`{pattern}`")), "{pattern}");
    // The other one is for any prefix.
    assert!(page.contains(&pattern.replace("pcl", "[a-z][a-z0-9]{1,11}")));
}
