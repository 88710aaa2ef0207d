//! Log lines, on standard error: standard output belongs to what a command was asked for.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::{Masker, MaskingWriter};
use crate::config::{LogFormat, LogSettings};

/// Standard error behind the mask.
struct Output(Masker);

impl<'a> MakeWriter<'a> for Output {
    type Writer = MaskingWriter<io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        MaskingWriter::new(io::stderr(), self.0.clone())
    }
}

/// Starts logging for the whole process, panics included, so that a panic's text is masked like
/// everything else. A second call changes nothing.
pub fn init(settings: &LogSettings, masker: Masker) {
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Output(masker));
    let first = match settings.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
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
