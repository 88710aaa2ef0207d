//! The fleet at work: who lives, what is paused, late, refused or discarded, what Polar said to it.

use sqlx::PgPool;

use super::super::output::{counted, moment};
use super::{Finding, application, connections, failing, in_step, usage};
use crate::config::Config;
use crate::queue::fleet::{COUNTED, discarded as discarded_jobs};
use crate::queue::table;
use crate::schedule::overdue;

/// A worker looks at the clock every second, so nobody ticks what is this late.
const OVERDUE_SECONDS: f64 = 120.0;

/// Ends with the first question that the database does not answer.
pub(super) async fn check(pool: &PgPool, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let checked = async {
        findings.extend(connections::check(pool, config.database_connections).await?);
        findings.push(workers(pool).await?);
        findings.extend(schedules(pool).await?);
        findings.extend(queues(pool).await?);
        findings.extend(deliveries(pool).await?);
        findings.extend(failing::check(pool).await?);
        findings.push(discarded(pool).await?);
        findings.extend(in_step::check(pool, config.self_organization()).await?);
        findings.push(super::polar::limiter(pool).await?);
        findings.extend(application::check(pool, config.app_webhook.as_ref()).await?);
        findings.extend(usage::check(pool).await?);
        Ok::<(), sqlx::Error>(())
    };
    if let Err(error) = checked.await {
        findings.push(super::database::failed(&error));
    }
    findings
}

async fn workers(pool: &PgPool) -> Result<Finding, sqlx::Error> {
    let rows = table::workers(pool).await?;
    let alive = rows.iter().filter(|worker| worker.alive).count();
    if alive == 0 {
        let what = match rows.last() {
            Some(dead) => format!(
                "none is alive, so no job runs; the last one was process {} on {}",
                dead.pid, dead.host
            ),
            None => "none is alive, so no job runs".to_owned(),
        };
        return Ok(Finding::warning("workers", what, "start polar-jobs worker"));
    }
    let ours = env!("CARGO_PKG_VERSION");
    let others = rows
        .iter()
        .filter(|worker| worker.alive && worker.version != ours)
        .count();
    if others > 0 {
        let what = format!("{others} of {alive} run another release than {ours}");
        return Ok(Finding::warning("workers", what, "finish the roll-out"));
    }
    Ok(Finding::ok("workers", format!("{alive} alive")))
}

/// Those that should have ticked and did not.
async fn schedules(pool: &PgPool) -> Result<Vec<Finding>, sqlx::Error> {
    let rows = overdue(pool).await?;
    let late: Vec<Finding> = rows
        .iter()
        .filter(|row| row.seconds > OVERDUE_SECONDS)
        .map(|row| {
            let minutes = row.seconds / 60.0;
            let what = format!("{} should have ticked {minutes:.0} min ago", row.schedule);
            let fix = "start a worker of this release; if one lives, its log says why it cannot";
            Finding::error("schedule", what, fix)
        })
        .collect();
    if !late.is_empty() {
        return Ok(late);
    }
    let what = format!("{}, none is late", counted(rows.len(), "schedule"));
    Ok(vec![Finding::ok("schedules", what)])
}

async fn queues(pool: &PgPool) -> Result<Vec<Finding>, sqlx::Error> {
    let rows = table::queues(pool).await?;
    let paused: Vec<Finding> = rows
        .iter()
        .filter_map(|queue| {
            let since = queue.paused_at?;
            let what = format!(
                "{} is paused since {}, {} waiting",
                queue.name,
                moment(since),
                counted(queue.waiting, "job")
            );
            Some(Finding::warning(
                "queue",
                what,
                format!("polar-jobs queues resume {}", queue.name),
            ))
        })
        .collect();
    if !paused.is_empty() {
        return Ok(paused);
    }
    let (ready, running) = rows.iter().fold((0, 0), |(ready, running), row| {
        (ready + row.ready, running + row.running)
    });
    Ok(vec![Finding::ok(
        "queues",
        format!(
            "none is paused; {} ready, {running} running",
            counted(ready, "job")
        ),
    )])
}

/// Those that nobody has retried or acknowledged.
async fn discarded(pool: &PgPool) -> Result<Finding, sqlx::Error> {
    let count = discarded_jobs(pool).await?;
    Ok(match count {
        0 => Finding::ok("discarded", "no discarded job waits for a look"),
        count => Finding::warning(
            "discarded",
            format!(
                "{} neither retried nor acknowledged",
                at_most_counted(count, "discarded job")
            ),
            "polar-jobs jobs list --state discarded; then jobs show, jobs retry or jobs acknowledge",
        ),
    })
}

/// A count that stops at [`COUNTED`].
pub(super) fn at_most_counted(count: impl TryInto<i64>, one: &str) -> String {
    match count.try_into().unwrap_or(i64::MAX) {
        COUNTED => format!("{COUNTED} or more {one}s"),
        count => counted(count, one),
    }
}

/// Deliveries that fit no secret, as any ingress noted them.
async fn deliveries(pool: &PgPool) -> Result<Vec<Finding>, sqlx::Error> {
    const FIX: &str = "set POLAR_WEBHOOK_SECRET to the secret of Polar's endpoint and restart the ingress; \
                       then polar-jobs resync --all --yes makes up for what was missed";
    let Some(refused) = crate::ingress::refused_deliveries(pool).await? else {
        return Ok(Vec::new());
    };
    let what = format!(
        "{} fit no secret of ours since {}, the last one at {}",
        counted(refused.deliveries, "delivery"),
        moment(refused.since),
        moment(refused.last_at)
    );
    Ok(match (refused.accepted_since, refused.is_recent) {
        (false, _) => vec![Finding::error("refused", what, FIX)],
        (true, true) => vec![Finding::warning(
            "refused",
            format!("{what}; others fit: a second endpoint has another secret"),
            "add its secret to POLAR_WEBHOOK_SECRET, or delete the endpoint at Polar",
        )],
        (true, false) => Vec::new(),
    })
}
