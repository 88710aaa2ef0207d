//! How far everything is: polls the tables for a condition, with a deadline, and keeps the person
//! in front of the terminal informed.

use std::time::Duration;

use anyhow::bail;
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
    pub(super) step_timeout: Duration,
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
}

impl Watch {
    /// Waits until no job waits or runs and every event is handled.
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
                      count(*) FILTER (WHERE state IN ('available', 'running') AND message) AS "messages!"
                 FROM polar_jobs.jobs CROSS JOIN LATERAL (SELECT kind = 'call_app' AS message) kinds"#
        )
        .fetch_one(&self.pool)
        .await
    }
}

impl Progress {
    fn is_over(&self) -> bool {
        self.waiting == 0 && self.running == 0 && self.pending_events == 0
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
