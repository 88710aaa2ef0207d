//! Recording: by the batch, by SQL, by COPY; no job per reading; ids make it idempotent.

use jobs::mirror::usage::{Recorded, record_all};
use jobs::types::{MAX_QUANTITY, UsageReading};
use uuid::Uuid;

use crate::test_app::{TestApp, reading};

#[tokio::test]
async fn a_batch_is_written_once_however_often_it_comes() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let batch: Vec<UsageReading> = (0..10_000)
        .map(|number| UsageReading {
            external_id: Some(format!("r-{}", number % 9_000)),
            ..reading(organization, 1)
        })
        .collect();
    let mut connection = app.pool.acquire().await.unwrap();
    let first = record_all(&mut connection, &batch).await.unwrap();
    assert_eq!(
        first,
        Recorded {
            accepted: 9_000,
            duplicates: 1_000
        }
    );
    let again = record_all(&mut connection, &batch).await.unwrap();
    assert_eq!(
        again,
        Recorded {
            accepted: 0,
            duplicates: 10_000
        }
    );
    let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM polar_jobs.jobs")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(jobs, 0, "a reading is no job");
}

#[tokio::test]
async fn insert_copy_and_functions_all_count() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let insert = "INSERT INTO polar_jobs.usage (organization_id, quantity) VALUES ($1, 1)";
    sqlx::query(insert)
        .bind(organization)
        .execute(&app.pool)
        .await
        .unwrap();
    let mut connection = app.pool.acquire().await.unwrap();
    let mut copy = connection
        .copy_in_raw("COPY polar_jobs.usage (organization_id, quantity, recorded_at, external_id) FROM STDIN")
        .await
        .unwrap();
    let line = format!(
        "{organization}\t20\t2026-11-01T00:00:00Z\t\\N\n{organization}\t300\t2026-11-01T00:00:00Z\tx\n"
    );
    copy.send(line.into_bytes()).await.unwrap();
    copy.finish().await.unwrap();
    let ids: (Option<i64>, Option<i64>) = sqlx::query_as(
        "SELECT polar_jobs.record_usage($1, 4000), polar_jobs.record_usage($1, 9, null, 'x')",
    )
    .bind(organization)
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    assert!(
        ids.0.is_some() && ids.1.is_none(),
        "an id for a new reading, null for a duplicate: {ids:?}"
    );
    app.meter().await;
    app.report().await.unwrap();
    assert_eq!(app.at_polar(organization), 4321);
}

#[tokio::test]
async fn two_batches_with_the_same_ids_in_another_order_do_not_deadlock() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let forward: Vec<UsageReading> = (0..2_000)
        .map(|number| UsageReading {
            external_id: Some(format!("r-{number}")),
            ..reading(organization, 1)
        })
        .collect();
    let backward: Vec<UsageReading> = forward.iter().rev().cloned().collect();
    let (mut one, mut two) = (
        app.pool.acquire().await.unwrap(),
        app.pool.acquire().await.unwrap(),
    );
    let (one, two) = tokio::join!(
        record_all(&mut one, &forward),
        record_all(&mut two, &backward)
    );
    assert_eq!(one.unwrap().accepted + two.unwrap().accepted, 2_000);
}

#[tokio::test]
async fn a_quantity_out_of_range_is_refused_by_name() {
    let app = TestApp::start().await;
    let mut connection = app.pool.acquire().await.unwrap();
    for quantity in [0, -1, MAX_QUANTITY + 1, i64::MIN] {
        let refused = record_all(&mut connection, &[reading(Uuid::new_v4(), quantity)])
            .await
            .unwrap_err();
        let constraint = refused
            .as_database_error()
            .and_then(|error| error.constraint().map(str::to_owned));
        assert_eq!(constraint.as_deref(), Some("usage_quantity_range"));
    }
    record_all(&mut connection, &[reading(Uuid::new_v4(), MAX_QUANTITY)])
        .await
        .unwrap();
}
