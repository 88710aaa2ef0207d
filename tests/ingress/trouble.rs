//! When the database is slow, busy, restarted or gone: what is acknowledged is there, what is not
//! acknowledged is not, and nobody waits for somebody else's trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use private_postgres::testing::{TestDatabase, database, durable_server};
use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::support::{Delivery, Door, SECRET, TOKEN, WEBHOOK, count, send, until};
use crate::wire::Wire;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_is_503_soon_and_its_return_is_noticed() {
    let durable = durable_server(polar_jobs::migrate::migrator).await;
    let pool = PgPoolOptions::new()
        .max_connections(5)
        .connect(&durable.url)
        .await
        .unwrap();
    let door = Door::on(durable.url.clone(), pool, &[SECRET], Some(TOKEN)).await;
    assert_eq!(door.deliver(&Delivery::grant()).await.status, 202);

    durable.server.kill9().unwrap();
    // A backend lives a moment longer than its postmaster, and may still commit.
    let mut accepted = 1;
    while door.deliver(&Delivery::grant()).await.status == 202 {
        accepted += 1;
        assert!(accepted < 1000, "the database is gone");
    }
    for _ in 0..3 {
        let asked = Instant::now();
        let answer = door.deliver(&Delivery::grant()).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.head.contains("retry-after: "), "{answer:?}");
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
        assert_eq!(door.get("/ready").await.status, 503);
        assert_eq!(door.get("/health").await.status, 200);
    }
    durable.server.restart().unwrap();
    until("the door works again", || async {
        door.deliver(&Delivery::grant()).await.status == 202
    })
    .await;
    until("the door is ready again", || async {
        door.get("/ready").await.status == 200
    })
    .await;
    assert_eq!(
        (door.events().await, door.jobs().await),
        (accepted + 1, accepted + 1),
        "a 503 stores nothing"
    );
}

