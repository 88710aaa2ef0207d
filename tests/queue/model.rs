//! Random operations against a small model of the rules, on a real database: after every step the
//! tables must agree with the model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use polar_jobs::operators::Actor;
use polar_jobs::queue::claim::Claimed;
use polar_jobs::queue::ctid::Ctid;
use polar_jobs::queue::finish::{self, Discard, Requeue, RequeueReason};
use polar_jobs::queue::table::{self, Acted, Action};
use polar_jobs::queue::{enqueue, reclaim, release};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sqlx::{Connection, PgConnection, PgPool};

use crate::script::Script;
use crate::test_app::{TestApp, complete_and_claim, completion, register};

const WORKERS: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Enqueue(Vec<(Option<u8>, Option<u8>)>),
    Claim(usize, usize),
    Complete(usize),
    Fail(usize),
    Snooze(usize),
    Discard(usize),
    /// By an operator, a waiting job.
    Cancel(usize),
    /// A worker is taken for dead; a new one takes its place.
    Reclaim(usize),
    /// Ends of a claim that was taken over: they must change nothing.
    LateEnds(usize),
    Pause(bool),
    ReleaseNoted,
    /// By operators, as the commands do it: whatever job it is, in whatever state.
    Operator(Action, usize),
    /// A transaction of the application that stays open, at one of two isolation levels.
    Open(bool, Vec<(Option<u8>, Option<u8>)>),
    /// It ends.
    Close(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // The fourth unique key is the ordering key.
    let keys = || (proptest::option::of(0..4_u8), proptest::option::of(0..3_u8));
    let (keys, keys_of_open) = (keys(), keys());
    let operator = prop_oneof![
        3 => Just(Action::Retry),
        1 => Just(Action::Cancel),
        1 => Just(Action::Discard),
    ];
    let step = prop_oneof![
        4 => proptest::collection::vec(keys, 1..4).prop_map(Step::Enqueue),
        4 => (0..WORKERS, 1..4_usize).prop_map(|(worker, limit)| Step::Claim(worker, limit)),
        3 => any::<prop::sample::Index>().prop_map(|index| Step::Complete(index.index(1000))),
        2 => any::<prop::sample::Index>().prop_map(|index| Step::Fail(index.index(1000))),
        1 => any::<prop::sample::Index>().prop_map(|index| Step::Snooze(index.index(1000))),
        1 => any::<prop::sample::Index>().prop_map(|index| Step::Discard(index.index(1000))),
        1 => any::<prop::sample::Index>().prop_map(|index| Step::Cancel(index.index(1000))),
        1 => (0..WORKERS).prop_map(Step::Reclaim),
        1 => any::<prop::sample::Index>().prop_map(|index| Step::LateEnds(index.index(1000))),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => Just(Step::ReleaseNoted),
        2 => (operator, any::<prop::sample::Index>())
            .prop_map(|(action, index)| Step::Operator(action, index.index(1000))),
        2 => (any::<bool>(), proptest::collection::vec(keys_of_open, 1..4))
            .prop_map(|(repeatable, keys)| Step::Open(repeatable, keys)),
        2 => any::<bool>().prop_map(Step::Close),
    ];
    proptest::collection::vec(step, 1..40)
}

#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
struct Job {
    id: i64,
    state: String,
    unique_key: Option<String>,
    ordering_key: Option<String>,
    blocked: bool,
    attempt: i32,
    failures: i32,
    worker: Option<i64>,
    /// Nobody was given its id, because a job with its unique key waited: it may merge into that one and
    /// leave no trace.
    anonymous: bool,
}

struct Case {
    connection: PgConnection,
    workers: Vec<i64>,
    held: Vec<(i64, Claimed)>,
    late: Vec<(i64, Claimed)>,
    paused: bool,
    before: BTreeMap<i64, Job>,
    pool: PgPool,
    application: PgConnection,
    open: bool,
    /// Jobs whose unique key nobody has looked at yet.
    pending: BTreeSet<i64>,
    /// Somebody put an old job back, or committed late: the head need not be the earliest.
    reordered: bool,
}

