//! How long a job waits for what another job brings.

use std::time::Duration;

/// The delays between looks at what another job brings: 1 s, doubling to 15 s, for about two
/// minutes. Counts the looks in vain that the subject noted itself: waits for Polar or for the
/// fleet's budget say nothing about the other job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    waits: u32,
}

impl Backoff {
    /// Looks before a job stops waiting.
    const LOOKS: u32 = 12;
    /// The longest time between two looks.
    const LONGEST: Duration = Duration::from_secs(15);

    /// After so many looks in vain, this one included.
    pub(crate) const fn after(waits: u32) -> Self {
        Self { waits }
    }

    /// Whether this was the first look.
    pub(crate) const fn is_first(self) -> bool {
        self.waits == 1
    }

    /// When to look again, however long it takes.
    pub(crate) fn delay(self) -> Duration {
        let doublings = self.waits.saturating_sub(1).min(8);
        Duration::from_secs(1 << doublings).min(Self::LONGEST)
    }

    /// When to look again; `None` = no more.
    pub(crate) fn next(self) -> Option<Duration> {
        (self.waits <= Self::LOOKS).then(|| self.delay())
    }
}