const KILL_WRITER: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
     WHERE application_name = 'polar-jobs ingress' AND datname = current_database()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_killed_in_the_middle_lose_and_halve_nothing() {
    let door = Arc::new(Door::open().await);
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let (address, over) = (door.address, Arc::clone(&over));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let delivery = Delivery::grant();
                    if send(
                        address,
                        "POST",
                        WEBHOOK,
                        &delivery.headers(),
                        &delivery.body,
                    )
                    .await
                    .status
                        == 202
                    {
                        acknowledged.push(delivery.id);
                    }
                }
                acknowledged
            })
        })
        .collect();
    for _ in 0..10 {
        let before = door.events().await;
        until("more is stored", || async {
            door.events().await > before + 20
        })
        .await;
        until("there is a writer to kill", || async {
            count(&door.pool, KILL_WRITER).await > 0
        })
        .await;
    }
    over.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for client in clients {
        acknowledged.extend(client.await.unwrap());
    }
    assert!(acknowledged.len() > 64);
    let there: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM polar_jobs.stored_events WHERE external_id = ANY ($1)",
    )
    .bind(&acknowledged)
    .fetch_one(&door.pool)
    .await
    .unwrap();
    assert_eq!(
        there,
        i64::try_from(acknowledged.len()).unwrap(),
        "every 202 is in the table"
    );
    let without_job = "SELECT count(*) FROM polar_jobs.stored_events e WHERE NOT EXISTS (SELECT 1 FROM polar_jobs.jobs j WHERE e.id = ANY (j.events))";
    assert_eq!(
        count(&door.pool, without_job).await,
        0,
        "no event is without its job"
    );
    assert_eq!(door.events().await, door.jobs().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_held_by_another_is_503_in_time_and_nothing_appears_later() {
    let door = Door::open().await;
    let mut held = door.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE polar_jobs.stored_events IN SHARE MODE")
        .execute(&mut *held)
        .await
        .unwrap();
    let asked = Instant::now();
    let answers =
        futures::future::join_all((0..8).map(|_| async { door.deliver(&Delivery::grant()).await }))
            .await;
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    for answer in answers {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.head.contains("retry-after"));
    }
    held.rollback().await.unwrap();
    until("nobody works for us any more", || async {
        count(&door.pool, "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND datname = current_database() AND pid <> pg_backend_pid()").await == 0
    })
    .await;
    assert_eq!((door.events().await, door.jobs().await), (0, 0));
    assert_eq!(door.deliver(&Delivery::grant()).await.status, 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_whose_key_is_held_waits_alone_and_its_neighbours_do_not() {
    let door = Door::open().await;
    let (customer, organization) = (Uuid::new_v4(), Uuid::new_v4());
    // Learn the key, then hold it as an application's open transaction would.
    assert_eq!(
        door.deliver(&Delivery::grant_of(customer, organization))
            .await
            .status,
        202
    );
    let mut held = door.pool.begin().await.unwrap();
    let keyed = sqlx::query("SELECT pg_advisory_xact_lock(polar_jobs.ordering_lock(ordering_key)) FROM polar_jobs.live_jobs WHERE ordering_key IS NOT NULL")
        .execute(&mut *held).await.unwrap().rows_affected();
    assert_eq!(keyed, 1, "a grant's job has an ordering key");
    sqlx::query("UPDATE polar_jobs.live_jobs SET worker = 1, held_unique_key = unique_key, unique_key = NULL")
        .execute(&door.pool).await.unwrap();

    let contended = Delivery::grant_of(customer, organization);
    let (address, headers, body) = (door.address, contended.headers(), contended.body.clone());
    let waiting =
        tokio::spawn(async move { send(address, "POST", WEBHOOK, &headers, &body).await });
    let asked = Instant::now();
    let neighbours: Vec<Uuid> = sqlx::query_scalar(
        "SELECT n.id FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, 100)) n
          WHERE NOT EXISTS (SELECT 1 FROM polar_jobs.live_jobs j WHERE polar_jobs.ordering_lock(j.ordering_key)
                            = polar_jobs.ordering_lock('apply_benefits/organization/' || n.id))",
    )
    .fetch_all(&door.pool)
    .await
    .unwrap();
    let delivered = neighbours
        .iter()
        .map(|id| async { door.deliver(&Delivery::grant_of(Uuid::new_v4(), *id)).await });
    let neighbours = futures::future::join_all(delivered).await;
    let expected = i64::try_from(neighbours.len()).unwrap() + 2;
    assert!(
        neighbours.iter().all(|answer| answer.status == 202),
        "{:?}",
        neighbours.iter().find(|a| a.status != 202)
    );
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    // Longer than anybody waits for a lock.
    assert_eq!(waiting.await.unwrap().status, 503);
    held.rollback().await.unwrap();
    assert_eq!(door.deliver(&contended).await.status, 202);
    assert_eq!(door.events().await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_released_in_time_costs_only_the_wait() {
    let door = Door::open().await;
    let (customer, organization) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(
        door.deliver(&Delivery::grant_of(customer, organization))
            .await
            .status,
        202
    );
    let mut held = door.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(polar_jobs.ordering_lock(ordering_key)) FROM polar_jobs.live_jobs")
        .execute(&mut *held).await.unwrap();
    let contended = Delivery::grant_of(customer, organization);
    let (address, headers, body) = (door.address, contended.headers(), contended.body.clone());
    let waiting =
        tokio::spawn(async move { send(address, "POST", WEBHOOK, &headers, &body).await });
    until("the delivery waits for the key", || async {
        count(
            &door.pool,
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted",
        )
        .await
            > 0
    })
    .await;
    held.rollback().await.unwrap();
    assert_eq!(waiting.await.unwrap().status, 202);
    assert_eq!(door.events().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_one_customer_keep_the_order_in_which_they_were_committed() {
    let door = Door::open().await;
    let customer = Uuid::new_v4();
    futures::future::join_all((0..50).map(|_| async {
        assert_eq!(
            door.deliver(&Delivery::grant_of(customer, customer))
                .await
                .status,
            202
        );
    }))
    .await;
    let heads = "SELECT count(*) FROM polar_jobs.live_jobs WHERE NOT blocked";
    assert_eq!(
        count(&door.pool, heads).await,
        1,
        "one job of a key may run"
    );
    let named = "SELECT count(DISTINCT e) FROM polar_jobs.live_jobs, unnest(events) AS e";
    assert_eq!(
        count(&door.pool, named).await,
        50,
        "every delivery is a cause of a job"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_long_is_503_in_time_and_rolled_back_by_the_database_itself() {
    let door = Door::open().await;
    sqlx::raw_sql(
        "CREATE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON polar_jobs.stored_events FOR EACH ROW EXECUTE FUNCTION slow_down()",
    )
    .execute(&door.pool)
    .await
    .unwrap();
    let asked = Instant::now();
    let answers =
        futures::future::join_all((0..8).map(|_| async { door.deliver(&Delivery::grant()).await }))
            .await;
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    assert!(
        answers.iter().all(|answer| answer.status == 503),
        "{answers:?}"
    );
    sqlx::raw_sql("DROP TRIGGER slow ON polar_jobs.stored_events")
        .execute(&door.pool)
        .await
        .unwrap();
    assert_eq!((door.events().await, door.jobs().await), (0, 0));
    assert_eq!(door.deliver(&Delivery::grant()).await.status, 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_given_up_while_its_transaction_begins_leaves_none_open() {
    let TestDatabase { url, pool } = database(polar_jobs::migrate::migrator).await;
    let wire = Wire::before(&pool);
    let only_one = PgPoolOptions::new().max_connections(1);
    let narrow = only_one.connect(&wire.url).await.unwrap();
    let door = Door::on(url, narrow, &[SECRET], Some(TOKEN)).await;
    let change = json!({"type": "organization.deleted", "data": {"id": Uuid::new_v4()}});

    wire.hold_begins();
    assert_eq!(door.change(&change).await.status, 503);
    wire.begun().await;
    wire.release();
    let open = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND state = 'idle in transaction'";
    until("no transaction is open", || async {
        count(&pool, open).await == 0
    })
    .await;
    assert_eq!(door.change(&change).await.status, 202);
    assert_eq!(door.events().await, 1, "a 503 stored nothing");
}
