//! What other tests build on: databases of their own.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use private_postgres::{Durability, Options, Server, testing};
use sqlx::{Connection, PgConnection};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

async fn tables(database: &testing::TestDatabase) -> i64 {
    let count = "select count(*) from pg_tables where schemaname = 'polar_jobs'";
    sqlx::query_scalar(count)
        .fetch_one(&database.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_test_database_has_the_schema_and_an_empty_one_has_not() {
    let (migrated, empty) = (
        testing::database(polar_jobs::migrate::migrator).await,
        testing::empty_database(polar_jobs::migrate::migrator).await,
    );
    assert!(tables(&migrated).await > 0);
    assert_eq!(tables(&empty).await, 0);
}

#[tokio::test]
async fn tests_do_not_see_each_other() {
    let (one, other) = (
        testing::database(polar_jobs::migrate::migrator).await,
        testing::database(polar_jobs::migrate::migrator).await,
    );
    sqlx::query("create table mark (id int)")
        .execute(&one.pool)
        .await
        .unwrap();
    let seen: Option<String> = sqlx::query_scalar("select to_regclass('mark')::text")
        .fetch_one(&other.pool)
        .await
        .unwrap();
    assert_eq!(seen, None);
}

#[tokio::test]
async fn a_commit_on_a_durable_server_survives_kill_9_of_the_server() {
    let durable = testing::durable_server(polar_jobs::migrate::migrator).await;
    let pool = sqlx::PgPool::connect(&durable.url).await.unwrap();
    let fsync: String = sqlx::query_scalar("show fsync")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(fsync, "on");
    sqlx::query("create table kept (id int)")
        .execute(&pool)
        .await
        .unwrap();
    for id in 0..3 {
        sqlx::query("insert into kept values ($1)")
            .bind(id)
            .execute(&pool)
            .await
            .unwrap();
        durable.server.kill9().unwrap();
        assert!(
            PgConnection::connect(&durable.url).await.is_err(),
            "the server is gone"
        );
        durable.server.restart().unwrap();
        let pool = sqlx::PgPool::connect(&durable.url).await.unwrap();
        let rows: i64 = sqlx::query_scalar("select count(*) from kept")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(rows, i64::from(id) + 1);
    }
}

#[tokio::test]
async fn a_server_named_by_test_database_url_is_used_instead() {
    let cluster = tempfile::tempdir().unwrap();
    // Root steps down to another account, which must be let in.
    fs::set_permissions(cluster.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let options = Options {
        durability: Durability::Throwaway,
        ..Options::durable(cluster.path())
    };
    let server = Server::start(&options).unwrap();
    let url = server.url("postgres");
    for _ in 0..2 {
        // The second time the template is there already.
        let mut other = Command::new(std::env::current_exe().unwrap());
        other
            .args(["--exact", "tests_do_not_see_each_other"])
            .env("TEST_DATABASE_URL", &url);
        assert!(other.stdout(Stdio::null()).status().unwrap().success());
    }
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let count =
        "select count(*) from pg_database where starts_with(datname, 'polar_jobs_test_run_')";
    let databases: i64 = sqlx::query_scalar(count)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(
        databases, 4,
        "two tests of two databases each ran on this server"
    );
}
