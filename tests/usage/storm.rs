//! Bad days, two hundred of them, each from a seed: transactions that stay open across windows,
//! rollbacks, duplicates, three workers, deaths at any point, lost answers, 429 and 5xx. At the
//! end of every day Polar holds exactly what was committed.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use jobs::mirror::usage::record_all;
use jobs::types::UsageReading;
use jobs::{Job, MeterUsage, ReportUsage};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use simulator::{Faults, RequestMatch};
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::local_polar::LocalPolar;
use crate::test_app::{TestApp, client, context, local_polar, reading, run};
use crate::wait::eventually;

const RUNS: u64 = 200;
const WRITERS: usize = 8;
const STEPS: usize = 70;
const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polar_holds_exactly_what_was_committed_after_each_of_two_hundred_bad_days() {
    let app = Arc::new(TestApp::start().await);
    let mut seen = Seen::default();
    for seed in 0..RUNS {
        let day = Day::dawn(&app, seed).await.live().await;
        seen.add(&day);
    }
    // A storm that never blew proves nothing.
    println!("{seen:?}");
    assert!(
        seen.late_commits > 200 && seen.rollbacks > 200 && seen.duplicates > 200,
        "{seen:?}"
    );
    assert!(
        seen.deaths > 200 && seen.failed_calls > 50 && seen.resent > 100,
        "{seen:?}"
    );
}

/// What the days were like.
#[derive(Debug, Default)]
struct Seen {
    readings: u64,
    duplicates: u64,
    rollbacks: u64,
    late_commits: u64,
    deaths: u64,
    failed_calls: u64,
    resent: i64,
}

impl Seen {
    fn add(&mut self, day: &Self) {
        self.readings += day.readings;
        self.duplicates += day.duplicates;
        self.rollbacks += day.rollbacks;
        self.late_commits += day.late_commits;
        self.deaths += day.deaths;
        self.failed_calls += day.failed_calls;
        self.resent += day.resent;
    }
}

/// An application's connection with what it has written and not committed.
#[derive(Default)]
struct Writer {
    transaction: Option<Transaction<'static, Postgres>>,
    sums: BTreeMap<Uuid, i64>,
    ids: BTreeSet<String>,
    committed_ids: BTreeSet<String>,
    windows_at_begin: usize,
}

struct Day {
    pool: PgPool,
    simulator: LocalPolar,
    polar: polar::Client,
    self_organization: Uuid,
    dice: StdRng,
    seed: u64,
    organizations: Vec<Uuid>,
    /// Not created at dawn.
    newcomer: Uuid,
    writers: Vec<Writer>,
    committed: BTreeMap<Uuid, i64>,
    windows: usize,
    seen: Seen,
}

impl Day {
    async fn dawn(app: &TestApp, seed: u64) -> Self {
        let simulator = local_polar(seed).await;
        let polar = client(&simulator);
        let mut organizations = Vec::new();
        for _ in 0..4 {
            organizations.push(app.organization().await);
        }
        let newcomer = Uuid::new_v4();
        organizations.extend([newcomer, app.self_organization]);
        simulator.set_faults(
            "429=0.08,500-before=0.08,500-after=0.08,drop-before=0.08,drop-after=0.1"
                .parse()
                .unwrap(),
        );
        Self {
            pool: app.pool.clone(),
            simulator,
            polar,
            self_organization: app.self_organization,
            dice: StdRng::seed_from_u64(seed),
            seed,
            organizations,
            newcomer,
            writers: std::iter::repeat_with(Writer::default)
                .take(WRITERS)
                .collect(),
            committed: BTreeMap::new(),
            windows: 0,
            seen: Seen::default(),
        }
    }

    async fn live(mut self) -> Seen {
        for step in 0..STEPS {
            match self.dice.random_range(0..100) {
                0..60 => self.write().await,
                60..76 => self.meter().await,
                _ => self.report().await,
            }
            if step == STEPS / 2 {
                create(&self.pool, self.newcomer).await;
            }
        }
        self.dusk().await;
        self.seen
    }

