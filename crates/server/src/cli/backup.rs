//! `backup`: writes a backup to a file or to standard output, or verifies one.

use super::{
    args::Backup, client::Client, failure::Failure, location::Location, output, progress::Bar,
    values,
};
use portcullis::backup::Summary;
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};
use serde_json::json;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Read, Write},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

/// How long to wait for the reader of a pipe.
const READER_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn run(
    location: &Location,
    options: &Backup,
    json: bool,
) -> Result<ExitCode, Failure> {
    if options.verify {
        let bar = Bar::new();
        let checked = location
            .offline()?
            .verify_backup(open(&options.file)?, |progress| bar.report(progress))?;
        bar.done();
        let text = format!(
            "{} as of change {}, taken {}: complete and unaltered",
            output::keys(checked.records),
            checked.sequence,
            values::rfc3339(checked.taken)
        );
        output::line(if json { as_json(&checked) } else { text }.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    // Check the target first: opening the store may take a while.
    let mut target = Target::begin(&options.file, options.force)?;
    let bar = Bar::new();
    let mut client = Client::open(location).await?;
    client.backup(&mut target, &bar).await?;
    bar.done();
    let taken = target.finish()?;
    if json && !is_stream(&options.file) {
        output::line(as_json(&taken).as_bytes())?;
    }
    output::say(&format!(
        "backed up {} as of change {}",
        output::keys(taken.records),
        taken.sequence
    ));
    Ok(ExitCode::SUCCESS)
}

/// Opens the file, or standard input.
pub(crate) fn open(file: &Path) -> Result<Box<dyn Read>, Failure> {
    if is_stream(file) {
        return Ok(Box::new(io::stdin().lock()));
    }
    let doing = format!("opening the backup {}", file.display());
    Ok(Box::new(File::open(file).map_err(Failure::io(doing))?))
}

fn is_stream(file: &Path) -> bool {
    file == Path::new("-")
}

/// Formats a backup as JSON.
fn as_json(backup: &Summary) -> String {
    json!({
        "taken": values::rfc3339(backup.taken),
        "sequence": backup.sequence,
        "keys": backup.records,
        "bytes": backup.bytes,
    })
    .to_string()
}

/// The target of a backup. A file gets its final name once the complete backup is on disk.
struct Target {
    to: File,
    /// The temporary and the final name of the file.
    names: Option<(PathBuf, PathBuf)>,
    bytes: u64,
    /// The last bytes written, which hold the summary of a complete backup.
    tail: Vec<u8>,
}

impl Target {
    fn begin(file: &Path, is_forced: bool) -> Result<Self, Failure> {
        let (to, names) = if is_stream(file) {
            if io::stdout().is_terminal() {
                return Err(Failure::usage(
                    "a backup cannot be written to a terminal; name a file or a program: portcullis backup - | age …",
                ));
            }
            let output = io::stdout().as_fd().try_clone_to_owned();
            (output.map(File::from).map_err(Failure::io("writing to standard output"))?, None)
        } else if let Some(to) = open_special(file)? {
            (to, None)
        } else {
            let file = &resolve_links(file)?;
            refuse_existing(file, is_forced)?;
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let part = file.with_file_name(format!(".{name}.{}.part", std::process::id()));
            let doing = format!("creating {}", part.display());
            let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
            (to.map_err(Failure::io(doing))?, Some((part, file.clone())))
        };
        Ok(Self { to, names, bytes: 0, tail: Vec::new() })
    }

    fn finish(mut self) -> Result<Summary, Failure> {
        let broken = || Failure::failed("the backup was interrupted and removed");
        let taken = Summary::at_end(&self.tail, self.bytes).ok_or_else(broken)?;
        if let Some((part, file)) = &self.names {
            let directory = match file.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            self.to
                .sync_all()
                .and_then(|()| fs::rename(part, file))
                .and_then(|()| File::open(directory)?.sync_all())
                .map_err(Failure::io(format!("writing the backup {}", file.display())))?;
            self.names = None;
        }
        Ok(taken)
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        let kept = bytes.len().saturating_sub(Summary::END);
        self.tail.extend_from_slice(bytes.get(kept..).unwrap_or_default());
        self.tail.drain(..self.tail.len().saturating_sub(Summary::END));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((part, _)) = &self.names {
            let _ = fs::remove_file(part);
        }
    }
}

/// Opens a pipe or a device, if the name is one. It is written to directly: a temporary file cannot
/// replace it.
fn open_special(file: &Path) -> Result<Option<File>, Failure> {
    let kind = match fs::metadata(file) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Failure::io(format!("reading {}", file.display()))(error));
        }
    };
    if kind.is_dir() {
        let name = file.display();
        return Err(Failure::usage(format!("{name} is a directory; name a file in it")));
    }
    if kind.is_file() {
        return Ok(None);
    }
    // Opening a pipe without a reader would block forever.
    let deadline = Instant::now() + READER_TIMEOUT;
    let to = loop {
        let open = OpenOptions::new()
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(file);
        match open {
            Err(error)
                if kind.is_fifo() && error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) =>
            {
                if Instant::now() > deadline {
                    let name = file.display();
                    let text = format!("the pipe {name} has no reader; start its reader first");
                    return Err(Failure::failed(text));
                }
                thread::sleep(Duration::from_millis(20));
            }
            open => break open.map_err(Failure::io(format!("opening {}", file.display())))?,
        }
    };
    let blocking: Result<(), Errno> =
        fcntl_getfl(&to).and_then(|flags| fcntl_setfl(&to, flags - OFlags::NONBLOCK));
    blocking.map_err(Failure::io(format!("opening {}", file.display())))?;
    Ok(Some(to))
}

/// Returns the file that a link names, so that a backup replaces the file and not the link.
fn resolve_links(file: &Path) -> Result<PathBuf, Failure> {
    let is_link = fs::symlink_metadata(file).is_ok_and(|found| found.file_type().is_symlink());
    if !is_link {
        return Ok(file.to_path_buf());
    }
    file.canonicalize().map_err(|error| {
        let name = file.display();
        Failure::failed(format!(
            "{name} is a link to a file that cannot be found ({error}); name the file itself"
        ))
    })
}

/// Refuses to replace a file that is no backup.
fn refuse_existing(file: &Path, is_forced: bool) -> Result<(), Failure> {
    let mut begin = Vec::new();
    match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found
            .and_then(|found| found.take(Summary::BEGINS.len() as u64).read_to_end(&mut begin))
            .map_err(Failure::io(format!("reading {}", file.display())))?,
    };
    if begin == Summary::BEGINS {
        let text = format!(
            "{} already holds a backup; name another file, or pass --force to replace it",
            file.display()
        );
        return if is_forced { Ok(()) } else { Err(Failure::usage(text)) };
    }
    Err(Failure::usage(format!("{} exists and is not a backup; name another file", file.display())))
}
