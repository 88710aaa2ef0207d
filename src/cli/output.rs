//! Lists: a table for people, one JSON array for programs.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use chrono::{TimeDelta, Utc};
use clap::ValueEnum;
use clap::builder::RangedI64ValueParser;
use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};
use jobs::types::Timestamp;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::Failure;

/// The longest kind of job has 23 characters.
const LONGEST_WORD: u16 = 24;
/// Room for some words.
const NARROWEST_TEXT: u16 = 12;

/// The form of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
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

/// Prints a row as a JSON object with further fields. The row is not taken to pieces for that: its own
/// JSON may be nested deeper, and its numbers be larger, than a parser takes.
pub(crate) fn json_with<V: Serialize>(row: &V, fields: &[(&str, Value)]) -> Result<(), Failure> {
    let mut text = serde_json::to_string(row)?;
    for (name, value) in fields {
        text.truncate(text.len() - 1);
        text.push_str(&format!(",{}:{value}}}", Value::from(*name)));
    }
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
        table.add_row(row.map(|cell| flat(&cell)));
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

/// A moment in a table, in UTC: most lie within half a year, and do without naming it.
pub(crate) fn brief(at: impl Into<Timestamp>) -> String {
    let at = at.into();
    match at.to_utc() {
        Some(near) if (near - Utc::now()).abs() < TimeDelta::days(180) => {
            near.format("%m-%d %H:%M:%S").to_string()
        }
        _ => at.to_string(),
    }
}

/// The same where there may be none.
pub(crate) fn maybe_brief(at: Option<impl Into<Timestamp>>) -> String {
    at.map(brief).unwrap_or_default()
}

/// A moment, to the second, in UTC.
pub(crate) fn moment(at: impl Into<Timestamp>) -> String {
    at.into().to_string()
}

/// A moment that may not be there.
pub(crate) fn maybe_moment(at: Option<impl Into<Timestamp>>) -> String {
    at.map(moment).unwrap_or_default()
}

/// A number and what it counts. Whatever is larger than an `i64` is shown as its largest value.
pub(crate) fn counted(number: impl TryInto<i64>, one: &str) -> String {
    let number = number.try_into().unwrap_or(i64::MAX);
    match one.strip_suffix("ry") {
        _ if number == 1 => format!("{number} {one}"),
        Some(stem) => format!("{number} {stem}ries"),
        None => format!("{number} {one}s"),
    }
}

/// The first names of a list, with a sign where there are more.
pub(crate) fn first_of(names: impl ExactSizeIterator<Item: Display>, most: usize) -> String {
    let more = if names.len() > most { ", …" } else { "" };
    let named: Vec<String> = names.take(most).map(|name| name.to_string()).collect();
    format!("{}{more}", named.join(", "))
}

/// An organization in a table: its name, or its id while no name is known.
pub(crate) fn organization(name: Option<&str>, id: Option<Uuid>) -> String {
    name.map_or_else(
        || id.map(|id| id.to_string()).unwrap_or_default(),
        |name| shortened(name, 30),
    )
}

/// The first characters of a text, on one line.
pub(crate) fn shortened(text: &str, length: usize) -> String {
    let flat = flat(text);
    match flat.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat,
    }
}

/// One line that moves no cursor, whatever an application wrote.
pub(crate) fn flat(text: &str) -> String {
    let visible = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    text.chars().map(visible).collect()
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
