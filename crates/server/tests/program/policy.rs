//! The command `policy`, and the default lifetime of a new key.

use portcullis_testkit::serving::Home;
use serde_json::Value;

#[test]
fn policy_is_set_shown_and_cleared_with_and_without_a_server() {
    let home = Home::new();
    home.done(&["init", "--scopes", "financial-data"]);
    home.key("lasting", "api.read");
    for server in [false, true] {
        let _running = server.then(|| home.serve(&[]));
        assert!(home.done(&["policy"]).contains("no limit"));
        let set = [
            "policy",
            "set",
            "--max-lifetime",
            "90d",
            "--default-lifetime",
            "36h",
            "--admin-require-expiry",
        ];
        let output = home.command(&set).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Vec<&str>> =
            shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["longest", "lifetime", "no", "limit", "90d"]);
        assert_eq!(lines[2], ["default", "lifetime", "none", "36h"]);
        assert_eq!(lines[3], ["expiry", "required", "yes", "yes"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("1 key may be used longer"), "{said}");
        let listed = home.done(&["key", "list", "--exceeds-policy", "yes"]);
        assert!(listed.contains("lasting") && listed.lines().count() == 2, "{listed}");

        let made =
            home.done(&["key", "create", "--name", "short", "--scope", "api.read", "--json"]);
        let made: Value = serde_json::from_str(&made).unwrap();
        assert!(made["expires_at"].is_string(), "{made}");
        let never = ["key", "create", "--name", "x", "--scope", "api.read", "--never-expires"];
        let refused = home.fails(2, &never);
        assert!(refused.contains("must be set, at most 90 days from now"), "{refused}");

        let set = ["policy", "set", "--max-lifetime", "1d", "--default-lifetime", "2d"];
        assert!(home.fails(2, &set).contains("must not exceed"));
        assert!(home.fails(2, &["policy", "set"]).contains("--max-lifetime"));
        let set = ["policy", "set", "--unused-after", "90d", "--deactivate-unused"];
        assert!(home.done(&set).contains("deactivated after 90d"));
        assert!(home.done(&set[..4]).contains("listed after 90d"));
        assert!(
            home.fails(2, &["policy", "set", "--deactivate-unused"]).contains("--unused-after")
        );
        let output = home.command(&["policy", "unused"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.stdout.is_empty() && said.starts_with("0 keys are unused; none"), "{said}");
        let json = home.done(&["policy", "unused", "--json"]);
        assert!(json.starts_with(r#"{"total":0,"next":[],"blocked":"#), "{json}");
        home.done(&["policy", "clear"]);
    }
    let acts = home.done(&["audit"]).matches("set_policy").count();
    assert_eq!(acts, 8);
}