impl Case {
    async fn begin(app: &TestApp, isolation: &str) -> Self {
        let mut connection = app.connect().await;
        let level = format!("SET default_transaction_isolation = '{isolation}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(level))
            .execute(&mut connection)
            .await
            .unwrap();
        let clean = "TRUNCATE polar_jobs.live_jobs, polar_jobs.finished_jobs, polar_jobs.workers, polar_jobs.claims, polar_jobs.key_releases, polar_jobs.key_locks;
                     UPDATE polar_jobs.queues SET paused_at = NULL";
        sqlx::raw_sql(clean).execute(&mut connection).await.unwrap();
        let mut case = Self {
            connection,
            workers: vec![],
            held: vec![],
            late: vec![],
            paused: false,
            before: BTreeMap::new(),
            pool: app.pool.clone(),
            application: app.connect().await,
            open: false,
            pending: BTreeSet::new(),
            reordered: false,
        };
        for _ in 0..WORKERS {
            let worker = case.hire().await;
            case.workers.push(worker);
        }
        case
    }

    async fn hire(&mut self) -> i64 {
        register(&mut self.connection).await
    }

    fn take(&mut self, index: usize) -> Option<(i64, Claimed)> {
        (!self.held.is_empty()).then(|| self.held.remove(index % self.held.len()))
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Enqueue(keys) => self.enqueue(keys).await,
            Step::Claim(worker, limit) => self.claim(*worker, *limit).await,
            Step::Complete(index) => {
                if let Some((worker, job)) = self.take(*index) {
                    complete(&mut self.connection, worker, &job).await;
                }
            }
            Step::Fail(index) | Step::Snooze(index) => {
                let reason = match step {
                    Step::Fail(_) => RequeueReason::Failed("x".to_owned()),
                    _ => RequeueReason::Released(None),
                };
                if let Some((worker, job)) = self.take(*index) {
                    requeue(&mut self.connection, worker, &job, reason).await;
                }
            }
            Step::Discard(index) => {
                if let Some((worker, job)) = self.take(*index) {
                    discard(&mut self.connection, worker, &job).await;
                }
            }
            Step::Cancel(index) => {
                let cancel = "SELECT polar_jobs.move_to_history(ARRAY[j], 'cancelled', 'ignored', 'by hand') FROM polar_jobs.live_jobs j
                               WHERE worker IS NULL AND id = (SELECT id FROM polar_jobs.live_jobs WHERE worker IS NULL
                                                               ORDER BY id OFFSET $1 LIMIT 1)";
                sqlx::query(cancel)
                    .bind(i64::try_from(index % 5).unwrap())
                    .execute(&mut self.connection)
                    .await
                    .unwrap();
            }
            Step::Reclaim(index) => {
                let dead = self.workers[*index];
                let over = "UPDATE polar_jobs.workers SET leased_until = now() - interval '1 second' WHERE id = $1";
                sqlx::query(over)
                    .bind(dead)
                    .execute(&mut self.connection)
                    .await
                    .unwrap();
                let suspect = reclaim::Suspect {
                    worker: dead,
                    session: 0,
                    lock_is_free: false,
                };
                assert!(
                    reclaim::remove_dead_worker(&mut self.connection, suspect)
                        .await
                        .unwrap()
                );
                reclaim::reclaim_jobs(&mut self.connection).await.unwrap();
                let (late, held) = std::mem::take(&mut self.held)
                    .into_iter()
                    .partition(|(worker, _)| *worker == dead);
                self.late.extend::<Vec<_>>(late);
                self.held = held;
                self.workers[*index] = self.hire().await;
                // Who kills one worker after the other gets slower; here time passes at once.
                let due = "UPDATE polar_jobs.live_jobs SET run_at = now() WHERE run_at > now()";
                sqlx::query(due)
                    .execute(&mut self.connection)
                    .await
                    .unwrap();
            }
            Step::LateEnds(index) => self.late_ends(*index).await,
            Step::Pause(paused) => {
                self.paused = *paused;
                let pause = "UPDATE polar_jobs.queues SET paused_at = CASE WHEN $1 THEN now() END";
                sqlx::query(pause)
                    .bind(paused)
                    .execute(&mut self.connection)
                    .await
                    .unwrap();
            }
            Step::ReleaseNoted => drop(
                release::release_noted_keys(&mut self.connection)
                    .await
                    .unwrap(),
            ),
            Step::Operator(action, index) => self.operate(*action, *index).await,
            Step::Open(repeatable, keys) => self.open(*repeatable, keys).await,
            Step::Close(commit) => self.close(*commit).await,
        }
    }

