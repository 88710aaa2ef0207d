//! How far a long command is: a bar on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::telemetry;

/// Between two lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// How much of a number of things is done. Bar and lines go to standard error.
pub(super) struct Progress {
    what: &'static str,
    state: Mutex<State>,
    bar: Option<ProgressBar>,
}

struct State {
    done: i64,
    total: i64,
    told_at: Instant,
    waits_told_at: Option<Instant>,
}

impl Progress {
    /// Nothing of `total` is done.
    pub(super) fn new(what: &'static str, total: i64) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}")
                .expect("the template is constant");
            ProgressBar::new(0).with_style(style).with_message(what)
        });
        let state = State {
            done: 0,
            total,
            told_at: Instant::now(),
            waits_told_at: None,
        };
        Self {
            what,
            state: Mutex::new(state),
            bar,
        }
    }

    /// So many more are done.
    pub(super) fn advance(&self, more: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done += i64::try_from(more).unwrap_or(i64::MAX);
        self.tell(&mut state);
    }

    /// So many of so many are done; both may change.
    pub(super) fn set(&self, done: i64, total: i64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.done, state.total) = (done, total);
        self.tell(&mut state);
    }

    /// Says why it does not go on, at most as often as how far it is.
    pub(super) fn waits(&self, why: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .waits_told_at
            .is_some_and(|told| told.elapsed() < INTERVAL)
        {
            return;
        }
        state.waits_told_at = Some(Instant::now());
        let say = || telemetry::say(&format!("{} waits: {why}", self.what));
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }

    /// Nothing more comes; the bar goes.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn tell(&self, state: &mut State) {
        if let Some(bar) = &self.bar {
            bar.set_length(u64::try_from(state.total).unwrap_or(0));
            bar.set_position(u64::try_from(state.done).unwrap_or(0));
        } else if state.told_at.elapsed() >= INTERVAL {
            state.told_at = Instant::now();
            telemetry::say(&format!("{}: {} of {}", self.what, state.done, state.total));
        }
    }
}
