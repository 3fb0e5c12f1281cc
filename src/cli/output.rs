//! What commands share in printing.

use std::fmt::Write as _;
use std::io::IsTerminal;

use crate::config::Diagnostic;
use crate::config::render::{self, Colour};

/// Diagnostics as text for stderr, coloured on a terminal unless `NO_COLOR` is set.
#[must_use]
pub(super) fn diagnostics(diagnostics: &[Diagnostic]) -> String {
    let terminal = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let colour = if terminal { Colour::Ansi } else { Colour::Plain };
    diagnostics.iter().map(|diagnostic| render::text(diagnostic, colour)).collect()
}

/// Colours on stdout only for a terminal whose user did not ask for none (<https://no-color.org>).
#[must_use]
pub(super) fn stdout_colour() -> Colour {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stdout().is_terminal() && !refused { Colour::Ansi } else { Colour::Plain }
}

/// `1 shard`, `2 shards`.
#[must_use]
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// How a line of a table stands out on a terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tone {
    Bright,
    Dim,
    Plain,
}

/// Text in columns: numbers to the right, the rest to the left.
pub(super) struct Table {
    colour: Colour,
    rows: Vec<(Tone, Vec<String>)>,
}

impl Table {
    pub(super) fn new(colour: Colour, header: &[&str]) -> Self {
        let header = header.iter().map(|cell| (*cell).to_owned()).collect();
        Self { colour, rows: vec![(Tone::Bright, header)] }
    }

    pub(super) fn row(&mut self, tone: Tone, cells: Vec<String>) {
        self.rows.push((tone, cells.into_iter().map(harmless).collect()));
    }

    /// A column is one of numbers when all that is below its header starts like one, or is unknown.
    fn is_number(&self, column: usize) -> bool {
        let numeric = |cell: &String| cell.chars().all(|c| c.is_ascii_digit() || "-?.%".contains(c));
        self.rows.iter().skip(1).all(|(_, cells)| cells.get(column).is_none_or(numeric))
    }
}

/// What files and certificates say must not move a terminal's cursor, nor turn its text round.
fn harmless(cell: String) -> String {
    let turns = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let bad = |c: char| c.is_control() || turns(c);
    if !cell.chars().any(bad) {
        return cell;
    }
    cell.chars().map(|c| if bad(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|(_, cells)| cells.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let columns: Vec<_> = (0..columns).map(|column| (width(column), self.is_number(column))).collect();
        for (tone, cells) in &self.rows {
            let mut line = String::new();
            for (cell, (width, number)) in cells.iter().zip(&columns) {
                if *number {
                    write!(line, "{cell:>width$}  ")?;
                } else {
                    write!(line, "{cell:<width$}  ")?;
                }
            }
            let line = line.trim_end();
            match (self.colour, tone) {
                (Colour::Ansi, Tone::Bright) => writeln!(f, "\u{1b}[1m{line}\u{1b}[0m")?,
                (Colour::Ansi, Tone::Dim) => writeln!(f, "\u{1b}[2m{line}\u{1b}[0m")?,
                _ => writeln!(f, "{line}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(colour: Colour) -> String {
        let mut table = Table::new(colour, &["N", "NAME", "LOAD"]);
        table.row(Tone::Plain, vec!["7".into(), "é".into(), "1.5%".into()]);
        table.row(Tone::Dim, vec!["12".into(), "longer".into(), "?".into()]);
        table.to_string()
    }

    /// Columns line up, lines end without spaces, and only a terminal sees colours.
    #[test]
    fn columns() {
        assert_eq!(table(Colour::Plain), " N  NAME    LOAD\n 7  é       1.5%\n12  longer     ?\n");
        assert!(table(Colour::Ansi).contains("\u{1b}[2m12  longer     ?\u{1b}[0m\n"));
    }
}