    async fn operate(&mut self, action: Action, index: usize) {
        let ids: Vec<i64> = self.before.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[index % ids.len()];
        let acted = table::act(&self.pool, &Actor::of_system(), action, id)
            .await
            .unwrap();
        self.reordered |= matches!(acted, Acted::WaitsAgain { .. });
        if acted == (Acted::Ended { running: true }) {
            let (late, held) = std::mem::take(&mut self.held)
                .into_iter()
                .partition(|(_, job)| job.id == id);
            self.late.extend::<Vec<_>>(late);
            self.held = held;
        }
    }

    async fn open(&mut self, repeatable: bool, keys: &[(Option<u8>, Option<u8>)]) {
        if !self.open {
            let begin = if repeatable {
                "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM polar_jobs.live_jobs"
            } else {
                "BEGIN"
            };
            sqlx::raw_sql(begin)
                .execute(&mut self.application)
                .await
                .unwrap();
            self.open = true;
        }
        for script in keys.iter().map(script) {
            script.enqueue(&mut self.application).await;
        }
    }

    async fn close(&mut self, commit: bool) {
        if std::mem::take(&mut self.open) {
            let end = if commit { "COMMIT" } else { "ROLLBACK" };
            sqlx::raw_sql(end)
                .execute(&mut self.application)
                .await
                .unwrap();
            self.reordered |= commit;
        }
    }

    async fn enqueue(&mut self, keys: &[(Option<u8>, Option<u8>)]) {
        let waiting: BTreeSet<String> = self
            .before
            .values()
            .filter(|job| job.state == "available" && !self.pending.contains(&job.id))
            .filter_map(|job| job.unique_key.clone())
            .collect();
        let scripts: Vec<Script> = keys.iter().map(script).collect();
        let rows: Vec<_> = scripts.iter().map(Script::row).collect();
        let ids = enqueue::insert_all(&mut self.connection, &rows)
            .await
            .unwrap();
        let mut seen = waiting;
        for (script, id) in scripts.iter().zip(&ids) {
            let is_duplicate = script
                .unique
                .as_ref()
                .is_some_and(|key| !seen.insert(key.clone()));
            assert_eq!(id.is_none(), is_duplicate, "{script:?} among {seen:?}");
        }
        let given: Vec<i64> = ids.into_iter().flatten().collect();
        assert!(given.is_sorted(), "ids in the order given: {given:?}");
    }

    async fn claim(&mut self, worker: usize, limit: usize) {
        let worker = self.workers[worker];
        let due = self
            .before
            .values()
            .filter(|job| job.state == "available" && !job.blocked)
            .count();
        let jobs = complete_and_claim(&mut self.connection, worker, &[], limit)
            .await
            .unwrap();
        let expected = if self.paused { 0 } else { due.min(limit) };
        assert_eq!(jobs.len(), expected, "{due} due, limit {limit}");
        self.held.extend(jobs.into_iter().map(|job| (worker, job)));
    }

