//! Reads the journal of the shim.

/// A change of the directory, or a mark of the child.
#[derive(Clone, Copy)]
pub(crate) enum Step<'j> {
    Create {
        path: &'j str,
        inode: u64,
    },
    MakeDir {
        path: &'j str,
        inode: u64,
    },
    Write {
        inode: u64,
        at: usize,
        data: &'j [u8],
    },
    Resize {
        inode: u64,
        len: usize,
    },
    Sync {
        inode: u64,
    },
    Rename {
        from: &'j str,
        to: &'j str,
    },
    Link {
        from: &'j str,
        to: &'j str,
    },
    Remove {
        path: &'j str,
    },
    /// A call that makes nothing durable.
    Nothing,
    Mark(&'j [u8]),
}

/// Decodes all steps in order.
pub(crate) fn steps(mut journal: &[u8]) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    while let Some((head, rest)) = journal.split_first_chunk::<25>() {
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()) as usize;
        let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
        let (inode, at) = (long(9), usize::try_from(long(17)).unwrap());
        let (data, rest) = rest.split_at(word(1));
        let (other, rest) = rest.split_at(word(5));
        journal = rest;
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        steps.push(match head[0] {
            b'C' => Step::Create { path: text(data), inode },
            b'D' => Step::MakeDir { path: text(data), inode },
            b'W' => Step::Write { inode, at, data },
            b'T' => Step::Resize { inode, len: at },
            b'S' => Step::Sync { inode },
            b'R' => Step::Rename { from: text(data), to: text(other) },
            b'L' => Step::Link { from: text(data), to: text(other) },
            b'U' => Step::Remove { path: text(data) },
            b'N' => Step::Nothing,
            b'M' => Step::Mark(data),
            other => panic!("the shim wrote a record of kind {other}"),
        });
    }
    assert!(journal.is_empty(), "the journal ends within a record");
    steps
}
