//! What other tests build on: databases of their own.

use polar_jobs::postgres::testing;
use sqlx::{Connection, PgConnection};

async fn tables(database: &testing::TestDatabase) -> i64 {
    let count = "select count(*) from pg_tables where schemaname = 'polar_jobs'";
    sqlx::query_scalar(count)
        .fetch_one(&database.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_test_database_has_the_schema_and_an_empty_one_has_not() {
    let (migrated, empty) = (testing::database().await, testing::empty_database().await);
    assert!(tables(&migrated).await > 0);
    assert_eq!(tables(&empty).await, 0);
}

#[tokio::test]
async fn tests_do_not_see_each_other() {
    let (one, other) = (testing::database().await, testing::database().await);
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
    let durable = testing::durable_server().await;
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