    async fn late_ends(&mut self, index: usize) {
        if self.late.is_empty() {
            return;
        }
        let (worker, job) = self.late.remove(index % self.late.len());
        let before = self.read().await;
        complete(&mut self.connection, worker, &job).await;
        requeue(
            &mut self.connection,
            worker,
            &job,
            RequeueReason::Failed("late".to_owned()),
        )
        .await;
        discard(&mut self.connection, worker, &job).await;
        assert_eq!(before, self.read().await, "a late end changes nothing");
    }

    async fn read(&mut self) -> BTreeMap<i64, Job> {
        let jobs: Vec<Job> = sqlx::query_as(
            "SELECT id, state, unique_key, ordering_key, blocked, attempt, jsonb_array_length(errors) AS failures, worker,
                    note IS NOT DISTINCT FROM polar_jobs.duplicate_note() AS anonymous FROM polar_jobs.jobs",
        )
        .fetch_all(&mut self.connection)
        .await
        .unwrap();
        jobs.into_iter().map(|job| (job.id, job)).collect()
    }

    async fn check(&mut self, step: &Step) {
        let now = self.read().await;
        // One that has its unique key already, and waits for its turn alone, is a duplicate like any other.
        let pending = "SELECT pending_job FROM polar_jobs.key_releases JOIN polar_jobs.live_jobs l ON l.id = pending_job
                        WHERE l.blocked AND l.held_unique_key IS NOT NULL";
        let pending: Vec<i64> = sqlx::query_scalar(pending)
            .fetch_all(&mut self.connection)
            .await
            .unwrap();
        self.pending = pending.into_iter().collect();
        for (id, old) in &self.before {
            let Some(new) = now.get(id) else {
                assert!(old.anonymous, "{old:?} vanished in {step:?}");
                continue;
            };
            assert!(
                moves(&old.state, &new.state, step),
                "{id}: {} -> {} in {step:?}",
                old.state,
                new.state
            );
            assert!(
                new.attempt >= old.attempt && new.failures >= old.failures,
                "{old:?} -> {new:?}"
            );
        }
        let mut heads: BTreeMap<&str, (i64, Vec<i64>)> = BTreeMap::new();
        let mut waiting = BTreeSet::new();
        for job in now.values() {
            let live = job.state == "available" || job.state == "running";
            if let (true, Some(key)) = (live, job.ordering_key.as_deref()) {
                let entry = heads.entry(key).or_insert((job.id, vec![]));
                if !job.blocked {
                    entry.1.push(job.id);
                }
            }
            if let ("available", Some(key)) = (job.state.as_str(), job.unique_key.as_deref())
                && !self.pending.contains(&job.id)
            {
                assert!(waiting.insert(key), "two wait with {key} after {step:?}");
            }
            assert!(
                !(job.blocked && job.state == "running"),
                "{job:?} runs although blocked"
            );
        }
        for (key, (earliest, unblocked)) in heads {
            assert!(
                unblocked.len() <= 1,
                "{key}: {unblocked:?} free after {step:?}"
            );
            assert!(
                self.reordered || unblocked.iter().all(|id| *id == earliest),
                "{key}: {unblocked:?} free, {earliest} is first, after {step:?}"
            );
        }
        let running: BTreeSet<i64> = now
            .values()
            .filter(|job| job.state == "running")
            .map(|job| job.id)
            .collect();
        let held: BTreeSet<i64> = self.held.iter().map(|(_, job)| job.id).collect();
        assert_eq!(running, held, "after {step:?}");
        self.before = now;
    }

    /// Whatever happened, every job comes to an end.
    async fn finish(&mut self) {
        self.step(&Step::Pause(false)).await;
        self.step(&Step::Close(true)).await;
        for _ in 0..200 {
            while !self.held.is_empty() {
                self.step(&Step::Complete(0)).await;
            }
            self.step(&Step::ReleaseNoted).await;
            self.before = self.read().await;
            self.step(&Step::Claim(0, 100)).await;
            self.check(&Step::Claim(0, 100)).await;
            if self.held.is_empty() {
                break;
            }
        }
        let left: Vec<_> = self
            .before
            .values()
            .filter(|job| job.state == "available" || job.state == "running")
            .collect();
        let notes =
            "SELECT coalesce(string_agg(n::text, ' '), 'none') FROM polar_jobs.key_releases n";
        let notes: String = sqlx::query_scalar(notes)
            .fetch_one(&mut self.connection)
            .await
            .unwrap();
        assert!(left.is_empty(), "never ended: {left:?}, notes: {notes}");
    }
}

