//! Rivals that query a Redis server on the same host.

use crate::{
    Rival,
    keys::{Portcullis, Rows, with_key},
};
use ::redis::{Client, Commands as _, Connection, pipe};
use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// A private Redis server that stores nothing on disk. It stops when this is dropped.
pub struct Server {
    child: Child,
    port: u16,
    socket: String,
}

impl Server {
    /// # Panics
    /// If no `redis-server` is installed (Debian's package of that name).
    pub fn start(dir: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let socket = dir.join("redis.sock").display().to_string();
        let arguments = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--unixsocket"];
        let child = Command::new("redis-server")
            .args(arguments)
            .args([&socket, "--port", &port.to_string()])
            .current_dir(dir)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed: install Debian's package redis-server");
        let server = Self { child, port, socket };
        while server.connect(&server.tcp()).is_none() {
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub fn fill(&self, house: &Portcullis) {
        let mut connection = self.connect(&self.tcp()).unwrap();
        for (number, key) in (1u64..).zip(house.keys.iter()) {
            let () = connection.set(blake3::hash(key).as_bytes(), number).unwrap();
        }
    }

    pub fn over_tcp(&self, house: &Portcullis) -> Asking {
        self.asking("Redis over TCP", house, &self.tcp())
    }

    pub fn over_a_socket(&self, house: &Portcullis) -> Asking {
        self.asking("Redis over a Unix socket", house, &format!("redis+unix://{}", self.socket))
    }

    fn asking(&self, name: &'static str, house: &Portcullis, url: &str) -> Asking {
        let connection = Mutex::new(self.connect(url).unwrap());
        Asking { name, headers: house.headers.clone(), connection }
    }

    fn tcp(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn connect(&self, url: &str) -> Option<Connection> {
        Client::open(url).unwrap().get_connection().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One GET a request.
pub struct Asking {
    name: &'static str,
    headers: Arc<Rows>,
    connection: Mutex<Connection>,
}

impl Rival for Asking {
    fn name(&self) -> &'static str {
        self.name
    }

    fn headers(&self) -> &Rows {
        &self.headers
    }

    fn check(&self, header: &[u8]) -> u64 {
        let digest = with_key(header, blake3::hash);
        let found: Option<u64> = self.connection.lock().unwrap().get(digest.as_bytes()).unwrap();
        found.unwrap_or(0)
    }
}

/// The number of requests in one exchange.
pub const AT_ONCE: usize = 100;

/// A hundred GETs in one exchange. Only a service that may delay a request for others can do this.
pub struct Pipelined(pub Asking);

impl Rival for Pipelined {
    fn name(&self) -> &'static str {
        "Redis, 100 in a pipeline"
    }

    fn headers(&self) -> &Rows {
        &self.0.headers
    }

    /// Checks this header and the following ones.
    fn check(&self, header: &[u8]) -> u64 {
        let headers = &self.0.headers;
        let mut pipe = pipe();
        // The position of this header does not matter: every hundred headers cost the same.
        for at in 0..AT_ONCE.min(headers.count()) {
            let header = if at == 0 { header } else { headers.row(at) };
            pipe.get(with_key(header, blake3::hash).as_bytes());
        }
        let found: Vec<Option<u64>> = pipe.query(&mut *self.0.connection.lock().unwrap()).unwrap();
        found.into_iter().flatten().fold(0, |all, one| all ^ one)
    }
}