    /// One writer takes one step of its transaction.
    async fn write(&mut self) {
        let place = self.dice.random_range(0..WRITERS);
        let mut writer = std::mem::take(&mut self.writers[place]);
        match writer.transaction.take() {
            None => {
                writer.transaction = Some(self.pool.begin().await.unwrap());
                writer.windows_at_begin = self.windows;
                self.insert(place, &mut writer).await;
            }
            Some(transaction) => match self.dice.random_range(0..10) {
                0..5 => {
                    writer.transaction = Some(transaction);
                    self.insert(place, &mut writer).await;
                }
                5..8 => {
                    transaction.commit().await.unwrap();
                    self.seen.late_commits += u64::from(self.windows > writer.windows_at_begin);
                    for (organization, sum) in std::mem::take(&mut writer.sums) {
                        *self.committed.entry(organization).or_default() += sum;
                    }
                    writer.committed_ids.append(&mut writer.ids);
                }
                _ => {
                    transaction.rollback().await.unwrap();
                    self.seen.rollbacks += 1;
                    writer.sums.clear();
                    writer.ids.clear();
                }
            },
        }
        self.writers[place] = writer;
    }

    /// Readings, some with ids that were used before, sometimes in a savepoint that is rolled back.
    async fn insert(&mut self, place: usize, writer: &mut Writer) {
        let transaction = writer.transaction.as_mut().unwrap();
        if self.dice.random_bool(0.2) {
            sqlx::query("SAVEPOINT s")
                .execute(&mut **transaction)
                .await
                .unwrap();
            let lost = reading(self.organizations[0], 1_000_000);
            record_all(transaction, &[lost]).await.unwrap();
            sqlx::query("ROLLBACK TO s")
                .execute(&mut **transaction)
                .await
                .unwrap();
        }
        let mut readings = Vec::new();
        for _ in 0..self.dice.random_range(1..15) {
            let organization =
                self.organizations[self.dice.random_range(0..self.organizations.len())];
            let mut new = reading(organization, self.dice.random_range(1..1000));
            if self.dice.random_bool(0.5) {
                // Ids are a writer's own: two writers with one id would wait for each other.
                new.external_id = Some(format!(
                    "{}-{place}-{}",
                    self.seed,
                    self.dice.random_range(0..30)
                ));
            }
            readings.push(new);
        }
        let recorded = record_all(transaction, &readings).await.unwrap();
        let mut expected = 0;
        for reading in readings {
            expected += u64::from(writer.expect(reading));
        }
        assert_eq!(recorded.accepted, expected, "seed {}", self.seed);
        self.seen.readings += recorded.accepted;
        self.seen.duplicates += recorded.duplicates;
    }

    /// A tick: one worker, or two at once, or one that dies at some point.
    async fn meter(&mut self) {
        let context = self.context();
        match self.dice.random_range(0..4) {
            0 => {
                let (one, two) =
                    tokio::join!(run(MeterUsage {}, &context), run(MeterUsage {}, &context));
                one.unwrap();
                two.unwrap();
            }
            1 => {
                let polls = self.dice.random_range(1..20);
                self.seen.deaths +=
                    u64::from(!dies_after(polls, run(MeterUsage {}, &context)).await);
            }
            2 => {
                // Frozen, but dead before the worker commits.
                drop(MeterUsage {}.run(&context).await.unwrap());
                self.seen.deaths += 1;
            }
            _ => drop(run(MeterUsage {}, &context).await.unwrap()),
        }
        self.windows += 1;
    }

    /// A report: three workers at once, or one that dies somewhere between sending and storing the answer.
    async fn report(&mut self) {
        let context = self.context();
        match self.dice.random_range(0..5) {
            0 => {
                let job = || run(ReportUsage {}, &context);
                let (one, two, three) = tokio::join!(job(), job(), job());
                self.seen.failed_calls += [one.is_err(), two.is_err(), three.is_err()]
                    .map(u64::from)
                    .iter()
                    .sum::<u64>();
            }
            1 | 2 => {
                let polls = self.dice.random_range(1..40);
                self.seen.deaths +=
                    u64::from(!dies_after(polls, run(ReportUsage {}, &context)).await);
            }
            3 => self.die_before_the_answer().await,
            _ => self.seen.failed_calls += u64::from(run(ReportUsage {}, &context).await.is_err()),
        }
    }

