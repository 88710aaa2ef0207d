//! What people and gauges ask of the table of jobs while very many wait in it.

use polar_jobs::queue::fleet::backlogs;
use polar_jobs::queue::table::{Filter, State, list};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::test_app::TestApp;

const WAITING: i64 = 20_000;

/// An application whose jobs nearly all wait in one queue, as its statistics say.
async fn app_with_a_backlog() -> TestApp {
    let app = TestApp::new().await;
    let insert = "INSERT INTO polar_jobs.live_jobs (kind, payload) SELECT 'a_kind', '{}' FROM generate_series(1, $1)";
    let mut connection = app.pool.acquire().await.unwrap();
    sqlx::query(insert)
        .bind(WAITING)
        .execute(&mut *connection)
        .await
        .unwrap();
    sqlx::query("VACUUM ANALYZE polar_jobs.live_jobs")
        .execute(&mut *connection)
        .await
        .unwrap();
    app
}

/// How many rows of what waits are read while somebody looks. A session counts them when it ends at the latest.
async fn rows_read(app: &TestApp, look: impl AsyncFnOnce(&PgPool)) -> i64 {
    const READ: &str = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables
                         WHERE relid = 'polar_jobs.live_jobs'::regclass";
    const LOOKING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'a look'";
    let before = app.number(READ).await;
    let options: PgConnectOptions = app.url.parse().unwrap();
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(options.application_name("a look"))
        .await
        .unwrap();
    look(&pool).await;
    pool.close().await;
    app.until_number(LOOKING, 0).await;
    app.number(READ).await - before
}

#[tokio::test]
async fn the_gauges_of_an_empty_queue_do_not_search_the_backlog_of_another() {
    let app = app_with_a_backlog().await;
    let read = rows_read(&app, async |pool| {
        let depths: Vec<_> = backlogs(pool).await.unwrap();
        let deepest = depths.iter().max_by_key(|one| one.depth).unwrap();
        assert_eq!((deepest.queue.as_str(), deepest.depth), ("default", 10_000));
    })
    .await;
    assert!(read < WAITING, "{read} rows were read");
}

#[tokio::test]
async fn a_list_of_what_failed_does_not_search_what_waits() {
    let app = app_with_a_backlog().await;
    for state in [State::Discarded, State::Cancelled, State::Completed] {
        let filter = Filter {
            state: Some(state),
            limit: Some(20),
            ..Filter::default()
        };
        let read = rows_read(&app, async |pool| {
            assert!(list(pool, &filter).await.unwrap().is_empty());
        })
        .await;
        assert_eq!(read, 0, "{}", state.name());
    }
}
