//! The scan of a process: all that it may write, stacks included.

use crate::encoding::{Encodings, Match, PIECE};
use std::{
    fmt,
    fs::{self, File},
    os::unix::fs::FileExt,
};

const BLOCK: usize = 4 << 20;
const PAGE: usize = 4096;

/// The memory of a process, which can be read.
pub(crate) struct Memory {
    process: u32,
    image: File,
}

/// A run of bytes of a key.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) at: u64,
    pub(crate) length: usize,
    encoding: String,
    mapping: String,
    /// The thread whose stack it is, and how far below its stack pointer.
    stack: Option<(String, i64)>,
}

impl Copy {
    pub(crate) fn is_on_a_stack(&self) -> bool {
        self.stack.is_some()
    }
}

impl fmt::Display for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, length, encoding, mapping, stack } = self;
        write!(f, "{length} bytes, {encoding}, at {at:x}, ")?;
        match stack {
            Some((thread, below)) => {
                write!(f, "stack of {thread}, {below} bytes below its pointer")
            }
            None => f.write_str(mapping),
        }
    }
}

/// A writable mapping.
struct Mapping {
    start: u64,
    end: u64,
    line: String,
}

impl Memory {
    pub(crate) fn of(process: u32) -> Self {
        let path = format!("/proc/{process}/mem");
        let image = File::open(&path)
            .unwrap_or_else(|error| panic!("{path} cannot be scanned ({error}); run as root"));
        Self { process, image }
    }

    /// The copies in all writable mappings.
    pub(crate) fn copies(&self, encodings: &Encodings) -> Vec<Copy> {
        let mut copies = Vec::new();
        let mut length = 0;
        for mapping in self.mappings() {
            self.read(&mapping, &mut |at, block| {
                length += block.len();
                encodings.matches(block, &mut |Match { name, start, length }| {
                    copies.push(Copy {
                        at: at + start as u64,
                        length,
                        encoding: name.to_owned(),
                        mapping: mapping.line.clone(),
                        stack: None,
                    });
                });
            });
        }
        assert!(length > 0, "process {} cannot be scanned: it has no memory", self.process);
        copies.sort_by_key(|copy| copy.at);
        copies.dedup_by_key(|copy| copy.at);
        if !copies.is_empty() {
            self.name_stacks(&mut copies);
        }
        copies
    }

    /// Whether the memory holds these bytes: shows that the scan sees what it should.
    pub(crate) fn holds(&self, text: &[u8]) -> bool {
        let mut found = false;
        for mapping in self.mappings() {
            self.read(&mapping, &mut |_, block| {
                found = found || block.windows(text.len()).any(|window| window == text);
            });
        }
        found
    }

    fn mappings(&self) -> Vec<Mapping> {
        let path = format!("/proc/{}/maps", self.process);
        let maps = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{path} cannot be scanned ({error}); run as root"));
        let number = |digits| u64::from_str_radix(digits, 16).unwrap();
        maps.lines()
            .filter_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (start, end) = range.split_once('-')?;
                let line = line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
                rest.as_bytes().get(1).is_some_and(|&write| write == b'w').then(|| Mapping {
                    start: number(start),
                    end: number(end),
                    line,
                })
            })
            .collect()
    }

    /// Hands out the mapping block by block; blocks overlap by a piece, and begin at a word.
    fn read(&self, mapping: &Mapping, block: &mut impl FnMut(u64, &[u8])) {
        let mut buffer = vec![0; BLOCK];
        let mut at = mapping.start;
        while at < mapping.end {
            let length = usize::try_from(mapping.end - at).unwrap().min(BLOCK);
            match self.image.read_exact_at(&mut buffer[..length], at) {
                Ok(()) => used_runs(&buffer[..length], |start, run| block(at + start as u64, run)),
                // A mapping may end between the list and the reading; another failure is ours.
                Err(error) if self.is_gone(mapping) => drop(error),
                Err(error) => panic!("{} cannot be scanned: {error}", mapping.line),
            }
            if at + length as u64 == mapping.end {
                break;
            }
            at += (length - 4 * PIECE) as u64;
        }
        buffer.fill(0);
    }

    fn is_gone(&self, mapping: &Mapping) -> bool {
        let same = |other: &Mapping| (other.start, other.end) == (mapping.start, mapping.end);
        !self.mappings().iter().any(same)
    }

    /// A copy in the mapping that a thread's stack pointer points into is on that stack.
    fn name_stacks(&self, copies: &mut [Copy]) {
        let mappings = self.mappings();
        let within = |at: u64| mappings.iter().position(|m| (m.start..m.end).contains(&at));
        for task in fs::read_dir(format!("/proc/{}/task", self.process)).unwrap() {
            let task = task.unwrap().path();
            let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
            let (call, name) = (read("syscall"), read("comm"));
            let pointer = call.split_ascii_whitespace().rev().nth(1).unwrap_or_default();
            let Ok(pointer) = u64::from_str_radix(pointer.trim_start_matches("0x"), 16) else {
                continue;
            };
            for copy in &mut *copies {
                if within(copy.at).is_some() && within(copy.at) == within(pointer) {
                    let below = pointer.cast_signed() - copy.at.cast_signed();
                    copy.stack = Some((name.trim().to_owned(), below));
                }
            }
        }
    }
}

/// Most pages are empty. They are passed over, which makes a scan take a fraction of a second.
fn used_runs(block: &[u8], mut each: impl FnMut(usize, &[u8])) {
    const EMPTY: [u8; PAGE] = [0; PAGE];
    let mut start = None;
    for (number, page) in block.chunks(PAGE).enumerate() {
        let at = number * PAGE;
        if *page == EMPTY[..page.len()] {
            if let Some(start) = start.take() {
                each(start, &block[start..at]);
            }
        } else {
            start.get_or_insert(at);
        }
    }
    if let Some(start) = start {
        each(start, &block[start..]);
    }
}
