//! What a replay would change, without changing it.
//!
//! The jobs really run, with two differences: their database is one in which nothing stays, and their
//! clients of Polar and of the support desk only read. The first write that a job would send ends its
//! run there, because what follows from it depends on the answer. Follow-ups that only bring Polar, the
//! desk or our tables in step run as well, on what the job before them wrote; all others are named.
//!
//! A shadow holds the rows of the organizations that it is about while it asks Polar; jobs about them
//! wait meanwhile, for [`TIMEOUT`] at most.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use jobs::contract::{Context, Done, Error, Job, JobFacts, Outcome, Registry, Settings};
use jobs::mail::Mailer;
use jobs::{
    ApplyBenefits, ApplyChange, CallApp, NewJob, SendEmail, SyncCustomer, SyncMember,
    SyncSubscription, SyncSupportDesk,
};
use serde::Serialize;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use super::compare::{self, Difference};
use super::sandbox::Sandbox;
use super::{Event, Filter, newest_event};

/// One event's shadow at most.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Jobs of one event that are run; the rest is named.
const JOBS: usize = 20;
/// The kinds whose follow-ups are worth running: they compare and correct, and do nothing else.
const IN_STEP: [&str; 6] = [
    ApplyChange::KIND,
    SyncCustomer::KIND,
    SyncMember::KIND,
    SyncSubscription::KIND,
    SyncSupportDesk::KIND,
    ApplyBenefits::KIND,
];
/// Kinds that do nothing but send something to somebody.
const LEAVING: [&str; 2] = [CallApp::KIND, SendEmail::KIND];
/// What stands in place of a kind where something is said of the event itself.
const NO_KIND: &str = "none";

/// What a replay of one event would do.
#[derive(Clone, Debug, Serialize)]
pub struct Shadow {
    /// The event.
    pub event: i64,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// The jobs, in the order in which they would run.
    pub jobs: Vec<ShadowJob>,
    /// What our tables would say otherwise.
    pub changes: Vec<Difference>,
}

/// How a job would end.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowJob {
    /// Its kind; `none` where this is about the event and no job in particular.
    pub kind: &'static str,
    /// What would come of it.
    pub outcome: ShadowOutcome,
    /// What it would send, or why it ends so.
    pub note: Option<String>,
}

impl ShadowJob {
    fn new(kind: &'static str, outcome: ShadowOutcome, note: Option<String>) -> Self {
        Self {
            kind,
            outcome,
            note,
        }
    }

    /// What is said of the event and of no job in particular.
    fn of_event(outcome: ShadowOutcome, note: String) -> Self {
        Self::new(NO_KIND, outcome, Some(note))
    }
}

/// What would come of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ShadowOutcome {
    /// The end state would be as wanted.
    Applied,
    /// There would be nothing to do.
    Ignored,
    /// It would change something elsewhere.
    Sends,
    /// It would fail.
    Fails,
    /// It was not tried.
    Enqueued,
}

impl ShadowOutcome {
    /// The word in a list and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Ignored => "ignored",
            Self::Sends => "sends",
            Self::Fails => "fails",
            Self::Enqueued => "enqueued",
        }
    }
}

/// A job whose turn is still to come.
struct Pending {
    job: NewJob,
    is_follow_up: bool,
}

impl Pending {
    /// One that the event starts.
    fn started(job: NewJob) -> Self {
        Self {
            job,
            is_follow_up: false,
        }
    }

    fn follow_up(job: NewJob) -> Self {
        Self {
            job,
            is_follow_up: true,
        }
    }

    /// Whether to run it; all others are only named.
    fn is_worth_running(&self) -> bool {
        let kind = &self.job.kind;
        IN_STEP.contains(kind) || !self.is_follow_up && !LEAVING.contains(kind)
    }
}

/// Everything that shadows need.
pub struct Shadows {
    /// The database.
    pub options: PgConnectOptions,
    /// Everything that could run.
    pub registry: Registry,
    /// Polar, if billing is on.
    pub polar: Option<polar::Client>,
    /// What takes mail away, so that jobs decide as with it; no mail is sent.
    pub mail: Option<Mailer>,
    /// What jobs know of the configuration.
    pub settings: Settings,
}

impl Shadows {
    /// Returns what a replay of the events that the filter means would do, oldest first. Changes nothing.
    ///
    /// # Errors
    /// If the database fails, or Polar refuses the token, or it lacks a scope: that tells nothing of a replay.
    pub async fn of(&self, pool: &PgPool, filter: &Filter) -> Result<Vec<Shadow>, Error> {
        let newest = newest_event(pool).await?;
        let (mut shadows, mut after) = (Vec::new(), i64::MIN);
        loop {
            let events = filter.page(pool, after, newest).await?;
            let Some(last) = events.last().map(|event| event.id) else {
                return Ok(shadows);
            };
            for event in &events {
                shadows.push(self.of_event(event).await?);
            }
            after = last;
        }
    }

