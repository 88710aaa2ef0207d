//! Jobs that do what their payload says, attempt by attempt.

use std::time::Duration;

use jobs::contract::{Queue, Retry};
use jobs::{Context, Done, Error, Job, NewJob, Registry};
use serde::{Deserialize, Serialize};

use super::ledger::{Entry, Ledger, Mark};

/// One step of an attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Act {
    /// Wait at a barrier of this process.
    Hold(String),
    /// Work for so many milliseconds.
    Work(u64),
    /// Hold up the thread until a barrier of this process opens.
    Block(String),
    /// Write a line into the log.
    Log(String),
    /// Never end.
    Hang,
    /// Never end, and panic when cancelled.
    HangAndPanic,
    /// Begin a transaction, write this note into it, and go on.
    Write(String),
    /// A statement that takes so many seconds.
    SlowStatement(f64),
    Done,
    /// Nothing to do; the reason is when the attempt began, as the job is told.
    Began,
    /// Nothing to do.
    Ignored(String),
    Follow(Vec<Script>),
    Fail(String),
    Discard(String),
    Snooze(f64),
    Panic(String),
    /// End so ("fail", "discard", "ignored", "panic"), with a reason that Postgres cannot store.
    Nul(String),
    /// A follow-up whose payload Postgres cannot store.
    NulFollow,
    /// `kill -9` of the own process.
    Kill,
}

/// A job whose attempt number n does what `acts[n - 1]` says, then always the last of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    pub(crate) label: String,
    #[serde(default)]
    pub(crate) acts: Vec<Vec<Act>>,
    #[serde(default)]
    pub(crate) unique: Option<String>,
    #[serde(default)]
    pub(crate) ordering: Option<String>,
    #[serde(default, skip_serializing)]
    #[allow(dead_code)] // only what is logged looks at it
    pub(crate) external_customer_id: Option<String>,
}

