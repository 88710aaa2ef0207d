//! The application: whether it is told what changed, and whether it takes that.

use jobs::app_webhook::AppWebhookSettings;
use sqlx::PgPool;

use super::super::output::{counted, moment};
use super::Finding;

const ABOUT: &str = "application";

pub(super) async fn check(
    pool: &PgPool,
    settings: Option<&AppWebhookSettings>,
) -> Result<Vec<Finding>, sqlx::Error> {
    Ok(vec![messages(pool, settings).await?])
}

/// Whether messages to the application fail, and were given up within the last day.
async fn messages(
    pool: &PgPool,
    settings: Option<&AppWebhookSettings>,
) -> Result<Finding, sqlx::Error> {
    let Some(settings) = settings else {
        let what = "APP_WEBHOOK_URL is not set: the application is not told of changes and reads the tables";
        return Ok(Finding::ok(ABOUT, what));
    };
    let calls = sqlx::query!(
        r#"SELECT count(*) FILTER (WHERE finished_at IS NULL AND errors <> '[]') AS "failing!",
                  min(created_at) FILTER (WHERE finished_at IS NULL AND errors <> '[]') AS since,
                  (array_agg(errors -> -1 ->> 'error' ORDER BY id DESC)
                      FILTER (WHERE finished_at IS NULL AND errors <> '[]'))[1] AS reason,
                  count(*) FILTER (WHERE state = 'discarded' AND finished_at > now() - interval '1 day') AS "discarded!",
                  (SELECT is_set FROM polar_jobs.app_webhook) AS "is_told!"
             FROM polar_jobs.jobs
            WHERE kind = 'call_app' AND (finished_at IS NULL OR finished_at > now() - interval '1 day')"#
    )
    .fetch_one(pool)
    .await?;
    if calls.failing > 0 {
        let since = calls.since.map(|at| format!(" since {}", moment(at)));
        let what = format!(
            "{} to it keep failing{}: {}",
            counted(calls.failing, "message"),
            since.unwrap_or_default(),
            calls.reason.unwrap_or_default()
        );
        let fix = "look at the application's log; it is tried again by itself";
        return Ok(Finding::error(ABOUT, what, fix));
    }
    if calls.discarded > 0 {
        let what = format!(
            "{} to it were given up within the last day",
            counted(calls.discarded, "message")
        );
        let fix = "polar-jobs jobs list --kind call_app --state discarded, then jobs retry";
        return Ok(Finding::warning(ABOUT, what, fix));
    }
    if !calls.is_told {
        let what = "nobody is told of changes: the worker that started last has no APP_WEBHOOK_URL, or none has started since it was set";
        let fix = "give all workers the same settings and restart them";
        return Ok(Finding::warning(ABOUT, what, fix));
    }
    let what = format!("it is told of changes at {}", settings.url);
    Ok(Finding::ok(ABOUT, what))
}
