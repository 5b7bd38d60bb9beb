//! The built program as a server, for tests that run it as a process.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// Returns a command for the program that cargo built.
pub fn program() -> Command {
    Command::new(std::env::var_os("CARGO_BIN_EXE_portcullis").expect("run the test by cargo"))
}

/// A temporary directory with a store, and commands on the store.
pub struct Home(tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Returns the temporary directory.
    pub fn room(&self) -> PathBuf {
        self.0.path().to_path_buf()
    }

    pub fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command
            .args(arguments)
            .env_clear()
            .env("PORTCULLIS_DATA", self.data())
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command that must succeed. Returns its standard output.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    }

    /// Runs a command that must fail with this code and no output. Returns its standard error.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        said
    }

    /// Runs `verify` with this key. Returns its exit code.
    pub fn verify(&self, key: &str, arguments: &[&str]) -> i32 {
        let mut command = self.command(&[&["verify"], arguments].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{key}").unwrap();
        child.wait().unwrap().code().unwrap()
    }

    /// Creates a key with a command. Returns its text.
    pub fn key(&self, name: &str, scopes: &str) -> String {
        self.done(&["key", "create", "--name", name, "--scope", scopes])
    }

    pub fn serve(&self, arguments: &[&str]) -> Serving {
        self.serve_with(arguments, &[])
    }

    /// Starts a server with these environment variables, and waits until it listens.
    pub fn serve_with(&self, arguments: &[&str], env: &[(&str, &str)]) -> Serving {
        let all = [&["serve", "--listen", "127.0.0.1:0"], arguments].concat();
        let log = fs::File::create(self.0.path().join("log")).unwrap();
        let mut command = self.command(&all);
        command.envs(env.iter().copied()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("listening on ") {
            let before = said.len();
            output.read_line(&mut said).unwrap();
            assert!(said.len() > before, "{}", self.log());
        }
        let url = said.lines().last().unwrap().replace("listening on ", "");
        Serving { child, url, said }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.0.path().join("log")).unwrap()
    }
}

/// A running server. Dropping it kills the server.
pub struct Serving {
    child: Child,
    pub url: String,
    pub said: String,
}

impl Serving {
    /// Sends a signal, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.child.wait().unwrap()
    }

    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn address(&self) -> &str {
        self.url.rsplit('/').next().unwrap()
    }

    pub fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn id_of(key: &str) -> String {
    format!("key_{}", key.split('_').nth(1).unwrap())
}

/// Returns a free address, a different one each time. Its port is below the ephemeral ports of Linux, which
/// another process could take before the test binds it.
pub fn free_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id() * 16 + NEXT.fetch_add(1, Relaxed);
        let address = format!("127.0.0.1:{}", 13_000 + number % 3_000);
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// Whether a command runs and succeeds.
pub fn runs(command: &mut Command) -> bool {
    command.output().is_ok_and(|Output { status, .. }| status.success())
}
