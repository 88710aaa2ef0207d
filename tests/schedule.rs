//! The clock, through its public interface: however many workers look, a tick is one job.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed, and says where

#[path = "wait/mod.rs"]
mod wait;
#[path = "wire/mod.rs"]
mod wire;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use jobs::contract::{CatchUp, Scheduled};
use jobs::{Context, Done, Error, Job, Registry};
use polar_jobs::schedule::{self, Declared, RunNowError, Ticked, Timetable};
use private_postgres::testing::{TestDatabase, database};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool, Row};
use tokio::sync::Barrier;

macro_rules! scheduled {
    ($name:ident, $kind:literal, $cron:literal, $catch_up:expr) => {
        #[derive(Serialize, Deserialize)]
        struct $name {
            tick: DateTime<Utc>,
        }

        impl Job for $name {
            const KIND: &'static str = $kind;

            async fn run(self, _: &Context) -> Result<Done, Error> {
                Ok(Done::applied())
            }
        }

        impl Scheduled for $name {
            const CRON: &'static str = $cron;
            const CATCH_UP: CatchUp = $catch_up;

            fn at(tick: DateTime<Utc>) -> Self {
                Self { tick }
            }
        }
    };
}

scheduled!(Latest, "latest", "*/5 * * * *", CatchUp::Latest);
scheduled!(Skipping, "skipping", "*/5 * * * *", CatchUp::Skip);
scheduled!(Nightly, "nightly", "30 3 * * *", CatchUp::Latest);
scheduled!(Never, "never", "0 0 31 6 *", CatchUp::Latest);

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn timetable(registry: Registry) -> Timetable {
    Timetable::of(&registry).unwrap()
}

async fn started(registry: Registry, now: &str) -> (TestDatabase, Timetable) {
    let database = database(polar_jobs::migrate::migrator).await;
    let timetable = timetable(registry);
    schedule::declare(&database.pool, &timetable, at(now))
        .await
        .unwrap();
    (database, timetable)
}

/// The same with one schedule, `latest`.
async fn started_latest(now: &str) -> (TestDatabase, Timetable) {
    started(Registry::new().scheduled::<Latest>(), now).await
}

async fn tick(pool: &PgPool, timetable: &Timetable, now: DateTime<Utc>) -> Ticked {
    schedule::tick(pool, timetable, now).await.unwrap()
}

/// The ticks for which a job waits, oldest first.
async fn jobs(pool: &PgPool, kind: &str) -> Vec<DateTime<Utc>> {
    sqlx::query_scalar("SELECT (payload->>'tick')::timestamptz AS tick FROM polar_jobs.jobs WHERE kind = $1 ORDER BY tick")
        .bind(kind)
        .fetch_all(pool)
        .await
        .unwrap()
}

