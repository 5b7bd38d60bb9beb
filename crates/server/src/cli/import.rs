//! `import`: moves the keys of another system in. Without `--apply` it only reports what it would do.

use super::{args::Import, client::Client, failure::Failure, import_rows::line_of, output};
use axum::http::Method;
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{BufRead, BufReader},
    process::ExitCode,
};

/// The most bytes and lines of a request.
const MAX_BYTES: usize = 60 * 1024;
const MAX_LINES: usize = 400;
/// The refused lines that are printed.
const MAX_SHOWN: usize = 50;
/// Some lines were refused.
const REFUSED: u8 = 4;

/// The result of an import.
#[derive(Default, Deserialize, Serialize)]
pub(crate) struct Report {
    imported: usize,
    present: usize,
    pub(crate) refused: Vec<Refused>,
}

/// A line that was refused, with its number in the file.
#[derive(Deserialize, Serialize)]
pub(crate) struct Refused {
    pub(crate) line: usize,
    pub(crate) detail: String,
}

/// Exits with 4 if lines were refused.
pub(crate) async fn run(
    client: &mut Client,
    options: &Import,
    json: bool,
) -> Result<ExitCode, Failure> {
    let name = options.file.display();
    let file = File::open(&options.file).map_err(Failure::io(format!("reading {name}")))?;
    let path = format!(
        "/v1/import?dry_run={}&accept_pruned_log={}",
        !options.apply, options.accept_pruned_log
    );
    let mut report = Report::default();
    let mut batch = Batch::default();
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line.map_err(Failure::io(format!("reading line {number} of {name}")))?;
        if line.trim().is_empty() {
            continue;
        }
        match line_of(options.preset, &line, &options.scopes) {
            Ok(line) => {
                if batch.is_full(&line) {
                    send(client, &path, &mut batch, &mut report).await?;
                }
                batch.push(number, &line);
            }
            Err(detail) => report.refused.push(Refused { line: number, detail }),
        }
    }
    send(client, &path, &mut batch, &mut report).await?;
    report.refused.sort_by_key(|refused| refused.line);
    if json {
        output::line(&serde_json::to_vec(&report).unwrap_or_default())?;
    } else {
        show(options, &report);
    }
    Ok(if report.refused.is_empty() { ExitCode::SUCCESS } else { REFUSED.into() })
}

fn show(options: &Import, report: &Report) {
    for refused in report.refused.iter().take(MAX_SHOWN) {
        output::say(&format!("line {}: {}", refused.line, refused.detail));
    }
    if let Some(more) = report.refused.len().checked_sub(MAX_SHOWN).filter(|more| *more > 0) {
        output::say(&format!("and {more} more lines; --json prints all"));
    }
    let verb = if options.apply { "imported" } else { "would import" };
    output::say(&format!(
        "{verb} {}; {} present already; {} refused",
        output::keys(report.imported as u64),
        report.present,
        report.refused.len()
    ));
    if !options.apply {
        output::say("nothing was changed; add --apply to import");
    }
}

async fn send(
    client: &mut Client,
    path: &str,
    batch: &mut Batch,
    report: &mut Report,
) -> Result<(), Failure> {
    let first = batch.numbers.first().copied().unwrap_or_default();
    let at = format!("the lines from {first} on were not imported; repeat the command to continue");
    let sent = batch.send(client, path, report).await;
    sent.map_err(|failure| failure.with_context(|text| format!("{text}; {at}")))
}

/// Lines of one request, with their numbers in the file.
#[derive(Default)]
pub(crate) struct Batch {
    numbers: Vec<usize>,
    text: String,
    sent: usize,
}

impl Batch {
    pub(crate) fn is_full(&self, line: &str) -> bool {
        let length = self.text.len() + line.len() + 1;
        !self.numbers.is_empty() && (self.numbers.len() == MAX_LINES || length > MAX_BYTES)
    }

    pub(crate) fn push(&mut self, number: usize, line: &str) {
        self.numbers.push(number);
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Sends the lines to `path`, and adds the result to the report.
    pub(crate) async fn send(
        &mut self,
        client: &mut Client,
        path: &str,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let numbers = std::mem::take(&mut self.numbers);
        if numbers.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut self.text);
        let part: Report = client.send_lines(Method::POST, path, text).await?.read()?;
        report.imported += part.imported;
        report.present += part.present;
        report.refused.extend(part.refused.into_iter().filter_map(|refused| {
            let line = *numbers.get(refused.line.checked_sub(1)?)?;
            Some(Refused { line, ..refused })
        }));
        self.sent += numbers.len();
        if self.sent.is_multiple_of(50 * MAX_LINES) {
            output::say(&format!("{} lines", self.sent));
        }
        Ok(())
    }
}
