//! Runs the shell blocks of the documents, and checks their links.
//!
//! All `sh` blocks of a page run in order in one bash, in an empty directory, with `portcullis` on the
//! `PATH`. A block `sh server` starts a server in the background, and the page continues when the server is
//! ready. A block `sh untested` does not run. Rust blocks are compiled by rustdoc: see `src/lib.rs`.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, in its helper functions too")]

use portcullis_testkit::WORKSPACE;
use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A fenced block of a page.
struct Block {
    /// The words after the fence.
    info: String,
    text: String,
    line: usize,
}

/// Returns the Markdown pages that users read.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(WORKSPACE);
    let mut pages: Vec<PathBuf> =
        ["README.md", "SECURITY.md", "CHANGELOG.md"].iter().map(|name| root.join(name)).collect();
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_inside = false;
    for (number, line) in page.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if is_inside => is_inside = false,
            Some(info) => {
                is_inside = true;
                blocks.push(Block { info: info.into(), text: String::new(), line: number + 1 });
            }
            None if is_inside => {
                let text = &mut blocks.last_mut().unwrap().text;
                text.push_str(line);
                text.push('\n');
            }
            None => {}
        }
    }
    assert!(!is_inside, "a block has no end");
    blocks
}

/// Returns the script of a page, or `None` if it has no block that runs.
fn script(page: &str, port: u16) -> Option<String> {
    let mut script = String::from("set -euo pipefail\n");
    let mut has_block = false;
    for Block { info, text, line } in blocks(page) {
        let text = text
            .replace("cargo run --release -- ", "portcullis ")
            .replace("127.0.0.1:8443", &format!("127.0.0.1:{port}"));
        match info.as_str() {
            "sh" => script.extend([&format!("echo '── line {line}'\n"), &*text]),
            "sh server" => script.push_str(&start_server(text.trim(), port)),
            _ => continue,
        }
        has_block = true;
    }
    has_block.then_some(script)
}

/// Returns the lines that start a server and wait until it is ready.
fn start_server(command: &str, port: u16) -> String {
    assert_eq!(command.lines().count(), 1, "a server block has one command: {command}");
    let listen = if command.contains("--listen") {
        String::new()
    } else {
        format!(" --listen 127.0.0.1:{port}")
    };
    format!(
        "{command}{listen} >server.log 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server || true' EXIT
for _ in $(seq 300); do
    curl -ksf https://127.0.0.1:{port}/readyz >/dev/null && break
    kill -0 $server || {{ cat server.log; exit 1; }}
    sleep 0.1
done
curl -ksf https://127.0.0.1:{port}/readyz >/dev/null\n"
    )
}

#[portcullis_testkit::needs("curl", "openssl", "python3")]
#[test]
fn shell_blocks_of_each_page_run() {
    let mut run = 0;
    let mut failed = Vec::new();
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let Some(script) = script(&page, port) else { continue };
        drop(listener);
        let dir = tempfile::tempdir().unwrap();
        let (work, bin) = (dir.path().join("work"), dir.path().join("bin"));
        fs::create_dir(&work).unwrap();
        fs::create_dir(&bin).unwrap();
        symlink(env!("CARGO_BIN_EXE_portcullis"), bin.join("portcullis")).unwrap();
        let search = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(&work)
            .env("PATH", search)
            .env("HOME", dir.path())
            .stdin(Stdio::null())
            .process_group(0)
            .output()
            .unwrap();
        run += 1;
        if !output.status.success() {
            let (out, err) = (&output.stdout, &output.stderr);
            failed.push(format!(
                "{}: {}\n{}{}",
                path.display(),
                output.status,
                String::from_utf8_lossy(out),
                String::from_utf8_lossy(err)
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(run >= 5, "{run} pages have blocks that run");
}

/// Each relative link leads to a file of the repository, and to a heading of it if it names one.
#[test]
fn links_of_each_page_lead_somewhere() {
    let mut broken = Vec::new();
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let target =
                if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let is_found = target.exists()
                && (heading.is_empty()
                    || headings(&fs::read_to_string(&target).unwrap()).any(|one| one == heading));
            if !is_found {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Returns the anchors of a page's headings, as GitHub makes them.
fn headings(page: &str) -> impl Iterator<Item = String> {
    page.lines().filter(|line| line.starts_with('#')).map(|line| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept =
            text.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[test]
fn blocks_are_found_with_their_kind() {
    let page = "# A\n```sh\none\n```\n```sh untested\ntwo\n```\n```text\nthree\n```\n";
    let script = script(page, 1).unwrap();
    assert!(script.contains("one") && !script.contains("two") && !script.contains("three"));
    assert_eq!(headings("## Run it, as a `server`").next().unwrap(), "run-it-as-a-server");
}