async fn next_tick(pool: &PgPool, name: &str) -> DateTime<Utc> {
    sqlx::query_scalar("SELECT next_tick FROM polar_jobs.schedules WHERE name = $1")
        .bind(name)
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn execute(pool: &PgPool, statement: &'static str) {
    sqlx::query(statement).execute(pool).await.unwrap();
}

async fn until(what: &str, pool: &PgPool, condition: &'static str) {
    let holds = || async {
        let holds: bool = sqlx::query_scalar(condition).fetch_one(pool).await.unwrap();
        holds
    };
    wait::eventually(what, holds).await;
}

#[tokio::test]
async fn eight_workers_that_look_at_once_write_one_job_per_tick() {
    let registry = Registry::new()
        .scheduled::<Latest>()
        .scheduled::<Skipping>()
        .scheduled::<Nightly>();
    let (database, timetable) = started(registry, "2026-11-21T03:24:10Z").await;
    for minute in [25, 30, 35] {
        let now = at("2026-11-21T03:00:00Z") + chrono::Duration::minutes(minute);
        let barrier = Arc::new(Barrier::new(8));
        let tickers: Vec<_> = (0..8)
            .map(|_| {
                let (pool, timetable, barrier) = (
                    database.pool.clone(),
                    timetable.clone(),
                    Arc::clone(&barrier),
                );
                tokio::spawn(async move {
                    barrier.wait().await;
                    tick(&pool, &timetable, now).await.written
                })
            })
            .collect();
        let mut written = 0;
        for ticker in tickers {
            written += ticker.await.unwrap();
        }
        assert_eq!(written, if minute == 30 { 3 } else { 2 }, "at {now}");
    }
    let quarter = ["03:25", "03:30", "03:35"].map(|time| at(&format!("2026-11-21T{time}:00Z")));
    assert_eq!(jobs(&database.pool, "latest").await, quarter);
    assert_eq!(jobs(&database.pool, "skipping").await, quarter);
    assert_eq!(
        jobs(&database.pool, "nightly").await,
        [at("2026-11-21T03:30:00Z")]
    );
}

#[tokio::test]
async fn a_tick_comes_at_its_time_and_the_row_says_when_the_next_one_does() {
    let (database, timetable) = started_latest("2026-12-31T23:54:59Z").await;
    let early = tick(&database.pool, &timetable, at("2026-12-31T23:54:59.999Z")).await;
    assert_eq!(
        (early.written, early.next),
        (0, Some(at("2026-12-31T23:55:00Z")))
    );
    let due = tick(&database.pool, &timetable, at("2026-12-31T23:55:00Z")).await;
    assert_eq!(
        (due.written, due.next),
        (1, Some(at("2027-01-01T00:00:00Z")))
    );
    let again = tick(&database.pool, &timetable, at("2026-12-31T23:55:00Z")).await;
    assert_eq!(again.written, 0);
    let row = sqlx::query(
        "SELECT s.last_tick, t.tick, t.job_id, j.id FROM polar_jobs.schedules s
           JOIN polar_jobs.schedule_ticks t ON t.schedule = s.name JOIN polar_jobs.jobs j ON j.id = t.job_id",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert_eq!(
        row.get::<DateTime<Utc>, _>("last_tick"),
        at("2026-12-31T23:55:00Z")
    );
    assert_eq!(row.get::<i64, _>("job_id"), row.get::<i64, _>("id"));
}

#[tokio::test]
async fn a_worker_killed_within_its_transaction_leaves_neither_tick_nor_job() {
    let (database, timetable) = started_latest("2026-11-21T03:24:00Z").await;
    let now = at("2026-11-21T03:25:01Z");
    // Holds the killed one up after it wrote its tick and before it writes the job.
    let mut holder = PgConnection::connect(&database.url).await.unwrap();
    sqlx::query("BEGIN").execute(&mut holder).await.unwrap();
    sqlx::query("LOCK TABLE polar_jobs.live_jobs IN EXCLUSIVE MODE")
        .execute(&mut holder)
        .await
        .unwrap();
    let victim = tokio::spawn({
        let (pool, timetable) = (database.pool.clone(), timetable.clone());
        async move { schedule::tick(&pool, &timetable, now).await }
    });
    const VICTIM: &str =
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO polar_jobs.live_jobs%')";
    until("the tick waits for the job table", &database.pool, VICTIM).await;
    execute(
        &database.pool,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
           AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO polar_jobs.live_jobs%'",
    )
    .await;
    victim.await.unwrap().unwrap_err();
    holder.close().await.unwrap();

    let left: i64 = sqlx::query_scalar("SELECT (SELECT count(*) FROM polar_jobs.schedule_ticks) + (SELECT count(*) FROM polar_jobs.jobs)")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert_eq!(left, 0);
    assert_eq!(
        next_tick(&database.pool, "latest").await,
        at("2026-11-21T03:25:00Z")
    );
    assert_eq!(tick(&database.pool, &timetable, now).await.written, 1);
    assert_eq!(
        jobs(&database.pool, "latest").await,
        [at("2026-11-21T03:25:00Z")]
    );
}

#[tokio::test]
async fn missed_ticks_become_one_job_or_none_as_declared() {
    let registry = Registry::new()
        .scheduled::<Latest>()
        .scheduled::<Skipping>();
    let (database, timetable) = started(registry, "2026-11-20T09:58:00Z").await;
    let ticked = tick(&database.pool, &timetable, at("2026-11-21T03:27:00Z")).await;
    assert_eq!(
        (ticked.written, ticked.next),
        (1, Some(at("2026-11-21T03:30:00Z")))
    );
    assert_eq!(
        jobs(&database.pool, "latest").await,
        [at("2026-11-21T03:25:00Z")]
    );
    assert!(jobs(&database.pool, "skipping").await.is_empty());

    let in_time = tick(&database.pool, &timetable, at("2026-11-21T03:30:20Z")).await;
    assert_eq!(in_time.written, 2);
    assert_eq!(
        jobs(&database.pool, "skipping").await,
        [at("2026-11-21T03:30:00Z")]
    );
}

#[tokio::test]
async fn a_paused_schedule_forgets_its_ticks() {
    let (database, timetable) = started_latest("2026-11-21T03:24:00Z").await;
    execute(
        &database.pool,
        "UPDATE polar_jobs.schedules SET paused_at = now()",
    )
    .await;
    let paused = tick(&database.pool, &timetable, at("2026-11-21T03:41:00Z")).await;
    assert_eq!(
        (paused.written, paused.next),
        (0, Some(at("2026-11-21T03:45:00Z")))
    );
    execute(
        &database.pool,
        "UPDATE polar_jobs.schedules SET paused_at = NULL",
    )
    .await;
    assert_eq!(
        tick(&database.pool, &timetable, at("2026-11-21T03:44:00Z"))
            .await
            .written,
        0
    );
    assert_eq!(
        tick(&database.pool, &timetable, at("2026-11-21T03:45:00Z"))
            .await
            .written,
        1
    );
    assert_eq!(
        jobs(&database.pool, "latest").await,
        [at("2026-11-21T03:45:00Z")]
    );
}

#[tokio::test]
async fn a_tick_that_was_written_is_never_written_again_even_if_the_row_goes_back() {
    let (database, timetable) = started_latest("2026-11-21T03:24:00Z").await;
    let now = at("2026-11-21T03:25:00Z");
    assert_eq!(tick(&database.pool, &timetable, now).await.written, 1);
    execute(
        &database.pool,
        "UPDATE polar_jobs.schedules SET next_tick = '2026-11-21T03:25:00Z'",
    )
    .await;
    assert_eq!(tick(&database.pool, &timetable, now).await.written, 0);
    assert_eq!(
        next_tick(&database.pool, "latest").await,
        at("2026-11-21T03:30:00Z")
    );
}

#[tokio::test]
async fn the_rows_follow_the_release() {
    let (database, two) = started(
        Registry::new().scheduled::<Latest>().scheduled::<Nightly>(),
        "2026-11-21T03:24:00Z",
    )
    .await;
    // A restart changes nothing that is not changed in the release.
    execute(
        &database.pool,
        "UPDATE polar_jobs.schedules SET paused_at = now() WHERE name = 'latest'",
    )
    .await;
    schedule::declare(&database.pool, &two, at("2026-11-21T09:00:00Z"))
        .await
        .unwrap();
    assert_eq!(
        next_tick(&database.pool, "latest").await,
        at("2026-11-21T03:25:00Z")
    );
    // Another cron text moves the next tick, keeps the pause, and belongs to the release that wrote it.
    execute(
        &database.pool,
        "UPDATE polar_jobs.schedules SET cron = '* * * * *' WHERE name = 'nightly'",
    )
    .await;
    assert_eq!(
        tick(&database.pool, &two, at("2026-11-21T03:30:00Z"))
            .await
            .written,
        0
    );
    schedule::declare(&database.pool, &two, at("2026-11-21T04:00:00Z"))
        .await
        .unwrap();
    assert_eq!(
        next_tick(&database.pool, "nightly").await,
        at("2026-11-22T03:30:00Z")
    );
    // What the release no longer knows goes.
    let one = timetable(Registry::new().scheduled::<Nightly>());
    schedule::declare(&database.pool, &one, at("2026-11-21T09:00:00Z"))
        .await
        .unwrap();
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM polar_jobs.schedules")
        .fetch_all(&database.pool)
        .await
        .unwrap();
    assert_eq!(names, ["nightly"]);
}

async fn names(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("SELECT name FROM polar_jobs.schedules ORDER BY name")
        .fetch_all(pool)
        .await
        .unwrap()
}

async fn budget(pool: &PgPool, kind: &str) -> Option<i32> {
    sqlx::query_scalar("SELECT max_attempts FROM polar_jobs.kinds WHERE kind = $1")
        .bind(kind)
        .fetch_optional(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_old_release_that_starts_last_takes_nothing_away() {
    let old = timetable(Registry::new().scheduled::<Latest>());
    let new = Registry::new().scheduled::<Nightly>().scheduled::<Latest>();
    let now = at("2026-11-21T03:24:00Z");
    let (database, _) = started_latest("2026-11-21T03:24:00Z").await;
    let pool = &database.pool;
    let new = timetable(new);
    assert_eq!(
        schedule::declare(pool, &new, now).await.unwrap(),
        Declared::Newest
    );
    // As the new release would: another cron text, another budget.
    execute(
        pool,
        "UPDATE polar_jobs.schedules SET cron = '* * * * *' WHERE name = 'latest'",
    )
    .await;
    execute(
        pool,
        "UPDATE polar_jobs.kinds SET max_attempts = 7 WHERE kind = 'latest'",
    )
    .await;
    assert_eq!(
        schedule::declare(pool, &old, now).await.unwrap(),
        Declared::Outdated
    );
    assert_eq!(names(pool).await, ["latest", "nightly"]);
    assert_eq!(budget(pool, "latest").await, Some(7));
    let ticked = tick(pool, &old, at("2026-11-21T03:40:00Z")).await;
    assert_eq!(ticked.written, 0, "its cron text is not the one that holds");
    // The new one repeats itself, and what it says holds again.
    execute(pool, "DELETE FROM polar_jobs.schedules").await;
    assert_eq!(
        schedule::declare(pool, &old, now).await.unwrap(),
        Declared::Outdated
    );
    assert!(names(pool).await.is_empty());
    assert_eq!(
        schedule::declare(pool, &new, now).await.unwrap(),
        Declared::Newest
    );
    assert_eq!(names(pool).await, ["latest", "nightly"]);
    assert_eq!(budget(pool, "latest").await, Some(20));
}

#[tokio::test]
async fn a_release_that_is_no_longer_seen_leaves_the_say_to_the_one_before_it() {
    let (database, old) = started_latest("2026-11-21T03:24:00Z").await;
    let (pool, now) = (&database.pool, at("2026-11-21T03:24:00Z"));
    let new = timetable(Registry::new().scheduled::<Nightly>());
    schedule::declare(pool, &new, now).await.unwrap();
    execute(
        pool,
        "UPDATE polar_jobs.releases SET last_seen = last_seen - interval '11 minutes'",
    )
    .await;
    assert_eq!(
        schedule::declare(pool, &old, now).await.unwrap(),
        Declared::Newest
    );
    assert_eq!(names(pool).await, ["latest"]);
    // It comes back, and needs no other name to be the newest again.
    assert_eq!(
        schedule::declare(pool, &new, now).await.unwrap(),
        Declared::Newest
    );
    assert_eq!(
        schedule::declare(pool, &old, now).await.unwrap(),
        Declared::Outdated
    );
    assert_eq!(names(pool).await, ["nightly"]);
}

#[tokio::test]
async fn a_higher_version_has_the_say_whoever_was_seen_first() {
    let (database, ours) = started_latest("2026-11-21T03:24:00Z").await;
    let (pool, now) = (&database.pool, at("2026-11-21T03:24:00Z"));
    for (rank, declared) in [
        ("rank[:3] || rank[4] + 1", Declared::Outdated),
        ("ARRAY[rank[1] + 1]", Declared::Outdated),
        ("ARRAY[rank[1] - 1, 99, 0, 0]", Declared::Newest),
    ] {
        execute(
            pool,
            "DELETE FROM polar_jobs.releases WHERE version = 'other'",
        )
        .await;
        let insert = format!(
            "INSERT INTO polar_jobs.releases (version, rank, fingerprint)
             SELECT 'other', {rank}, 'another' FROM polar_jobs.releases"
        );
        sqlx::query(sqlx::AssertSqlSafe(insert))
            .execute(pool)
            .await
            .unwrap();
        assert_eq!(
            schedule::declare(pool, &ours, now).await.unwrap(),
            declared,
            "{rank}"
        );
    }
}

#[tokio::test]
async fn a_schedule_is_overdue_from_its_tick_on_unless_it_is_paused() {
    let registry = Registry::new()
        .scheduled::<Latest>()
        .scheduled::<Skipping>()
        .scheduled::<Nightly>();
    let (database, _) = started(registry, "2026-11-21T03:24:00Z").await;
    let pool = &database.pool;
    execute(
        pool,
        "UPDATE polar_jobs.schedules SET next_tick = now() - interval '10 minutes'",
    )
    .await;
    execute(
        pool,
        "UPDATE polar_jobs.schedules SET paused_at = now() WHERE name = 'skipping'",
    )
    .await;
    execute(
        pool,
        "UPDATE polar_jobs.schedules SET next_tick = '-infinity' WHERE name = 'nightly'",
    )
    .await;
    let overdue = schedule::overdue(pool).await.unwrap();
    let seconds: Vec<f64> = overdue.iter().map(|one| one.seconds).collect();
    assert!((600.0..660.0).contains(&seconds[0]), "{overdue:?}");
    assert!(seconds[1].is_infinite() && seconds[2] <= 0.0, "{overdue:?}");
}

#[tokio::test]
async fn a_tick_at_the_end_of_time_is_moved_like_any_other() {
    let (database, timetable) = started(
        Registry::new().scheduled::<Latest>().scheduled::<Nightly>(),
        "2026-11-21T03:24:00Z",
    )
    .await;
    let pool = &database.pool;
    execute(
        pool,
        "UPDATE polar_jobs.schedules SET next_tick = '-infinity' WHERE name = 'latest'",
    )
    .await;
    execute(
        pool,
        "UPDATE polar_jobs.schedules SET next_tick = 'infinity' WHERE name = 'nightly'",
    )
    .await;
    let ticked = tick(pool, &timetable, at("2026-11-21T03:26:00Z")).await;
    assert_eq!(
        (ticked.written, ticked.next),
        (1, Some(at("2026-11-21T03:30:00Z")))
    );
}

#[tokio::test]
async fn a_schedule_ticks_on_after_the_clock_of_the_database_was_ahead_for_a_while() {
    let registry = Registry::new()
        .scheduled::<Latest>()
        .scheduled::<Skipping>();
    let (database, timetable) = started(registry, "2026-11-21T03:24:00Z").await;
    let pool = &database.pool;
    assert_eq!(
        tick(pool, &timetable, at("2036-01-01T00:00:00Z"))
            .await
            .written,
        2
    );
    let back = at("2026-11-21T03:26:00Z");
    assert_eq!(tick(pool, &timetable, back).await.written, 0);
    schedule::declare(pool, &timetable, back).await.unwrap();
    for name in ["latest", "skipping"] {
        assert_eq!(
            next_tick(pool, name).await,
            at("2026-11-21T03:30:00Z"),
            "{name}"
        );
    }
    let ticked = tick(pool, &timetable, at("2026-11-21T03:30:00Z")).await;
    assert_eq!(ticked.written, 2);
}

#[tokio::test]
async fn workers_that_start_together_agree_on_the_rows() {
    let database = database(polar_jobs::migrate::migrator).await;
    let timetable = timetable(
        Registry::new()
            .scheduled::<Nightly>()
            .scheduled::<Latest>()
            .scheduled::<Skipping>(),
    );
    let barrier = Arc::new(Barrier::new(8));
    let starting: Vec<_> = (0..8)
        .map(|_| {
            let (pool, timetable, barrier) = (
                database.pool.clone(),
                timetable.clone(),
                Arc::clone(&barrier),
            );
            tokio::spawn(async move {
                barrier.wait().await;
                schedule::declare(&pool, &timetable, at("2026-11-21T03:24:00Z")).await
            })
        })
        .collect();
    for start in starting {
        start.await.unwrap().unwrap();
    }
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM polar_jobs.schedules")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert_eq!(rows, 3);
}

#[tokio::test]
async fn a_schedule_is_started_by_hand_without_moving_its_clock() {
    let (database, timetable) = started(
        Registry::new().scheduled::<Nightly>(),
        "2026-11-21T03:24:00Z",
    )
    .await;
    let now = at("2026-11-21T12:34:56.789Z");
    let mut connection = database.pool.acquire().await.unwrap();
    let job = schedule::run_now(&mut connection, &timetable, "nightly", now)
        .await
        .unwrap();
    assert!(job.is_some());
    assert_eq!(
        jobs(&database.pool, "nightly").await,
        [at("2026-11-21T12:34:56Z")]
    );
    assert_eq!(
        next_tick(&database.pool, "nightly").await,
        at("2026-11-21T03:30:00Z")
    );
    let unknown = schedule::run_now(&mut connection, &timetable, "nighty", now)
        .await
        .unwrap_err();
    assert!(matches!(unknown, RunNowError::Unknown { .. }));
    assert_eq!(
        unknown.to_string(),
        "there is no schedule nighty; known are: nightly"
    );
}

#[test]
fn a_schedule_that_cannot_tick_is_refused_at_start_by_name() {
    let refused = Timetable::of(&Registry::new().scheduled::<Latest>().scheduled::<Never>())
        .err()
        .unwrap();
    assert_eq!(
        refused.to_string(),
        "the schedule never has the cron expression `0 0 31 6 *`: no date matches it"
    );
}

#[tokio::test]
async fn the_loop_survives_a_database_that_fails_and_stops_when_told() {
    let database = database(polar_jobs::migrate::migrator).await;
    let timetable = timetable(Registry::new().scheduled::<Latest>());
    let loop_pool = PgPool::connect(&format!(
        "{}{}application_name=clock",
        database.url,
        if database.url.contains('?') { '&' } else { '?' }
    ))
    .await
    .unwrap();
    execute(
        &database.pool,
        "ALTER TABLE polar_jobs.schedules RENAME TO gone",
    )
    .await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(schedule::run(loop_pool, timetable, async move {
        let _ = stopped.await;
    }));
    until(
        "the loop has failed once",
        &database.pool,
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
            AND application_name = 'clock' AND state = 'idle' AND query = 'ROLLBACK')",
    )
    .await;
    execute(
        &database.pool,
        "ALTER TABLE polar_jobs.gone RENAME TO schedules",
    )
    .await;
    until(
        "the rows are there",
        &database.pool,
        "SELECT EXISTS (SELECT FROM polar_jobs.schedules)",
    )
    .await;
    execute(
        &database.pool,
        "UPDATE polar_jobs.schedules SET next_tick = now() - interval '1 hour'",
    )
    .await;
    until(
        "a job is written",
        &database.pool,
        "SELECT EXISTS (SELECT FROM polar_jobs.jobs WHERE kind = 'latest')",
    )
    .await;
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), running)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn whoever_holds_the_row_of_a_schedule_stops_no_other() {
    let registry = Registry::new().scheduled::<Latest>().scheduled::<Nightly>();
    let (database, timetable) = started(registry, "2026-11-21T03:24:00Z").await;
    let pool = &database.pool;
    let hold = async || {
        let mut open = pool.begin().await.unwrap();
        let row = "SELECT FROM polar_jobs.schedules WHERE name = 'nightly' FOR UPDATE";
        sqlx::query(row).execute(&mut *open).await.unwrap();
        open
    };
    let open = hold().await;
    let declared = schedule::declare(pool, &timetable, at("2026-11-21T03:24:00Z")).await;
    assert_eq!(
        declared.unwrap(),
        Declared::Newest,
        "nothing is to be written"
    );
    open.rollback().await.unwrap();

    let other = "UPDATE polar_jobs.schedules SET cron = '* * * * *' WHERE name = 'nightly'";
    execute(pool, other).await;
    let open = hold().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(schedule::run(pool.clone(), timetable, async move {
        let _ = stopped.await;
    }));
    let written = "SELECT EXISTS (SELECT FROM polar_jobs.jobs WHERE kind = 'latest')";
    until("the other one has ticked", pool, written).await;
    open.rollback().await.unwrap();
    let written = "SELECT cron = '30 3 * * *' FROM polar_jobs.schedules WHERE name = 'nightly'";
    until("what was held is as declared", pool, written).await;
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test]
async fn a_look_that_is_given_up_while_its_transaction_begins_leaves_none_open() {
    let registry = Registry::new().scheduled::<Latest>();
    let (TestDatabase { pool, .. }, timetable) = started(registry, "2026-01-01T00:00:30Z").await;
    let wire = wire::Wire::before(&pool);
    let only_one = PgPoolOptions::new().max_connections(1);
    let narrow = only_one.connect(&wire.url).await.unwrap();
    wire.hold_begins();
    tokio::select! {
        ticked = schedule::tick(&narrow, &timetable, at("2026-01-01T00:05:00Z")) => {
            panic!("the answer is kept back: {ticked:?}")
        }
        () = wire.begun() => {}
    }
    wire.release();

    // A write with no transaction of its own, on the connection that was given back.
    let paused = "UPDATE polar_jobs.queues SET paused_at = now() WHERE name = 'mail'";
    sqlx::query(paused).execute(&narrow).await.unwrap();
    let seen = "SELECT count(*) FROM polar_jobs.queues WHERE paused_at IS NOT NULL";
    let seen: i64 = sqlx::query_scalar(seen).fetch_one(&pool).await.unwrap();
    assert_eq!(seen, 1, "the write is committed");
    let ticked = schedule::tick(&narrow, &timetable, at("2026-01-01T00:05:00Z"));
    assert_eq!(ticked.await.unwrap().written, 1);
}
