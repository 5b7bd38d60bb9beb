//! Any bytes as an exported trail, and any payloads in one that is sealed and chained as it should
//! be. Nothing panics, what is found good is good again, and no line of it can be left out or come
//! twice.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::{Offline, fuzzing};
use portcullis_admin::{ExportReader, fuzzing::write_export};

/// Each line is left out in turn, so a long export takes its time.
const MOST_LINES: usize = 20;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(entries(&lines), entries(&lines));

    let Ok(part) = fuzzing::export(data) else { return };
    let Ok(text) = write_export(&part) else { return };
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let Some(count) = entries(&lines) else { return };
    assert_eq!(count, lines.len() as u64 - 2);
    for at in 0..lines.len().min(MOST_LINES) {
        let mut less = lines.clone();
        less.remove(at);
        assert_eq!(entries(&less), None, "without line {at}");
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        assert_eq!(entries(&twice), None, "line {at} twice");
    }
});

/// How many entries there are, if all of it is as it was exported.
fn entries(lines: &[&str]) -> Option<u64> {
    let offline = Offline::new();
    let mut reader = ExportReader::new(&offline);
    for line in lines {
        reader.line(line).ok()?;
    }
    reader.finish().ok().map(|(count, _)| count)
}