    async fn of_event(&self, event: &Event) -> Result<Shadow, Error> {
        let mut shadow = Shadow {
            event: event.id,
            event_type: event.event_type.clone(),
            jobs: Vec::new(),
            changes: Vec::new(),
        };
        let jobs = match event.jobs() {
            Ok(jobs) => jobs,
            Err(reason) => {
                let ignored = ShadowJob::of_event(ShadowOutcome::Ignored, reason);
                shadow.jobs.push(ignored);
                return Ok(shadow);
            }
        };
        let sandbox = Sandbox::open(self.options.clone()).await?;
        let played = tokio::time::timeout(TIMEOUT, self.play(&sandbox, event, jobs, &mut shadow));
        let played = played.await;
        sandbox.discard().await;
        match played {
            Ok(played) => played?,
            Err(_) => {
                let given_up = format!("given up after {} s", TIMEOUT.as_secs());
                let fails = ShadowJob::of_event(ShadowOutcome::Fails, given_up);
                shadow.jobs.push(fails);
            }
        }
        Ok(shadow)
    }

    async fn play(
        &self,
        sandbox: &Sandbox,
        event: &Event,
        jobs: Vec<NewJob>,
        shadow: &mut Shadow,
    ) -> Result<(), Error> {
        let pool = &sandbox.0;
        let organizations = concerned(pool, event, &jobs).await?;
        let before = compare::look(pool, &organizations).await?;
        let mut pending: VecDeque<Pending> = jobs.into_iter().map(Pending::started).collect();
        let mut seen = BTreeSet::new();
        while let Some(next) = pending.pop_front() {
            if let Some(key) = &next.job.unique_key
                && !seen.insert(key.clone())
            {
                continue;
            }
            if !next.is_worth_running() || shadow.jobs.len() >= JOBS {
                let enqueued = ShadowJob::new(next.job.kind, ShadowOutcome::Enqueued, None);
                shadow.jobs.push(enqueued);
                continue;
            }
            let (ended, follow_ups) = self.run(pool, event.id, &next.job).await?;
            shadow.jobs.push(ended);
            pending.extend(follow_ups.into_iter().map(Pending::follow_up));
        }
        let after = compare::look(pool, &organizations).await?;
        shadow.changes = compare::differences(&before, &after);
        Ok(())
    }

    async fn run(
        &self,
        pool: &PgPool,
        event: i64,
        job: &NewJob,
    ) -> Result<(ShadowJob, Vec<NewJob>), Error> {
        let ended = |outcome, note| ShadowJob::new(job.kind, outcome, note);
        let Some(entry) = self.registry.get(job.kind) else {
            let fails = ended(ShadowOutcome::Fails, Some("an unknown kind".to_owned()));
            return Ok((fails, Vec::new()));
        };
        let (payload, context) = (job.payload.to_string(), self.context(pool, event, job));
        match entry.run(&payload, &context).await {
            Ok(Done {
                outcome,
                next,
                transaction,
            }) => {
                if let Some(transaction) = transaction {
                    // A savepoint of the sandbox; the follow-ups see what it wrote.
                    transaction.commit().await?;
                }
                let ended = match outcome {
                    Outcome::Applied => ended(ShadowOutcome::Applied, None),
                    Outcome::Ignored(reason) => ended(ShadowOutcome::Ignored, Some(reason)),
                };
                Ok((ended, next))
            }
            Err(error) if is_unsent(&error) => {
                let sends = ended(ShadowOutcome::Sends, Some(error.to_string()));
                Ok((sends, Vec::new()))
            }
            // The workers, whose token may be another, would go on.
            Err(Error::Polar(error)) if error.is_about_token() => Err(error.into()),
            Err(error) => {
                let fails = ended(ShadowOutcome::Fails, Some(error.to_string()));
                Ok((fails, Vec::new()))
            }
        }
    }

    fn context(&self, pool: &PgPool, event: i64, job: &NewJob) -> Context {
        let polar = self.polar.as_ref().map(polar::Client::read_only);
        let polar = polar.map(|polar| match job.subject() {
            Some(subject) => polar.with_subject(&subject),
            None => polar,
        });
        let mut settings = self.settings.clone();
        if let Some(support_desk) = &mut settings.support_desk {
            support_desk.client = support_desk.client.read_only();
        }
        Context {
            polar,
            mail: self.mail.clone(),
            pool: pool.clone(),
            settings: Arc::new(settings),
            job: JobFacts {
                id: 0,
                attempt: 1,
                failures: 0,
                max_attempts: 20,
                events: vec![event],
                started_at: Utc::now(),
            },
        }
    }
}

fn is_unsent(error: &Error) -> bool {
    matches!(
        error,
        Error::Polar(polar::Error::NotSent { .. }) | Error::Plain(plain::Error::NotSent { .. })
    )
}

/// The organizations that an event and its jobs are about.
async fn concerned(
    pool: &PgPool,
    event: &Event,
    jobs: &[NewJob],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let data = event.change.as_ref();
    let named = ["organization_id", "id"]
        .iter()
        .filter_map(|key| data?.get(key)?.as_str());
    let subjects = jobs.iter().filter_map(NewJob::subject);
    let mut organizations = BTreeSet::new();
    for id in named.map(str::to_owned).chain(subjects) {
        if let Ok(id) = Uuid::try_parse(&id) {
            organizations.extend(compare::organizations(pool, id).await?);
        }
    }
    Ok(organizations.into_iter().collect())
}