fn script((unique, ordering): &(Option<u8>, Option<u8>)) -> Script {
    let ordering = ordering.map(|key| format!("o{key}"));
    Script {
        unique: match unique {
            Some(3) => ordering.clone().or(Some("u3".to_owned())),
            unique => unique.map(|key| format!("u{key}")),
        },
        ordering,
        ..Script::note("model")
    }
}

/// The arrows of docs/states.md.
fn moves(old: &str, new: &str, step: &Step) -> bool {
    match (old, new) {
        (old, new) if old == new => true,
        ("available", "running") => matches!(step, Step::Claim(..)),
        // Merged into a job that comes back, or that waited when the application committed; or by a person.
        ("available", "cancelled") => matches!(
            step,
            Step::Cancel(_)
                | Step::Fail(_)
                | Step::Snooze(_)
                | Step::Reclaim(_)
                | Step::ReleaseNoted
                | Step::Operator(Action::Cancel, _)
        ),
        ("available" | "running", "discarded") if matches!(step, Step::Operator(..)) => true,
        // Of two running jobs with one unique key, the first that comes back is merged into the second.
        ("running", "cancelled") => {
            matches!(step, Step::Reclaim(_) | Step::Operator(Action::Cancel, _))
        }
        ("completed" | "discarded" | "cancelled", "available") => {
            matches!(step, Step::Operator(Action::Retry, _))
        }
        ("running", "completed") => matches!(step, Step::Complete(_)),
        ("running", "available") => {
            matches!(step, Step::Fail(_) | Step::Snooze(_) | Step::Reclaim(_))
        }
        ("running", "discarded") => matches!(step, Step::Discard(_) | Step::Reclaim(_)),
        _ => false,
    }
}

async fn complete(connection: &mut PgConnection, worker: i64, job: &Claimed) {
    let mut done = completion(job);
    // Every fourth one as if its row had moved meanwhile.
    if job.id % 4 == 0 {
        done.ctid = Ctid::default();
    }
    // Odd ones end like those that write: in a transaction of their own.
    if job.id % 2 == 1 {
        let transaction = connection.begin().await.unwrap();
        finish::complete_with(transaction, worker, &done, &[])
            .await
            .unwrap();
    } else {
        complete_and_claim(connection, worker, &[done], 0)
            .await
            .unwrap();
    }
}

async fn requeue(connection: &mut PgConnection, worker: i64, job: &Claimed, reason: RequeueReason) {
    let requeue = Requeue {
        id: job.id,
        attempt: job.attempt,
        delay: Duration::ZERO,
        reason,
    };
    assert!(
        finish::requeue(connection, worker, &[requeue])
            .await
            .unwrap()
            .is_empty()
    );
}

async fn discard(connection: &mut PgConnection, worker: i64, job: &Claimed) {
    let gone = Discard {
        id: job.id,
        attempt: job.attempt,
        reason: "x".to_owned(),
    };
    finish::discard(connection, worker, &[gone]).await.unwrap();
}

#[test]
fn whatever_happens_the_tables_keep_the_rules() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let app = runtime.block_on(TestApp::new());
    let mut runner = TestRunner::new(Config {
        cases: 80,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    });
    let outcome = runner.run(&steps(), |steps| {
        runtime.block_on(async {
            let isolation = if steps.len() % 3 == 0 {
                "repeatable read"
            } else {
                "read committed"
            };
            let mut case = Case::begin(&app, isolation).await;
            for step in &steps {
                case.step(step).await;
                case.check(step).await;
            }
            case.finish().await;
        });
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
