//! The same with real processes and a real `kill -9`: three workers that die again and again while
//! the application writes and Polar loses answers.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::Utc;
use jobs::mirror::usage::record_all;
use jobs::{MeterUsage, ReportUsage};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use simulator::Faults;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::stage::{Stage, client_of, context, poll, reading, run};

const WORKERS: usize = 3;
const KILLS: usize = 25;

/// Not a test: what a killed worker runs, started by the test below.
#[tokio::test]
#[ignore = "a process for the test below"]
async fn a_worker_that_works_until_it_is_killed() {
    let setting = |name: &str| std::env::var(name).unwrap();
    let Ok(database) = std::env::var("KILLED_DATABASE") else {
        return;
    };
    let pool = PgPoolOptions::new()
        .max_connections(2)
        .connect(&database)
        .await
        .unwrap();
    let polar = client_of(setting("KILLED_POLAR"), setting("KILLED_TOKEN"));
    loop {
        let context = context(&pool, Some(polar.clone()), None, Utc::now());
        // Failures are what the day is about; the next run mends them.
        let _ = run(MeterUsage {}, &context).await;
        let _ = run(ReportUsage {}, &context).await;
    }
}

fn worker(stage: &Stage) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "killed::a_worker_that_works_until_it_is_killed",
        ])
        .env("KILLED_DATABASE", &stage.url)
        .env("KILLED_POLAR", stage.simulator.url())
        .env("KILLED_TOKEN", stage.simulator.access_token())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_killed_at_any_moment_count_every_committed_reading_once() {
    let stage = Stage::set().await;
    let mut dice = StdRng::seed_from_u64(9);
    let mut organizations = Vec::new();
    for _ in 0..5 {
        organizations.push((stage.organization().await, 0));
    }
    stage.simulator.set_faults(
        "500-after=0.1,drop-before=0.1,drop-after=0.1"
            .parse()
            .unwrap(),
    );
    let mut workers: Vec<Child> = (0..WORKERS).map(|_| worker(&stage)).collect();
    for kill in 0..KILLS {
        let until = Instant::now() + Duration::from_millis(dice.random_range(50..250));
        while Instant::now() < until {
            write(&stage, &mut dice, &mut organizations).await;
        }
        let victim = &mut workers[kill % WORKERS];
        victim.kill().unwrap();
        victim.wait().unwrap();
        *victim = worker(&stage);
    }
    let by_workers = stage.ingest_requests();
    for mut worker in workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    assert!(by_workers > 0, "the workers worked");

    stage.simulator.set_faults(Faults::default());
    poll("everything is reported", async || {
        run(MeterUsage {}, &stage.context(Utc::now()))
            .await
            .unwrap();
        stage.report().await.unwrap();
        stage.uncounted().await == 0
    })
    .await;
    for (organization, committed) in organizations {
        assert_eq!(stage.reports(organization, "frozen").await, 0);
        assert_eq!(stage.at_polar(organization), committed);
    }
}

/// One short transaction of the application, committed or not.
async fn write(stage: &Stage, dice: &mut StdRng, organizations: &mut [(Uuid, i64)]) {
    let place = dice.random_range(0..organizations.len());
    let (organization, committed) = &mut organizations[place];
    let quantity = dice.random_range(1..100);
    let mut transaction = stage.pool.begin().await.unwrap();
    record_all(&mut transaction, &[reading(*organization, quantity)])
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(dice.random_range(0..5))).await;
    if dice.random_bool(0.8) {
        transaction.commit().await.unwrap();
        *committed += quantity;
    } else {
        transaction.rollback().await.unwrap();
    }
}
