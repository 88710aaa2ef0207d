//! Jobs that fail again and again: whose, which, since when and why. One customer whose jobs fail opens no
//! breaker and makes no queue late, so nothing else would say it before the jobs are discarded.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use super::super::output::{counted, first_of, moment, shortened};
use super::Finding;
use super::fleet::at_most_counted;
use crate::queue::fleet::COUNTED;
use crate::queue::table::{self, FailingJob};

/// What fails for a shorter time may pass by itself, so it is a warning only.
const LONG: TimeDelta = TimeDelta::minutes(5);
/// Customers that are named.
const NAMED: usize = 3;
/// Characters of the newest error.
const ERROR: usize = 160;

pub(super) async fn check(pool: &PgPool) -> Result<Vec<Finding>, sqlx::Error> {
    let now = jobs::mirror::clock::now(pool).await?;
    let mut failing: Vec<(DateTime<Utc>, FailingJob)> = table::failing(pool, COUNTED)
        .await?
        .into_iter()
        .filter_map(|job| Some((since(&job)?, job)))
        .collect();
    failing.sort_by_key(|(since, job)| (*since, job.id));
    Ok(vec![judge(&failing, now)])
}

fn judge(failing: &[(DateTime<Utc>, FailingJob)], now: DateTime<Utc>) -> Finding {
    let Some((since, oldest)) = failing.first() else {
        return Finding::ok("failing", "no job keeps failing");
    };
    let customers: BTreeSet<&str> = failing
        .iter()
        .filter_map(|(_, job)| job.organization.as_deref())
        .collect();
    let jobs = at_most_counted(failing.len(), "job");
    let verb = if failing.len() == 1 { "keeps" } else { "keep" };
    let of = match customers.len() {
        0 => String::new(),
        many => {
            let named = first_of(customers.iter(), NAMED);
            format!(" of {} ({named})", counted(many, "customer"))
        }
    };
    let error = shortened(
        oldest.error.as_deref().unwrap_or("no error is noted"),
        ERROR,
    );
    let what = format!(
        "{jobs}{of} {verb} failing since {}; job {} ({}): {error}",
        moment(*since),
        oldest.id,
        oldest.kind
    );
    let fix = format!(
        "remove the cause, then polar-jobs jobs retry {}; or polar-jobs jobs show {}",
        oldest.id, oldest.id
    );
    if now - since > LONG {
        Finding::error("failing", what, fix)
    } else {
        Finding::warning("failing", what, fix)
    }
}

/// People may have written something else into the errors; then the job's own time counts.
fn since(job: &FailingJob) -> Option<DateTime<Utc>> {
    let first = job.since.as_deref().and_then(|at| at.parse().ok());
    first.or_else(|| job.created_at.to_utc())
}
