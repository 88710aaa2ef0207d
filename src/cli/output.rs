//! Lists: a table for people, one JSON array for programs.

use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use super::Failure;

/// The form of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// One JSON array
    Json,
}

/// Prints rows in the form that was asked for. `cells` gives the columns of one row as text.
pub(crate) fn list<R: Serialize, const N: usize>(
    format: Format,
    header: [&str; N],
    rows: &[R],
    cells: impl Fn(&R) -> [String; N],
) -> Result<(), Failure> {
    match format {
        Format::Json => json(&rows),
        Format::Table => table(header, rows.iter().map(cells)),
    }
}

/// Prints one JSON value on a line of its own.
pub(crate) fn json<V: Serialize>(value: &V) -> Result<(), Failure> {
    let text = serde_json::to_string(value)?;
    line(&text)
}

/// Prints one line. A reader that has gone away, as `head` does, is no failure.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints columns for people.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    // Where nobody looks, lines stay whole, so that other programs can cut them.
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    for row in rows {
        table.add_row(row);
    }
    line(&table.trim_fmt())
}

/// A moment, to the second, in UTC.
pub(crate) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A moment that may not be there.
pub(crate) fn maybe_moment(at: Option<DateTime<Utc>>) -> String {
    at.map(moment).unwrap_or_default()
}

/// The first characters of a text, on one line.
pub(crate) fn shortened(text: &str, length: usize) -> String {
    let flat: String = text
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect();
    match flat.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat,
    }
}
