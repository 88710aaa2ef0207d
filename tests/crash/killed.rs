//! Worker processes die.

use polar_jobs::release::Release;
use polar_jobs::worker::QueueSlots;

use crate::ledger::Mark;
use crate::process::{Log, Process};
use crate::script::{self, Act, Script};
use crate::test_app::{TestApp, Worker, eventually_some};

pub(crate) fn log() -> (tempfile::TempDir, Log) {
    let directory = tempfile::tempdir().unwrap();
    let log = Log(directory.path().join("log"));
    (directory, log)
}

/// Serves a queue where nothing waits: it only looks after the others.
pub(crate) async fn watcher(app: &TestApp) -> Worker {
    let mut settings = app.settings(1).await;
    settings.queues = vec![QueueSlots {
        queue: "mail".to_owned(),
        slots: 1,
    }];
    Worker::start(settings)
}

#[tokio::test]
async fn the_jobs_of_a_killed_worker_are_done_by_another_and_only_those_in_flight_twice() {
    const JOBS: i64 = 2000;
    const SLOTS: usize = 10;
    let app = TestApp::new().await;
    let (_directory, log) = log();
    let jobs: Vec<_> = (0..JOBS)
        .map(|_| Script::new("n", [vec![Act::Work(20)]]).row())
        .collect();
    let victim = Process::start(&app.url, SLOTS, &log.0);
    let other = Process::start(&app.url, SLOTS, &log.0);
    // Neither may be done before the other has begun.
    let workers = "SELECT count(*) FROM polar_jobs.workers";
    app.until_number(workers, 2).await;
    app.add_all(&jobs).await;
    eventually_some("both are at work", || async {
        let done = [
            log.count(Mark::Ended, victim.pid()),
            log.count(Mark::Ended, other.pid()),
        ];
        if done.iter().all(|done| *done >= 100) {
            Ok(())
        } else {
            Err(format!("{done:?}"))
        }
    })
    .await;
    // Between two batches nothing is in flight, and a kill there would show nothing.
    eventually_some("the victim is stopped in the middle of a job", || async {
        victim.stop();
        let [begun, ended] = [Mark::Started, Mark::Ended].map(|mark| log.count(mark, victim.pid()));
        if begun > ended {
            return Ok(());
        }
        victim.signal("-CONT");
        Err(format!("{begun} began, {ended} ended"))
    })
    .await;
    victim.signal("-9");
    let killed = chrono::Utc::now().timestamp_micros();
    let (victim_pid, mut victim) = (victim.pid(), victim);
    assert!(!victim.end().await);
    app.until_number(
        "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'completed'",
        JOBS,
    )
    .await;
    let repeated = log.repeated();
    assert!(
        !repeated.is_empty() && repeated.len() <= SLOTS,
        "{} jobs ran twice",
        repeated.len()
    );
    for (job, lines) in &repeated {
        assert_eq!(
            lines[0].pid, victim_pid,
            "{job} was in flight where the kill hit: {lines:?}"
        );
        let again = lines.iter().find(|line| line.pid != victim_pid).unwrap();
        assert!(
            again.at - killed < 20_000_000,
            "{job} ran again after {} µs",
            again.at - killed
        );
    }
    let charged = "SELECT count(*) FROM polar_jobs.jobs WHERE errors <> '[]'";
    let charged = app.number(charged).await;
    // What was claimed and had not begun is charged too.
    assert!(
        (repeated.len()..=SLOTS).contains(&usize::try_from(charged).unwrap()),
        "each in flight is charged one death: {charged}"
    );
    other.signal("-TERM");
    let mut other = other;
    assert!(other.end().await, "a clean stop is a good end");
    assert_eq!(app.number(workers).await, 0);
}

#[tokio::test]
async fn a_worker_that_drains_does_not_end_before_it_has_what_a_killed_one_held() {
    let app = TestApp::new().await;
    let (_directory, log) = log();
    let held = Script::new("held", [vec![Act::Hang], vec![]]);
    let (mut victim, id) = Process::start_with_job(&app, &log, held).await;
    victim.signal("-9");
    assert!(!victim.end().await);
    let mut settings = app.settings(1).await;
    settings.drain = true;
    Worker::start(settings).end().await.unwrap();
    let job = app.job(id).await;
    assert_eq!(
        (job.state.as_str(), job.last_error()),
        ("completed", "the worker died")
    );
}

