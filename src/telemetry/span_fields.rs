//! The fields of a span in lines of JSON.
//!
//! Every attempt has a span, and most attempts log nothing: what is written here is nearly always thrown away. The
//! library's own form of the fields goes through a map of values, which was a sixth of a worker's work where jobs
//! do nothing.

use std::fmt::{self, Debug};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, FormattedFields};

/// Writes fields as a JSON object, as they come.
pub(super) struct SpanFields;

/// Bytes that the fields of an attempt seldom exceed.
const USUAL_LENGTH: usize = 192;

impl<'a> FormatFields<'a> for SpanFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'a>, fields: R) -> fmt::Result {
        write_members(&mut writer, "{", "", fields)
    }

    fn add_fields(
        &self,
        current: &'a mut FormattedFields<Self>,
        fields: &Record<'_>,
    ) -> fmt::Result {
        if current.fields.is_empty() {
            return self.format_fields(current.as_writer(), fields);
        }
        current.fields.pop();
        let before = if current.fields == "{" { "" } else { "," };
        write_members(&mut current.as_writer(), "", before, fields)
    }
}

/// The members of an object, and its end.
fn write_members(
    writer: &mut Writer<'_>,
    begin: &'static str,
    before: &'static str,
    fields: impl RecordFields,
) -> fmt::Result {
    let mut text = Vec::with_capacity(USUAL_LENGTH);
    text.extend_from_slice(begin.as_bytes());
    let mut members = Members {
        text,
        before,
        written: Ok(()),
    };
    fields.record(&mut members);
    let Members {
        mut text, written, ..
    } = members;
    text.push(b'}');
    let text = written.and_then(|()| str::from_utf8(&text).map_err(|_| fmt::Error))?;
    writer.write_str(text)
}

/// The members of an object that is being written.
struct Members {
    text: Vec<u8>,
    /// What stands before the next member.
    before: &'static str,
    written: fmt::Result,
}

impl Members {
    fn member(&mut self, field: &Field, value: &(impl Serialize + ?Sized)) {
        let name = field.name();
        let name = name.strip_prefix("r#").unwrap_or(name);
        let before = std::mem::replace(&mut self.before, ",");
        self.text.extend_from_slice(before.as_bytes());
        let written = serde_json::to_writer(&mut self.text, name).and_then(|()| {
            self.text.push(b':');
            serde_json::to_writer(&mut self.text, value)
        });
        self.written = self.written.and(written.map_err(|_| fmt::Error));
    }
}

impl Visit for Members {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.member(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing::field::Empty;

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The span of the one line that `logs` writes.
    fn span_of(logs: impl FnOnce()) -> Value {
        let lines = Lines::default();
        let output = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .fmt_fields(SpanFields)
            .with_writer(move || output.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, logs);
        let line: Value = serde_json::from_slice(&lines.0.lock().unwrap()).unwrap();
        line["span"].clone()
    }

    #[test]
    fn a_line_carries_every_field_of_its_span() {
        let text = "quotes \" and \\, a line\nbreak, é";
        let span = span_of(|| {
            let span = tracing::info_span!("attempt", job = 7_i64, count = u64::MAX, share = 0.5, ended = true, text, list = ?[1], none = Option::<&str>::None);
            span.in_scope(|| tracing::info!("a line"));
        });
        assert_eq!(
            span,
            json!({ "name": "attempt", "job": 7, "count": u64::MAX, "share": 0.5, "ended": true, "text": text, "list": "[1]" })
        );
    }

    #[test]
    fn fields_that_become_known_later_are_added() {
        let span = span_of(|| {
            let span = tracing::info_span!("later", first = Empty, second = Empty);
            span.record("first", "a");
            span.record("second", 2);
            span.in_scope(|| tracing::info!("a line"));
        });
        assert_eq!(span, json!({ "name": "later", "first": "a", "second": 2 }));
    }

    #[test]
    fn a_span_without_fields_is_no_error() {
        let span = span_of(|| tracing::info_span!("bare").in_scope(|| tracing::info!("a line")));
        assert_eq!(span, json!({ "name": "bare" }));
    }
}
