//! How long a job waits for what another job brings.

use std::time::Duration;

use crate::contract::Context;

/// Why a job that would call Polar ends without work while billing is off (contract 2).
pub(crate) const NOT_CONFIGURED: &str = "not configured";

/// Looks before a job stops waiting: about two minutes.
const LOOKS: u32 = 12;
/// The longest time between two looks.
const LONGEST: Duration = Duration::from_secs(15);

/// When to look again for what another job brings: after 1 s, doubling to 15 s. `None` after
/// about two minutes.
pub(crate) fn patience(context: &Context) -> Option<Duration> {
    let claims = u32::try_from(context.job.attempt).unwrap_or(u32::MAX);
    let looks = claims
        .saturating_sub(1)
        .saturating_sub(context.job.failures);
    (looks < LOOKS).then(|| Duration::from_secs(1 << looks.min(8)).min(LONGEST))
}