#[tokio::test]
async fn a_job_that_kills_its_process_each_time_ends_as_discarded() {
    let app = TestApp::new().await;
    let (_directory, log) = log();
    let watcher = watcher(&app).await;
    let mut job = Script::new("killer", [vec![Act::Kill]]).row();
    job.max_attempts = 3;
    let event = app
        .number(
            "INSERT INTO polar_jobs.stored_events (source, type) VALUES ('app', 'x') RETURNING id",
        )
        .await;
    let id = app.add(job.caused_by(event)).await;
    let next = app.add(Script::note("next").ordered("k").row()).await;
    for deaths in 1..=3 {
        let mut process = Process::start(&app.url, 4, &log.0);
        assert!(!process.end().await, "the job kills it");
        eventually_some("it is taken back", || async {
            let row = app.job(id).await;
            if row.failures() == deaths {
                Ok(())
            } else {
                Err(format!("{row:?}"))
            }
        })
        .await;
        if deaths < 3 {
            app.due_now(id).await;
        }
    }
    let row = app.job(id).await;
    assert_eq!(
        (row.state.as_str(), row.attempt, row.last_error()),
        ("discarded", 3, "the worker died")
    );
    assert_eq!(app.number(&format!("SELECT count(*) FROM polar_jobs.external_events WHERE id = {event} AND outcome = 'failed'")).await, 1);
    let survivor = Process::start(&app.url, 4, &log.0);
    app.until_state(next, "completed").await;
    drop(survivor);
    watcher.stop().await;
}

#[tokio::test]
async fn a_process_that_slept_beyond_its_lease_changes_nothing_and_ends_badly() {
    let app = TestApp::new().await;
    let (_directory, log) = log();
    let mut sleeper = Process::start(&app.url, 4, &log.0);
    let late = |label: &str, acts: Vec<Act>| {
        // Long enough to be stopped in the middle of it, and over before its jobs are taken back.
        let mut first = vec![Act::Work(2000)];
        first.extend(acts);
        Script::new(label, [first, vec![Act::Hold("go".into())]])
    };
    let jobs = [
        late("batch", vec![]).row(),
        late(
            "within",
            vec![
                Act::Write("late".into()),
                Act::Follow(vec![Script::note("follow")]),
            ],
        )
        .row(),
        late("failing", vec![Act::Fail("late".into())]).row(),
        late("discarding", vec![Act::Discard("late".into())]).row(),
    ];
    let ids = app.add_all(&jobs).await;
    eventually_some("all began", || async {
        if log.count(Mark::Started, sleeper.pid()) == 4 {
            Ok(())
        } else {
            Err(String::new())
        }
    })
    .await;
    sleeper.stop();
    app.execute("UPDATE polar_jobs.workers SET leased_until = now() - interval '1 second'")
        .await;
    let other = app.work(4).await;
    for label in ["batch", "within", "failing", "discarding"] {
        app.ledger.reached(Mark::Started, label, 1).await;
    }
    sleeper.signal("-CONT");
    assert!(!sleeper.end().await, "it says that it lost its lease");
    for id in &ids {
        let row = app.job(id.unwrap()).await;
        assert_eq!(
            (row.state.as_str(), row.attempt, row.failures()),
            ("running", 2, 1),
            "{row:?}"
        );
    }
    app.ledger.open("go");
    app.until_empty().await;
    assert_eq!(
        app.number(
            "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'completed' AND attempt = 2"
        )
        .await,
        4
    );
    assert_eq!(
        app.number("SELECT count(*) FROM polar_jobs.jobs").await,
        4,
        "no follow-up of a late finisher"
    );
    assert_eq!(
        app.number("SELECT count(*) FROM polar_jobs.schedule_ticks")
            .await,
        0
    );
    other.stop().await;
}

#[tokio::test]
async fn a_process_that_freezes_while_it_declares_its_schedules_keeps_no_other_from_starting() {
    let app = TestApp::new().await;
    let mut frozen = app.pool.begin().await.unwrap();
    let release = Release::of(&script::registry());
    release.announce(&mut frozen).await.unwrap();
    let other = app.work(1).await;
    let id = app.add(Script::new("begun", []).row()).await;
    app.until_state(id, "completed").await;
    other.stop().await;
    assert!(frozen.commit().await.is_err(), "Postgres has ended it");
}
