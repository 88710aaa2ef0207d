//! The product's own processes and real `SIGKILL`s: three workers that die again and again while the
//! application writes, deletes its organizations and makes them anew, and Polar loses answers. At the
//! end Polar holds exactly what was recorded while its organization lived.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use simulator::Faults;
use uuid::Uuid;

use crate::product::{Worker, cost, creation, enqueue_reports, tell, usage};
use crate::test_app::TestApp;

const WORKERS: usize = 3;
const KILLS: usize = 20;
const DEADLINE: Duration = Duration::from_secs(180);

/// An organization as the application knows it.
struct Tenant {
    id: Uuid,
    living: bool,
    usage: i64,
    costs: BTreeSet<String>,
    lives: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_killed_at_any_moment_report_every_life_of_every_organization_once() {
    let app = TestApp::start().await;
    let mut dice = StdRng::seed_from_u64(9);
    let mut tenants = Vec::new();
    for _ in 0..5 {
        let id = Uuid::new_v4();
        tell(&app.pool, "organization.created", creation(id)).await;
        tenants.push(Tenant {
            id,
            living: true,
            usage: 0,
            costs: BTreeSet::new(),
            lives: 1,
        });
    }
    let faults = "500-after=0.05,drop-before=0.05,drop-after=0.05";
    app.simulator.set_faults(faults.parse().unwrap());
    let mut workers: Vec<Worker> = (0..WORKERS).map(|_| Worker::start(&app)).collect();
    let mut steps = 0;
    for kill in 0..KILLS {
        // Somewhere in the middle of the work, however fast the machine is.
        let until = app.simulator.requests().len() + dice.random_range(1..8);
        let deadline = Instant::now() + DEADLINE;
        while app.simulator.requests().len() < until {
            assert!(
                Instant::now() < deadline,
                "nothing happens before kill {kill}"
            );
            steps += 1;
            step(&app, &mut dice, &mut tenants, steps).await;
            enqueue_reports(&app).await;
        }
        workers[kill % WORKERS].kill();
        workers[kill % WORKERS] = Worker::start(&app);
    }
    let by_workers = app.ingest_requests();
    assert!(by_workers > 5, "the workers worked: {by_workers}");
    let lives: usize = tenants.iter().map(|tenant| tenant.lives).sum();
    assert!(lives > 2 * tenants.len(), "there were {lives} lives");

    app.simulator.set_faults(Faults::default());
    finish(&app).await;
    drop(workers);
    for tenant in tenants {
        assert_eq!(
            app.at_polar(tenant.id),
            tenant.usage,
            "usage of {}",
            tenant.id
        );
        let events = app.simulator.events();
        let place = format!("compass_assistant.chat-{}-", tenant.id);
        let costs: Vec<String> = events
            .iter()
            .filter_map(|event| Some(event.external_id.as_ref()?.strip_prefix(&place)?.to_owned()))
            .collect();
        assert_eq!(costs.len(), tenant.costs.len(), "each cost once");
        assert_eq!(
            BTreeSet::from_iter(costs),
            tenant.costs,
            "costs of {}",
            tenant.id
        );
    }
}

/// The application does something, in a short transaction of its own, committed or not. Every tenth
/// step ends or begins the life of an organization.
async fn step(app: &TestApp, dice: &mut StdRng, tenants: &mut [Tenant], number: usize) {
    let place = dice.random_range(0..tenants.len());
    let tenant = &mut tenants[place];
    let mut transaction = app.pool.begin().await.unwrap();
    if number.is_multiple_of(10) {
        let (change, data) = match tenant.living {
            true => ("organization.deleted", json!({ "id": tenant.id })),
            false => ("organization.created", creation(tenant.id)),
        };
        tell(&mut *transaction, change, data).await;
        transaction.commit().await.unwrap();
        tenant.living = !tenant.living;
        tenant.lives += usize::from(tenant.living);
        return;
    }
    let quantity = dice.random_range(1..100);
    let run = Uuid::new_v4().to_string();
    tell(
        &mut *transaction,
        "usage.recorded",
        usage(tenant.id, quantity),
    )
    .await;
    tell(&mut *transaction, "cost.recorded", cost(tenant.id, &run)).await;
    tokio::time::sleep(Duration::from_millis(dice.random_range(0..30))).await;
    if dice.random_bool(0.2) {
        return transaction.rollback().await.unwrap();
    }
    transaction.commit().await.unwrap();
    if tenant.living {
        tenant.usage += quantity;
        tenant.costs.insert(run);
    }
}

/// Waits until the workers have nothing left to count, to report or to delete.
async fn finish(app: &TestApp) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        enqueue_reports(app).await;
        let left: (i64, i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM polar_jobs.usage WHERE written_by >= (SELECT from_xid FROM polar_jobs.usage_cursor)),
                    (SELECT count(*) FROM polar_jobs.usage_reports WHERE state IN ('frozen', 'waiting', 'refused')),
                    (SELECT count(*) FROM polar_jobs.costs WHERE state IN ('waiting', 'refused')),
                    (SELECT count(*) FROM polar_jobs.organizations WHERE erasure_event IS NOT NULL)",
        )
        .fetch_one(&app.pool)
        .await
        .unwrap();
        if left == (0, 0, 0, 0) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "left after {DEADLINE:?}: readings, reports, costs, deletions {left:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
