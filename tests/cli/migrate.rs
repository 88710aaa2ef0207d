//! `migrate`

use private_postgres::testing;

use super::support::{start, with_database};

#[tokio::test]
async fn eight_processes_migrate_one_empty_database_at_once() {
    let database = testing::empty_database(polar_jobs::migrate::migrator).await;
    let settings = [("DATABASE_URL", database.url.as_str())];
    let children: Vec<_> = (0..8).map(|_| start(&settings, &["migrate"])).collect();
    for child in children {
        let said = child.said();
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
    let again = with_database(&database.url, &["migrate"]);
    assert_eq!(again.code, Some(0), "{}", again.err);
    let kinds: i64 = sqlx::query_scalar("SELECT count(*) FROM polar_jobs.kinds")
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert!(
        kinds >= 5,
        "the kinds of this release are known to SQL callers"
    );
}

#[tokio::test]
async fn a_command_on_an_empty_database_says_what_to_run() {
    let database = testing::empty_database(polar_jobs::migrate::migrator).await;
    let said = with_database(&database.url, &["jobs", "list"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("polar-jobs migrate"), "{}", said.err);
}
