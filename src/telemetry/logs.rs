//! Log lines, on standard error: standard output belongs to what a command was asked for.
//!
//! A log line is never worth a process. Where standard error cannot be written, because the disk is
//! full or the reader is gone, the line is lost and counted, and the work goes on.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::span_fields::SpanFields;
use super::{Masker, MaskingWriter};
use crate::config::{LogFormat, LogSettings};

/// Standard error, behind the mask, that never fails.
struct Output(Masker);

impl<'a> MakeWriter<'a> for Output {
    type Writer = MaskingWriter<NeverFails<io::Stderr>>;

    fn make_writer(&'a self) -> Self::Writer {
        MaskingWriter::new(NeverFails(io::stderr()), self.0.clone())
    }
}

/// Takes everything and loses what cannot be written. An error that reached the formatter would be
/// reported on standard error, which panics there, and a panic is logged: the process would abort.
struct NeverFails<W>(W);

impl<W: Write> Write for NeverFails<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.write_all(bytes).is_err() {
            metrics::counter!("polar_jobs_log_lines_lost_total").increment(1);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _lost_with_its_line = self.0.flush();
        Ok(())
    }
}

/// Prints one line on standard error, for what is said without a log; loses it where nobody can read it.
pub fn say(line: &str) {
    let _nobody_reads = writeln!(io::stderr().lock(), "{line}");
}

/// Starts logging for the whole process, panics included, so that a panic's text is masked like
/// everything else. A second call changes nothing.
pub fn init(settings: &LogSettings, masker: Masker) {
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(Output(masker));
    let first = match settings.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .fmt_fields(SpanFields)
            .try_init(),
    };
    if first.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let reason = panic.payload_as_str().unwrap_or("no reason given");
    tracing::error!(place, reason, "panic");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that is full.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn a_line_that_cannot_be_written_is_no_error() {
        let mut output = MaskingWriter::new(NeverFails(Full), Masker::default());
        assert!(output.write_all(b"a line\n").is_ok());
        assert!(output.flush().is_ok());
    }
}
