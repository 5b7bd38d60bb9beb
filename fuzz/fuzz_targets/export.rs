//! Any bytes as an exported audit log, and any payloads in an export with valid seals and hash chain.
//! Nothing panics, verifying again has the same result, and an export with a removed or repeated line
//! is invalid.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::{Offline, fuzzing};
use portcullis_admin::{ExportReader, fuzzing::write_export};

/// Limits the lines that are removed and repeated in turn, so that a long export stays fast.
const MAX_LINES: usize = 20;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(entries(&lines), entries(&lines));

    let Ok(range) = fuzzing::export(data) else { return };
    let Ok(text) = write_export(&range) else { return };
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let Some(count) = entries(&lines) else { return };
    assert_eq!(count, lines.len() as u64 - 2);
    for at in 0..lines.len().min(MAX_LINES) {
        let mut without = lines.clone();
        without.remove(at);
        assert_eq!(entries(&without), None, "without line {at}");
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        assert_eq!(entries(&twice), None, "line {at} twice");
    }
});

/// Returns the number of entries if the export is valid.
fn entries(lines: &[&str]) -> Option<u64> {
    let offline = Offline::new();
    let mut reader = ExportReader::new(&offline);
    for line in lines {
        reader.line(line).ok()?;
    }
    reader.finish().ok().map(|(count, _)| count)
}
