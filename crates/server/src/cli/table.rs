//! Tables for a terminal: aligned by display width, and cut to the width of the terminal.

use super::terminal_text::escape;
use rustix::termios::tcgetwinsize;
use std::{
    env,
    fmt::Write,
    io::{self, IsTerminal},
};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The space between two columns.
const GAP: usize = 2;
/// No column becomes narrower.
const MIN_COLUMN: usize = 8;

/// Returns the columns of the terminal, or `None` if standard output is none: a program gets whole cells.
pub(crate) fn terminal_width() -> Option<usize> {
    let output = io::stdout();
    if !output.is_terminal() {
        return None;
    }
    let given = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    given.or_else(|| tcgetwinsize(&output).ok().map(|size| size.ws_col.into())).filter(|w| *w > 0)
}

/// Aligns the columns of rows, with control characters escaped. If the rows are wider than `width`, the
/// widest columns are cut, but never the first one, which has the ids.
pub(crate) fn aligned<'r, const N: usize>(
    rows: impl Iterator<Item = &'r [String; N]>,
    width: Option<usize>,
) -> String {
    let rows: Vec<[String; N]> = rows.map(|row| row.each_ref().map(|cell| escape(cell))).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    if let Some(width) = width {
        shrink(&mut widths, width);
    }
    let mut text = String::new();
    for row in &rows {
        let mut cells = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let cell = cut(cell, *width);
            // The padding of `format` counts characters; a terminal shows a wide one in two columns and a
            // combining one in none.
            let padding = width.saturating_sub(cell.width()) + GAP;
            let _ = write!(cells, "{cell}{:padding$}", "");
        }
        text.push_str(cells.trim_end());
        text.push('\n');
    }
    text
}

/// Makes the widest columns narrower until the row fits or each has the minimum.
fn shrink(widths: &mut [usize], width: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width {
        let columns = widths.iter_mut().skip(1);
        match columns.filter(|column| **column > MIN_COLUMN).max_by_key(|column| **column) {
            Some(widest) => *widest -= 1,
            None => return,
        }
    }
}

/// Cuts a cell to this display width; an ellipsis shows it.
fn cut(cell: &str, width: usize) -> String {
    if cell.width() <= width {
        return cell.to_owned();
    }
    let mut used = 1;
    let fits = |letter: &char| {
        used += letter.width().unwrap_or(0);
        used <= width
    };
    cell.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows<const R: usize>(rows: [[&str; 2]; R]) -> Vec<[String; 2]> {
        rows.into_iter().map(|row| row.map(String::from)).collect()
    }

    #[test]
    fn columns_are_aligned_by_display_width() {
        let rows =
            rows([["\u{65e5}\u{672c}", "a"], ["e\u{301}", "b"], ["\u{1f511}", "c"], ["abcd", "d"]]);
        let blanks = |count| " ".repeat(count);
        let expected = [
            format!("\u{65e5}\u{672c}{}a\n", blanks(2)),
            format!("e\u{301}{}b\n", blanks(5)),
            format!("\u{1f511}{}c\n", blanks(4)),
            format!("abcd{}d\n", blanks(2)),
        ];
        assert_eq!(aligned(rows.iter(), None), expected.concat());
    }

    #[test]
    fn row_wider_than_the_terminal_is_cut_but_never_its_id() {
        let rows =
            rows([["key_8fK2mQ9xZ1a", "Nightly export of all ledgers"], ["key_1", "日本語日本語"]]);
        let text = aligned(rows.iter(), Some(28));
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines,
            [vec!["key_8fK2mQ9xZ1a", "Nightly", "ex…"], vec!["key_1", "日本語日本…"]]
        );
        assert!(text.lines().all(|line| line.width() <= 28));
        let narrow = aligned(rows.iter(), Some(5));
        assert!(narrow.lines().next().unwrap().ends_with(" Nightly…"), "{narrow}");
    }
}
