//! Kinds by name, their payload types erased, so that the worker can run a row.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{CatchUp, Context, Done, Error, Job, NewJob, Queue, Retry, Scheduled};

type Running<'a> = Pin<Box<dyn Future<Output = Result<Done, Error>> + Send + 'a>>;

/// One kind of job with its policy.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The kind.
    pub kind: &'static str,
    /// The queue it waits in.
    pub queue: Queue,
    /// Lower runs first.
    pub priority: i16,
    /// How often it is tried after failures, and after which delays.
    pub retry: Retry,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// Whether the sync lag of its events is measured.
    pub syncs: bool,
    run: for<'a> fn(&'a str, &'a Context) -> Running<'a>,
}

/// A kind that the clock starts.
#[derive(Clone, Copy)]
pub struct Schedule {
    /// The schedule's name: its kind.
    pub name: &'static str,
    /// Five cron fields, UTC.
    pub cron: &'static str,
    /// What becomes of missed ticks.
    pub catch_up: CatchUp,
    /// The job of one tick.
    pub job: fn(DateTime<Utc>) -> NewJob,
}

/// Everything this installation runs.
#[derive(Clone, Default)]
pub struct Registry {
    entries: BTreeMap<&'static str, Entry>,
    schedules: Vec<Schedule>,
}

impl Entry {
    /// Decodes the payload, which is JSON, and runs the job. A payload that cannot be decoded discards this one
    /// job and no other.
    ///
    /// # Errors
    /// Whatever the job says, or [`Error::Discard`] for an undecodable payload.
    pub fn run<'a>(&self, payload: &'a str, context: &'a Context) -> Running<'a> {
        (self.run)(payload, context)
    }
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind.
    ///
    /// # Panics
    /// If the kind is registered already: two files cannot answer for one row.
    #[must_use]
    pub fn job<J: Job>(mut self) -> Self {
        let entry = Entry {
            kind: J::KIND,
            queue: J::QUEUE,
            priority: J::PRIORITY,
            retry: J::RETRY,
            timeout: J::TIMEOUT,
            syncs: J::SYNCS,
            run: run_payload::<J>,
        };
        assert!(
            self.entries.insert(J::KIND, entry).is_none(),
            "{} is registered twice",
            J::KIND
        );
        self
    }

    /// Adds a kind that the clock starts.
    #[must_use]
    pub fn scheduled<J: Scheduled>(mut self) -> Self {
        self.schedules.push(Schedule {
            name: J::KIND,
            cron: J::CRON,
            catch_up: J::CATCH_UP,
            job: |tick| NewJob::of(&J::at(tick)),
        });
        self.job::<J>()
    }

    /// The entry of a kind.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&Entry> {
        self.entries.get(kind)
    }

    /// Every kind, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Every schedule.
    #[must_use]
    pub fn schedules(&self) -> &[Schedule] {
        &self.schedules
    }
}

fn run_payload<'a, J: Job>(payload: &'a str, context: &'a Context) -> Running<'a> {
    match decode::<J>(payload) {
        Ok(job) => Box::pin(job.run(context)),
        Err(error) => Box::pin(std::future::ready(Err(error))),
    }
}

fn decode<J: Job>(payload: &str) -> Result<J, Error> {
    // serde's message names field and place; it may quote a value, so only its position is kept.
    serde_json::from_str(payload).map_err(|error| {
        Error::discard(format!(
            "the payload is not one of {}: {} at line {} column {}",
            J::KIND,
            describe(&error),
            error.line(),
            error.column()
        ))
    })
}

/// serde's words without the values it quotes, which may be personal.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match (
        text.find("missing field"),
        text.find("unknown field"),
        text.find("duplicate field"),
    ) {
        (Some(at), ..) | (_, Some(at), _) | (.., Some(at)) => text[at..]
            .split(" at line")
            .next()
            .unwrap_or_default()
            .to_owned(),
        _ => "a value has the wrong type or form".to_owned(),
    }
}
