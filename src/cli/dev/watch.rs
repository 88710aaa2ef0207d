//! How far everything is: polls the tables for a condition, with a deadline, and keeps the person
//! in front of the terminal informed.

use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, Utc};
use jobs::mail::Template;
use simulator::Simulator;
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::output;
use super::mails;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Between two lines of summary.
const SUMMARY: Duration = Duration::from_secs(5);

/// Looks at the tables.
pub(super) struct Watch {
    pub(super) pool: PgPool,
    /// The longest that one step may take.
    step_timeout: Duration,
    left_over: LeftOver,
}

/// What an earlier run left: jobs that wait for a later time, and events that are not handled. No step waits for
/// them: the mail about a purchase would look for its order in a minute, at a local Polar that is gone.
struct LeftOver {
    /// A job that was made due since, by something of this run, is one of this run.
    jobs: Vec<i64>,
    due: Vec<DateTime<Utc>>,
    newest_event: i64,
}

/// How far everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) waiting: i64,
    pub(super) running: i64,
    pub(super) completed: i64,
    pub(super) discarded: i64,
    pub(super) pending_events: i64,
    /// Messages to the application that are not delivered. Nothing waits for them: no application may run yet.
    pub(super) messages: i64,
    /// Jobs and events that a step waits for: without messages, and without what an earlier run left.
    pub(super) unfinished: i64,
}

impl Watch {
    /// Begins at what is there now; a step may take so long.
    pub(super) async fn begin(pool: PgPool, step_timeout: Duration) -> Result<Self, sqlx::Error> {
        let left_over = LeftOver::read(&pool).await?;
        Ok(Self {
            pool,
            step_timeout,
            left_over,
        })
    }

    /// Waits until no job of this run waits or runs and every event of it is handled.
    pub(super) async fn jobs_done(&self) -> anyhow::Result<()> {
        self.all_done(None).await
    }

    /// The same, and every delivery of the local Polar has arrived.
    pub(super) async fn all_done(&self, polar: Option<&Simulator>) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.step_timeout;
        let mut last = (Instant::now(), String::new());
        loop {
            let arrived = match polar {
                Some(polar) => polar.deliveries_finished(LOOK).await,
                None => true,
            };
            let progress = self.progress().await?;
            if arrived && progress.is_over() {
                return Ok(());
            }
            let deliveries = if arrived {
                ""
            } else {
                "; deliveries are under way"
            };
            let line = format!("{}{deliveries}", progress.line());
            if Instant::now() >= deadline {
                bail!("not over after {} s: {line}", self.step_timeout.as_secs());
            }
            if last.0.elapsed() >= SUMMARY && last.1 != line {
                let _unread = output::line(&format!("  {line}"));
                last = (Instant::now(), line);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a mail was sent to everybody who manages an organization's billing.
    pub(super) async fn mail_sent(
        &self,
        organization: Uuid,
        template: Template,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.step_timeout;
        while !mails::is_sent(&self.pool, organization, template).await? {
            if Instant::now() >= deadline {
                let line = self.progress().await?.line();
                bail!(
                    "no mail {template} after {} s: {line}",
                    self.step_timeout.as_secs()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// One look.
    pub(super) async fn progress(&self) -> Result<Progress, sqlx::Error> {
        sqlx::query_as!(
            Progress,
            r#"SELECT count(*) FILTER (WHERE state = 'available' AND NOT message) AS "waiting!",
                      count(*) FILTER (WHERE state = 'running' AND NOT message) AS "running!",
                      count(*) FILTER (WHERE state = 'completed' AND NOT message) AS "completed!",
                      count(*) FILTER (WHERE state = 'discarded' AND NOT message) AS "discarded!",
                      (SELECT count(*) FROM polar_jobs.external_events WHERE handled_at IS NULL) AS "pending_events!",
                      count(*) FILTER (WHERE state IN ('available', 'running') AND message) AS "messages!",
                      count(*) FILTER (WHERE state IN ('available', 'running') AND NOT message AND left_over.job IS NULL)
                      + (SELECT count(*) FROM polar_jobs.external_events WHERE handled_at IS NULL AND id > $3) AS "unfinished!"
                 FROM polar_jobs.jobs CROSS JOIN LATERAL (SELECT kind = 'call_app' AS message) kinds
                 LEFT JOIN unnest($1::bigint[], $2::timestamptz[]) AS left_over (job, due)
                      ON left_over.job = id AND left_over.due = run_at AND state = 'available'"#,
            &self.left_over.jobs,
            &self.left_over.due,
            self.left_over.newest_event,
        )
        .fetch_one(&self.pool)
        .await
    }
}

impl LeftOver {
    async fn read(pool: &PgPool) -> Result<Self, sqlx::Error> {
        let read = sqlx::query!(
            r#"SELECT coalesce(array_agg(id ORDER BY id), '{}') AS "jobs!",
                      coalesce(array_agg(run_at ORDER BY id), '{}') AS "due!",
                      (SELECT coalesce(max(id), 0) FROM polar_jobs.external_events) AS "newest_event!"
                 FROM polar_jobs.jobs WHERE state = 'available' AND run_at > clock_timestamp()"#
        );
        let read = read.fetch_one(pool).await?;
        Ok(Self {
            jobs: read.jobs,
            due: read.due,
            newest_event: read.newest_event,
        })
    }
}

impl Progress {
    fn is_over(&self) -> bool {
        self.unfinished == 0
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let Self {
            waiting,
            running,
            completed,
            discarded,
            pending_events,
            messages,
            unfinished: _,
        } = self;
        let mut line = format!(
            "jobs: {waiting} wait, {running} run, {completed} completed, {discarded} discarded; {} not handled yet",
            output::counted(*pending_events, "event")
        );
        if *messages > 0 {
            let messages = output::counted(*messages, "message");
            line.push_str(&format!(
                "; {messages} not delivered to the application yet"
            ));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::Progress;

    #[test]
    fn messages_to_the_application_are_told_and_not_waited_for() {
        let none = Progress {
            waiting: 0,
            running: 0,
            completed: 7,
            discarded: 0,
            pending_events: 0,
            messages: 0,
            unfinished: 0,
        };
        assert!(!none.line().contains("message"));
        let one = Progress {
            messages: 1,
            ..none
        };
        assert!(one.is_over());
        assert!(
            one.line()
                .contains("1 message not delivered to the application yet"),
            "{}",
            one.line()
        );
    }
}
