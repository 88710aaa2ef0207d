//! The fleet at work: who lives, what is paused or late, what was given up, what Polar said to it.

use chrono::TimeDelta;
use jobs::mirror::usage;
use sqlx::PgPool;

use super::super::output::{counted, moment};
use super::{Finding, application, connections};
use crate::config::Config;
use crate::queue::table;
use crate::schedule::overdue;

/// A worker looks at the clock every second, so nobody ticks what is this late.
const OVERDUE_SECONDS: f64 = 120.0;
/// A window closes every five minutes: an older transaction has kept one of them short.
const HORIZON_AGE: TimeDelta = TimeDelta::minutes(5);

pub(super) async fn check(pool: &PgPool, config: &Config, findings: &mut Vec<Finding>) {
    let checked = async {
        findings.push(connections::check(pool, config.database_connections).await?);
        findings.push(workers(pool).await?);
        findings.extend(schedules(pool).await?);
        findings.extend(queues(pool).await?);
        findings.push(discarded(pool).await?);
        findings.push(super::polar::limiter(pool).await?);
        findings.push(application::check(pool, config.app_webhook.as_ref()).await?);
        findings.push(usage(pool).await?);
        Ok::<(), sqlx::Error>(())
    };
    if let Err(error) = checked.await {
        findings.push(Finding::error(
            "database",
            error.to_string(),
            "look at the server's log",
        ));
    }
}

async fn workers(pool: &PgPool) -> Result<Finding, sqlx::Error> {
    let rows = table::workers(pool).await?;
    let alive = rows.iter().filter(|worker| worker.alive).count();
    if alive == 0 {
        return Ok(Finding::warning(
            "workers",
            "none is alive, so no job runs",
            "start polar-jobs worker",
        ));
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
    let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let what = format!("{}, none is late", counted(count, "schedule"));
    Ok(vec![Finding::ok("schedules", what)])
}

async fn queues(pool: &PgPool) -> Result<Vec<Finding>, sqlx::Error> {
    let rows = table::queues(pool).await?;
    let paused: Vec<Finding> = rows
        .iter()
        .filter_map(|queue| {
            let since = queue.paused_at?;
            let what = format!(
                "{} is paused since {}, {} jobs wait",
                queue.name,
                moment(since),
                queue.waiting
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

async fn discarded(pool: &PgPool) -> Result<Finding, sqlx::Error> {
    let count = table::discarded_within_a_day(pool).await?;
    Ok(match count {
        0 => Finding::ok("discarded", "no job was given up in the last 24 h"),
        count => Finding::warning(
            "discarded",
            format!("{} given up in the last 24 h", counted(count, "job")),
            "polar-jobs jobs list --state discarded; then jobs show, jobs retry",
        ),
    })
}

/// What is recorded after the oldest transaction that writes began is counted when that one ends.
async fn usage(pool: &PgPool) -> Result<Finding, sqlx::Error> {
    let holder = usage::horizon_holder(pool).await?;
    let Some(holder) = holder.filter(|holder| holder.age > HORIZON_AGE) else {
        return Ok(Finding::ok(
            "usage",
            "no old transaction keeps it uncounted",
        ));
    };
    let fix = match holder.pid {
        Some(pid) => format!("end it, or SELECT pg_terminate_backend({pid})"),
        None => format!("COMMIT PREPARED or ROLLBACK PREPARED '{}'", holder.name),
    };
    let what = format!("what was recorded since {holder} began is not counted until it ends");
    Ok(Finding::warning("usage", what, fix))
}
