//! How far a long command is: a bar on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::telemetry;

/// Between two lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// How much of a known number of things is done.
pub(super) struct Progress {
    what: &'static str,
    total: u64,
    done: Mutex<(u64, Instant)>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Nothing of `total` is done. Bar and lines go to standard error.
    pub(super) fn new(what: &'static str, total: i64) -> Self {
        let total = u64::try_from(total).unwrap_or(0);
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}")
                .expect("the template is constant");
            ProgressBar::new(total).with_style(style).with_message(what)
        });
        Self {
            what,
            total,
            done: Mutex::new((0, Instant::now())),
            bar,
        }
    }

    /// So many more are done.
    pub(super) fn advance(&self, more: usize) {
        let (done, _) = *self.done.lock().unwrap_or_else(PoisonError::into_inner);
        self.set(done + more as u64);
    }

    /// So many are done.
    pub(super) fn set(&self, now: u64) {
        let mut state = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = now;
        if let Some(bar) = &self.bar {
            bar.set_position(now);
        } else if state.1.elapsed() >= INTERVAL {
            state.1 = Instant::now();
            telemetry::say(&format!("{}: {now} of {}", self.what, self.total));
        }
    }

    /// Nothing more comes; the bar goes.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
