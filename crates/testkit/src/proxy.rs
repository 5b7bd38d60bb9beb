//! Network fault injection: a TCP relay that delays, drops or disconnects.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

/// A delay that holds all bytes until it is changed, as a partition does.
const BLACK_HOLE: u64 = u64::MAX;

/// A relay to one address.
pub struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
}

struct Link {
    target: String,
    /// Milliseconds for bytes from clients, and for bytes to clients.
    delays: [AtomicU64; 2],
    /// Holds all bytes in both directions, whatever the delays are.
    is_unplugged: AtomicBool,
    /// Holds all bytes of a connection whose first bytes from the client contain this text.
    mute: Mutex<Option<Vec<u8>>>,
    /// Bytes from clients, and bytes to clients.
    bytes: [AtomicU64; 2],
    open: Mutex<Vec<TcpStream>>,
}

/// The first bytes from the client of a connection.
type Opening = OnceLock<Vec<u8>>;

impl Proxy {
    pub fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let link = Arc::new(Link {
            target: target.to_owned(),
            delays: Default::default(),
            is_unplugged: AtomicBool::new(false),
            mute: Mutex::default(),
            bytes: Default::default(),
            open: Mutex::new(Vec::new()),
        });
        let accepting = Arc::downgrade(&link);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Some(link)) = (client, accepting.upgrade()) else { return };
                link.join(&client);
            }
        });
        Self { address, link }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn pass(&self) {
        self.set([0, 0]);
    }

    /// Delays all bytes in both directions.
    pub fn delay(&self, delay: Duration) {
        self.set([u64::try_from(delay.as_millis()).unwrap(); 2]);
    }

    pub fn swallow(&self) {
        self.set([BLACK_HOLE; 2]);
    }

    /// Passes bytes from clients and holds the responses.
    pub fn swallow_answers(&self) {
        self.set([0, BLACK_HOLE]);
    }

    /// Holds all bytes, whatever else is set, until [`Self::plug_in`].
    pub fn unplug(&self) {
        self.link.is_unplugged.store(true, SeqCst);
    }

    pub fn plug_in(&self) {
        self.link.is_unplugged.store(false, SeqCst);
    }

    /// Holds the connections whose first bytes from the client contain this text; `None` holds none.
    pub fn mute(&self, who: Option<&str>) {
        *self.link.mute.lock().unwrap() = who.map(|who| who.as_bytes().to_vec());
    }

    /// Returns the number of bytes from clients and to clients, without the overhead of TCP.
    pub fn bytes(&self) -> [u64; 2] {
        [0, 1].map(|way: usize| self.link.bytes[way].load(SeqCst))
    }

    fn set(&self, delays: [u64; 2]) {
        for (place, delay) in self.link.delays.iter().zip(delays) {
            place.store(delay, SeqCst);
        }
    }

    /// Closes every connection; new ones pass.
    pub fn cut(&self) {
        for stream in self.link.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        // Wakes the accepting thread, which then ends.
        self.pass();
        self.plug_in();
        self.mute(None);
        let address = self.address;
        thread::spawn(move || drop(TcpStream::connect(address)));
    }
}

impl Link {
    fn join(self: &Arc<Self>, client: &TcpStream) {
        let Ok(server) = TcpStream::connect(&self.target) else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let mut open = self.open.lock().unwrap();
        let opening = Arc::<Opening>::default();
        for (way, (from, to)) in [(client, &server), (&server, client)].into_iter().enumerate() {
            let (Ok(from), Ok(to), Ok(kept)) = (from.try_clone(), to.try_clone(), from.try_clone())
            else {
                return;
            };
            open.push(kept);
            let (sender, held) = mpsc::channel();
            thread::spawn(move || read(from, &sender));
            let (link, opening) = (Arc::clone(self), Arc::clone(&opening));
            thread::spawn(move || link.write(way, to, &held, &opening));
        }
    }

    fn write(
        &self,
        way: usize,
        mut to: TcpStream,
        held: &Receiver<(Instant, Vec<u8>)>,
        opening: &Opening,
    ) {
        for (came, bytes) in held {
            if way == 0 {
                opening.get_or_init(|| bytes.clone());
            }
            while self.holds(way, came, opening) {
                thread::sleep(Duration::from_millis(2));
            }
            self.bytes[way].fetch_add(bytes.len() as u64, SeqCst);
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }

    fn holds(&self, way: usize, came: Instant, opening: &Opening) -> bool {
        let delay = self.delays[way].load(SeqCst);
        delay == BLACK_HOLE
            || came.elapsed() < Duration::from_millis(delay)
            || self.is_unplugged.load(SeqCst)
            || self.is_muted(opening)
    }

    fn is_muted(&self, opening: &Opening) -> bool {
        let muted = self.mute.lock().unwrap();
        let (Some(who), Some(said)) = (&*muted, opening.get()) else { return false };
        said.windows(who.len()).any(|part| part == who)
    }
}

fn read(mut from: TcpStream, sender: &mpsc::Sender<(Instant, Vec<u8>)>) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length) = from.read(&mut buffer) {
        if length == 0 || sender.send((Instant::now(), buffer[..length].to_vec())).is_err() {
            return;
        }
    }
}
