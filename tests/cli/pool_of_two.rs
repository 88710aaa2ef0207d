//! Behind a pooler: what it refuses is reported with the setting that fixes it, and little is enough.

use private_postgres::testing;

use super::support::{Said, borrowed, ended, start};
use super::test_pooler::{Behaviour, TestPooler};

/// The binary must not hold the thread that the pooler needs.
async fn run(settings: Vec<(&'static str, String)>, arguments: &'static [&'static str]) -> Said {
    tokio::task::spawn_blocking(move || {
        let mut settings = borrowed(&settings);
        // What it says waits in a pipe until it ends, and a pipe holds little.
        settings.push(("RUST_LOG", "error"));
        let mut child = start(&settings, arguments);
        assert!(ended(&mut child).is_some(), "{arguments:?} hangs");
        child.said()
    })
    .await
    .unwrap()
}

fn settings(url: &str) -> Vec<(&'static str, String)> {
    vec![
        ("DATABASE_URL", url.to_owned()),
        ("DATABASE_POOLER", "transaction".to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_jobs_at_once_end_behind_a_pooler_with_two_connections() {
    let database = testing::empty_database(polar_jobs::migrate::migrator).await;
    let pooler = TestPooler::before(&database.pool, Behaviour::default()).await;
    let migrations = (0..4).map(|_| tokio::spawn(run(settings(&pooler.url), &["migrate"])));
    for migrated in futures::future::join_all(migrations).await {
        let migrated = migrated.unwrap();
        assert_eq!(migrated.code, Some(0), "{}", migrated.err);
    }
    let created = r#"jsonb_build_object('id', gen_random_uuid(), 'name', 'Acme', 'slug', 'acme', 'owner',
        jsonb_build_object('id', gen_random_uuid(), 'email', 'owner' || n || '@example.com', 'name', 'Olga'))"#;
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT polar_jobs.record_change('organization.created', {created}) FROM generate_series(1, 200) n"
    )))
    .execute(&database.pool)
    .await
    .unwrap();

    let drained = run(settings(&pooler.url), &["worker", "--drain"]).await;
    assert_eq!(drained.code, Some(0), "{}", drained.err);
    let applied: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM polar_jobs.jobs WHERE kind = 'apply_change' AND state = 'completed'",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert_eq!(applied, 200);
    let doctor = run(settings(&pooler.url), &["doctor"]).await;
    assert_eq!(doctor.code, Some(3), "{}", doctor.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_no_setting_names_is_reported_with_its_fix() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let pooler = TestPooler::before(&database.pool, Behaviour::default()).await;
    for arguments in [&["migrate"][..], &["worker", "--drain"], &["doctor"]] {
        let said = run(vec![("DATABASE_URL", pooler.url.clone())], arguments).await;
        assert_eq!(said.code, Some(1), "{arguments:?}");
        let all = said.out + &said.err;
        assert!(all.contains("set DATABASE_POOLER=transaction"), "{all}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_mixes_up_prepared_statements_is_refused_at_the_start() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let behaviour = Behaviour {
        statements_taken: true,
    };
    let pooler = TestPooler::before(&database.pool, behaviour).await;
    for arguments in [
        &["migrate"][..],
        &["worker", "--drain"],
        &["ingress"],
        &["doctor"],
    ] {
        let said = run(settings(&pooler.url), arguments).await;
        assert_eq!(said.code, Some(1), "{arguments:?}: {}", said.err);
        let all = said.out + &said.err;
        assert!(all.contains("max_prepared_statements"), "{all}");
    }
}