    /// Polar has committed, we are dead.
    async fn die_before_the_answer(&mut self) {
        let held = self
            .simulator
            .hold(RequestMatch::path("/v1/events/ingest").after_commit());
        let context = self.context();
        let worker = tokio::spawn(async move { run(ReportUsage {}, &context).await });
        eventually("the request is held, or was never made", async || {
            held.arrived() > 0 || worker.is_finished()
        })
        .await;
        self.seen.deaths += u64::from(!worker.is_finished());
        worker.abort();
        let _ = worker.await;
    }

    /// Everything ends; then the books are compared.
    async fn dusk(&mut self) {
        for writer in &mut self.writers {
            if let Some(transaction) = writer.transaction.take() {
                transaction.commit().await.unwrap();
                for (organization, sum) in std::mem::take(&mut writer.sums) {
                    *self.committed.entry(organization).or_default() += sum;
                }
            }
        }
        self.simulator.set_faults(Faults::default());
        let context = self.context();
        let work = eventually("everything is reported", async || {
            run(MeterUsage {}, &context).await.unwrap();
            run(ReportUsage {}, &context).await.unwrap();
            unreported(&self.pool).await == 0
        });
        tokio::time::timeout(TIMEOUT, work).await.unwrap();
        for &organization in &self.organizations {
            let committed = self.committed.get(&organization).copied().unwrap_or(0);
            let expected = if organization == self.self_organization {
                0
            } else {
                committed
            };
            let at_polar = self
                .simulator
                .event_sum("event_ingestion", &organization.to_string());
            assert_eq!(
                at_polar, expected,
                "seed {}, organization {organization}",
                self.seed
            );
        }
        self.seen.resent = sqlx::query_scalar(
            "WITH gone AS (DELETE FROM polar_jobs.usage_requests r WHERE NOT EXISTS (
                 SELECT 1 FROM polar_jobs.usage_reports u WHERE u.request_id = r.id) RETURNING 0)
             SELECT count(*) FROM polar_jobs.usage_reports
              WHERE answer <> 'inserted' AND organization_id = ANY ($1)",
        )
        .bind(&self.organizations)
        .fetch_one(&self.pool)
        .await
        .unwrap();
    }

    fn context(&self) -> jobs::Context {
        context(
            &self.pool,
            Some(self.polar.clone()),
            Some(self.self_organization),
        )
    }
}

impl Writer {
    /// Whether a reading is new to the table, as this writer sees it.
    fn expect(&mut self, reading: UsageReading) -> bool {
        if let Some(id) = reading.external_id
            && (self.committed_ids.contains(&id) || !self.ids.insert(id))
        {
            return false;
        }
        *self.sums.entry(reading.organization_id).or_default() += reading.quantity;
        true
    }
}

async fn create(pool: &PgPool, organization: Uuid) {
    sqlx::query(
        "INSERT INTO polar_jobs.organizations (id, name, slug, status, event_id, polar_customer_id)
         VALUES ($1, 'New', 'new', 'active', 0, gen_random_uuid())",
    )
    .bind(organization)
    .execute(pool)
    .await
    .unwrap();
}

async fn unreported(pool: &PgPool) -> i64 {
    sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM polar_jobs.usage
                  WHERE written_by >= (SELECT from_xid FROM polar_jobs.usage_cursor))
              + (SELECT count(*) FROM polar_jobs.usage_reports WHERE state IN ('frozen', 'waiting', 'refused'))",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

/// Drives a job through `polls` steps and then drops it, wherever it is. True if it was done before.
async fn dies_after<F: Future>(polls: usize, job: F) -> bool {
    let mut job = pin!(job);
    let mut left = polls;
    std::future::poll_fn(move |waker| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        job.as_mut().poll(waker).map(|_| true)
    })
    .await
}