impl Script {
    pub(crate) fn new(label: &str, acts: impl IntoIterator<Item = Vec<Act>>) -> Self {
        Self {
            label: label.to_owned(),
            acts: acts.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Done at once.
    pub(crate) fn note(label: &str) -> Self {
        Self::new(label, [])
    }

    /// Done once the barrier named like the job is open.
    pub(crate) fn hold(label: &str) -> Self {
        Self::new(label, [vec![Act::Hold(label.to_owned())]])
    }

    pub(crate) fn unique(mut self, key: &str) -> Self {
        self.unique = Some(key.to_owned());
        self
    }

    pub(crate) fn ordered(mut self, key: &str) -> Self {
        self.ordering = Some(key.to_owned());
        self
    }

    /// Enqueues it as an application does, in its own transaction.
    pub(crate) async fn enqueue(&self, connection: &mut sqlx::PgConnection) -> Option<i64> {
        let enqueue =
            "SELECT polar_jobs.enqueue('trial', $1, unique_key => $2, ordering_key => $3)";
        sqlx::query_scalar(enqueue)
            .bind(serde_json::to_value(self).unwrap())
            .bind(&self.unique)
            .bind(&self.ordering)
            .fetch_one(connection)
            .await
            .unwrap()
    }

    pub(crate) fn row(&self) -> NewJob {
        NewJob::of(self)
    }

    pub(crate) fn row_in(&self, queue: Queue) -> NewJob {
        NewJob {
            queue,
            ..self.row()
        }
    }

    async fn play(self, context: &Context) -> Result<Done, Error> {
        let ledger = Ledger::of(&context.pool.connect_options());
        let mut running = Running::begin(&ledger, &self.label, context);
        let turn = usize::try_from(context.job.attempt).unwrap() - 1;
        let acts = self
            .acts
            .get(turn)
            .or(self.acts.last())
            .cloned()
            .unwrap_or_default();
        let ended = self.act(acts, context, &running).await;
        running.ended();
        ended
    }

    async fn act(
        &self,
        acts: Vec<Act>,
        context: &Context,
        running: &Running,
    ) -> Result<Done, Error> {
        let mut done = Done::applied();
        for act in acts {
            match act {
                Act::Hold(latch) => running.ledger.pass(&latch).await,
                Act::Work(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
                Act::Block(latch) => running.ledger.block(&latch),
                Act::Log(line) => tracing::info!("{line}"),
                Act::Hang => std::future::pending().await,
                Act::HangAndPanic => {
                    let _panics = PanicsWhenDropped;
                    std::future::pending().await
                }
                Act::Write(note) => {
                    let mut transaction = context.begin().await?;
                    sqlx::query(
                        "INSERT INTO polar_jobs.schedule_ticks (schedule, tick) VALUES ($1, now())",
                    )
                    .bind(note)
                    .execute(&mut *transaction)
                    .await?;
                    done = done.within(transaction);
                }
                Act::SlowStatement(seconds) => {
                    sqlx::query("SELECT pg_sleep($1)")
                        .bind(seconds)
                        .execute(&context.pool)
                        .await?;
                }
                Act::Done => {}
                Act::Began => {
                    let began = context.job.started_at.to_rfc3339();
                    done.outcome = jobs::contract::Outcome::Ignored(began);
                }
                Act::Ignored(reason) => done.outcome = jobs::contract::Outcome::Ignored(reason),
                Act::Follow(scripts) => done = done.then(scripts.iter().map(Script::row)),
                Act::Fail(reason) => return Err(Error::Retry(reason)),
                Act::Discard(reason) => return Err(Error::discard(reason)),
                Act::Snooze(seconds) => {
                    return Err(Error::not_yet("snoozed", Duration::from_secs_f64(seconds)));
                }
                Act::Panic(message) => panic!("{message}"),
                Act::Nul(how) => match how.as_str() {
                    "fail" => return Err(Error::Retry("a\0b".to_owned())),
                    "discard" => return Err(Error::discard("a\0b")),
                    "panic" => panic!("a\0b"),
                    _ => return Ok(Done::ignored("a\0b")),
                },
                Act::NulFollow => done = done.then([Self::note("a\0b").row()]),
                Act::Kill => {
                    let pid = std::process::id().to_string();
                    std::process::Command::new("kill")
                        .args(["-9", &pid])
                        .status()
                        .unwrap();
                    std::future::pending::<()>().await;
                }
            }
        }
        Ok(done)
    }
}

impl Job for Script {
    const KIND: &'static str = "trial";

    fn unique_key(&self) -> Option<String> {
        self.unique.clone()
    }

    fn ordering_key(&self) -> Option<String> {
        self.ordering.clone()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        self.play(context).await
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
/// The same with short limits: an attempt may take 300 ms, a failure is tried again at once.
pub(crate) struct Brief {
    pub(crate) script: Script,
}

impl Job for Brief {
    const KIND: &'static str = "brief_trial";
    const TIMEOUT: Duration = Duration::from_millis(300);
    const RETRY: Retry = Retry {
        attempts: 3,
        first: Duration::from_millis(20),
        ceiling: Duration::from_millis(20),
    };

    async fn run(self, context: &Context) -> Result<Done, Error> {
        self.script.play(context).await
    }
}

pub(crate) fn registry() -> Registry {
    Registry::new().job::<Script>().job::<Brief>()
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// Marks the begin of an attempt, and its end however it comes.
struct Running {
    ledger: std::sync::Arc<Ledger>,
    entry: Entry,
    over: bool,
}

impl Running {
    fn begin(ledger: &std::sync::Arc<Ledger>, label: &str, context: &Context) -> Self {
        let entry = Entry {
            mark: Mark::Started,
            label: label.to_owned(),
            job: context.job.id,
            attempt: context.job.attempt,
        };
        ledger.write(entry.clone());
        Self {
            ledger: std::sync::Arc::clone(ledger),
            entry,
            over: false,
        }
    }

    fn ended(&mut self) {
        self.over = true;
        self.ledger.write(Entry {
            mark: Mark::Ended,
            ..self.entry.clone()
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.ledger.write(Entry {
                mark: Mark::Dropped,
                ..self.entry.clone()
            });
        }
    }
}
