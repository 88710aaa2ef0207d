//! `/ready`: the truth about the database, for anybody who asks, however often, and without its names.

use std::time::{Duration, Instant};

use private_postgres::testing::{TestDatabase, database};
use sqlx::postgres::PgPoolOptions;

use crate::support::{Delivery, SECRET, TestIngress, count, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_ask_at_once_share_one_look() {
    let ingress = TestIngress::start().await;
    let mut held = ingress.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE polar_jobs._migrations IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *held)
        .await
        .unwrap();
    let asked = Instant::now();
    let asking = futures::future::join_all((0..50).map(|_| ingress.get("/ready")));
    let looking = async {
        let looks = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                        AND wait_event_type = 'Lock' AND query LIKE '%_migrations%'";
        until("somebody looks", || async {
            count(&ingress.pool, looks).await > 0
        })
        .await;
        count(&ingress.pool, looks).await
    };
    let (answers, looks) = tokio::join!(asking, looking);
    assert_eq!(looks, 1);
    for answer in answers {
        assert_eq!(answer.status, 503);
        assert!(
            answer.body.contains("does not answer within 1 s"),
            "{answer:?}"
        );
    }
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
    held.rollback().await.unwrap();
    until("it is ready again", || async {
        ingress.get("/ready").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_not_ready() {
    let TestDatabase { url, pool } = database(polar_jobs::migrate::migrator).await;
    sqlx::raw_sql(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$",
    )
    .execute(&pool)
    .await
    .unwrap();
    let fresh = PgPoolOptions::new().connect(&url).await.unwrap();
    let ingress = TestIngress::on(url, fresh, &[SECRET], None).await;
    let answer = ingress.get("/ready").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("read-only"), "{answer:?}");
    assert_eq!(ingress.deliver(&Delivery::grant()).await.status, 503);
}

#[tokio::test]
async fn nobody_is_told_who_connects_to_what() {
    let TestDatabase { url, pool } = database(polar_jobs::migrate::migrator).await;
    let name = pool.connect_options().get_database().unwrap().to_owned();
    let refused = url.replace("//postgres@", "//inside_role@");
    assert_ne!(refused, url);
    let ingress = TestIngress::on(refused, pool, &[SECRET], None).await;
    let answer = ingress.get("/ready").await;
    assert_eq!(answer.status, 503);
    assert!(
        !answer.body.contains("inside_role") && !answer.body.contains(&name),
        "{answer:?}"
    );
    assert!(answer.body.contains("cannot be reached"), "{answer:?}");
}
