//! Lists: a table for people, one JSON array for programs.

use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::ValueEnum;
use clap::builder::RangedI64ValueParser;
use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};
use serde::Serialize;

use super::Failure;

/// The longest kind of job has 23 characters.
const LONGEST_WORD: u16 = 24;
/// Room for some words.
const NARROWEST_TEXT: u16 = 12;

/// The form of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// One JSON array
    Json,
}

/// `--limit`: at least one.
pub(crate) fn limit() -> RangedI64ValueParser<i64> {
    clap::value_parser!(i64).range(1..)
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
    for row in rows {
        table.add_row(row);
    }
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        keep_words_whole(&mut table);
    }
    line(&table.trim_fmt())
}

/// Names, states, numbers and times are not cut in two on a narrow terminal; texts and long ids give
/// way.
fn keep_words_whole(table: &mut Table) {
    for (column, width) in table.column_max_content_widths().into_iter().enumerate() {
        let constraint = if width <= LONGEST_WORD {
            ColumnConstraint::ContentWidth
        } else {
            ColumnConstraint::LowerBoundary(Width::Fixed(NARROWEST_TEXT))
        };
        if let Some(column) = table.column_mut(column) {
            column.set_constraint(constraint);
        }
    }
}

/// A moment in a table, in UTC: rows are younger than a year.
pub(crate) fn brief(at: DateTime<Utc>) -> String {
    at.format("%m-%d %H:%M:%S").to_string()
}

/// The same where there may be none.
pub(crate) fn maybe_brief(at: Option<DateTime<Utc>>) -> String {
    at.map(brief).unwrap_or_default()
}

/// A moment, to the second, in UTC.
pub(crate) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A moment that may not be there.
pub(crate) fn maybe_moment(at: Option<DateTime<Utc>>) -> String {
    at.map(moment).unwrap_or_default()
}

/// A number and what it counts.
pub(crate) fn counted(number: i64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {one}{plural}")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_at(columns: u16) -> String {
        let mut table = Table::new();
        table
            .load_style(NOTHING)
            .set_header(["id", "kind", "when (UTC)", "state", "last error or note"])
            .add_row([
                "4711",
                "send_subscription_email",
                "11-21 12:12:06",
                "discarded",
                "the payload is not one of sync_customer: missing field `organization_id`",
            ])
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(columns);
        keep_words_whole(&mut table);
        table.trim_fmt()
    }

    #[test]
    fn a_narrow_terminal_folds_texts_and_cuts_no_name_or_time() {
        for columns in [100, 80] {
            let shown = shown_at(columns);
            let row = shown.lines().nth(1).unwrap_or_default();
            for whole in [
                "4711",
                "send_subscription_email",
                "11-21 12:12:06",
                "discarded",
            ] {
                assert!(row.contains(whole), "{columns}:\n{shown}");
            }
            let widest = shown.lines().map(str::len).max();
            assert!(widest <= Some(usize::from(columns)), "{columns}:\n{shown}");
        }
    }
}
