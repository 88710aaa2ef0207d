//! When the database is slow, busy, restarted or gone: what is acknowledged is there, what is not
//! acknowledged is not, and no request waits because another one fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jobs::contract::begin;
use polar_jobs::queue::connect::{Pooler, QueueDatabase};
use private_postgres::testing::{
    TestDatabase, database, durable_server, sessions_waiting_for_a_lock,
};
use serde_json::json;
use sqlx::PgConnection;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::support::{Delivery, SECRET, TOKEN, TestIngress, count, until};
use crate::wire::Wire;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_is_503_soon_and_its_return_is_noticed() {
    let durable = durable_server(polar_jobs::migrate::migrator).await;
    let pool = PgPoolOptions::new()
        .max_connections(5)
        .connect(&durable.url)
        .await
        .unwrap();
    let ingress = TestIngress::on(durable.url.clone(), pool, &[SECRET], Some(TOKEN)).await;
    assert_eq!(ingress.deliver(&Delivery::grant()).await.status, 202);

    durable.server.kill9().unwrap();
    // A backend lives a moment longer than its postmaster, and may still commit.
    let mut accepted = 1;
    while ingress.deliver(&Delivery::grant()).await.status == 202 {
        accepted += 1;
        assert!(accepted < 1000, "the database is gone");
    }
    for _ in 0..3 {
        let asked = Instant::now();
        let answer = ingress.deliver(&Delivery::grant()).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.head.contains("retry-after: "), "{answer:?}");
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
        assert_eq!(ingress.get("/ready").await.status, 503);
        assert_eq!(ingress.get("/health").await.status, 200);
    }
    durable.server.restart().unwrap();
    until("the ingress works again", || async {
        ingress.deliver(&Delivery::grant()).await.status == 202
    })
    .await;
    until("the ingress is ready again", || async {
        ingress.get("/ready").await.status == 200
    })
    .await;
    assert_eq!(
        (ingress.events().await, ingress.jobs().await),
        (accepted + 1, accepted + 1),
        "a 503 stores nothing"
    );
}

const KILL_WRITER: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
     WHERE application_name = 'polar-jobs ingress' AND datname = current_database()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_killed_in_the_middle_lose_and_halve_nothing() {
    let ingress = Arc::new(TestIngress::start().await);
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let (address, over) = (ingress.address, Arc::clone(&over));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let delivery = Delivery::grant();
                    if delivery.try_send(address).await.unwrap().status == 202 {
                        acknowledged.push(delivery.id);
                    }
                }
                acknowledged
            })
        })
        .collect();
    for _ in 0..10 {
        let before = ingress.events().await;
        until("more is stored", || async {
            ingress.events().await > before + 20
        })
        .await;
        until("there is a writer to kill", || async {
            count(&ingress.pool, KILL_WRITER).await > 0
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
    .fetch_one(&ingress.pool)
    .await
    .unwrap();
    assert_eq!(
        there,
        i64::try_from(acknowledged.len()).unwrap(),
        "every 202 is in the table"
    );
    let without_job = "SELECT count(*) FROM polar_jobs.stored_events e WHERE NOT EXISTS (SELECT 1 FROM polar_jobs.jobs j WHERE e.id = ANY (j.events))";
    assert_eq!(
        count(&ingress.pool, without_job).await,
        0,
        "no event is without its job"
    );
    assert_eq!(ingress.events().await, ingress.jobs().await);
}

/// Delivers eight at once, and fails unless each is asked within two seconds to come again.
async fn refuses_eight_in_time(ingress: &TestIngress) {
    let asked = Instant::now();
    let deliver = || async { ingress.deliver(&Delivery::grant()).await };
    let answers = futures::future::join_all((0..8).map(|_| deliver())).await;
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    for answer in answers {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.head.contains("retry-after"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_held_by_another_is_503_in_time_and_nothing_appears_later() {
    refuses_while_a_table_is_held(TestIngress::start().await).await;
}

/// A session of a pooler has no settings, and is not ours to be closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_a_held_table_leaves_nobody_waiting_either() {
    refuses_while_a_table_is_held(TestIngress::behind_a_pooler().await).await;
}

async fn refuses_while_a_table_is_held(ingress: TestIngress) {
    let mut held = ingress.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE polar_jobs.stored_events IN SHARE MODE")
        .execute(&mut *held)
        .await
        .unwrap();
    refuses_eight_in_time(&ingress).await;
    until("nobody waits for it any more", || async {
        sessions_waiting_for_a_lock(&ingress.pool).await == 0
    })
    .await;
    held.rollback().await.unwrap();
    until("nobody works for us any more", || async {
        count(&ingress.pool, "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND datname = current_database() AND pid <> pg_backend_pid()").await == 0
    })
    .await;
    assert_eq!((ingress.events().await, ingress.jobs().await), (0, 0));
    assert_eq!(ingress.deliver(&Delivery::grant()).await.status, 202);
}

/// What an application does in a transaction that it leaves open: changes for so many organizations.
async fn change(transaction: &mut PgConnection, organizations: &[Uuid]) {
    let record = "SELECT count(polar_jobs.record_change('organization.deleted', jsonb_build_object('id', id)))
                    FROM unnest($1::uuid[]) id";
    let recorded: i64 = sqlx::query_scalar(record)
        .bind(organizations)
        .fetch_one(transaction)
        .await
        .unwrap();
    assert_eq!(recorded, i64::try_from(organizations.len()).unwrap());
}

fn organizations(many: usize) -> Vec<Uuid> {
    (0..many).map(|_| Uuid::new_v4()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_with_ten_thousand_organizations_holds_up_no_delivery() {
    let ingress = TestIngress::start().await;
    let theirs = organizations(10_000);
    let mut open = ingress.pool.begin().await.unwrap();
    change(&mut open, &theirs).await;
    let strangers = organizations(100);
    for organization in theirs[..100].iter().chain(&strangers) {
        let delivery = Delivery::grant_of(Uuid::new_v4(), *organization);
        let answer = ingress.deliver(&delivery).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let created = json!({"type": "organization.deleted", "data": {"id": strangers[0]}});
    assert_eq!(
        ingress.change(&created).await.status,
        202,
        "a stranger's change"
    );
    // The same organization's next change must come after the one that is open, so it has to wait.
    let held = json!({"type": "organization.deleted", "data": {"id": theirs[0]}});
    let answer = ingress.change(&held).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains(&theirs[0].to_string()), "{answer:?}");
    open.commit().await.unwrap();
    assert_eq!(ingress.change(&held).await.status, 202);
    let free =
        "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'apply_change' AND NOT blocked";
    assert_eq!(
        count(&ingress.pool, free).await,
        10_001,
        "one head for every organization"
    );
    let notes = "SELECT count(*) FROM polar_jobs.key_releases";
    assert_eq!(
        count(&ingress.pool, notes).await,
        0,
        "nothing is left to do"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_transactions_without_a_common_organization_never_deadlock() {
    let ingress = TestIngress::start().await;
    for many in [300, 1500] {
        let transactions = (0..4).map(|_| async {
            let mut transaction = ingress.pool.begin().await.unwrap();
            // In no order, and in several statements, as applications do.
            for part in organizations(many).chunks(50) {
                change(&mut transaction, part).await;
            }
            transaction.commit().await.unwrap();
        });
        futures::future::join_all(transactions).await;
    }
    let heads = "SELECT count(*) FROM polar_jobs.live_jobs WHERE NOT blocked";
    assert_eq!(count(&ingress.pool, heads).await, 4 * (300 + 1500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_whose_event_failed_is_run_again_when_it_comes_again() {
    let ingress = TestIngress::start().await;
    let delivery = Delivery::grant();
    assert_eq!(ingress.deliver(&delivery).await.status, 202);
    let discard = "SELECT count(*) FROM polar_jobs.end_jobs(ARRAY(SELECT id FROM polar_jobs.live_jobs), 'discarded', 'failed', 'x', NULL)";
    assert_eq!(count(&ingress.pool, discard).await, 1);
    let failed = "SELECT count(*) FROM polar_jobs.external_events WHERE outcome = 'failed'";
    assert_eq!(count(&ingress.pool, failed).await, 1);
    assert_eq!(ingress.deliver(&delivery).await.status, 202);
    assert_eq!(
        count(&ingress.pool, failed).await,
        0,
        "it is not handled again yet"
    );
    let caused = "SELECT count(*) FROM polar_jobs.live_jobs j, polar_jobs.stored_events e
                   WHERE j.events = ARRAY[e.id]";
    assert_eq!(count(&ingress.pool, caused).await, 1);
    assert_eq!(ingress.deliver(&delivery).await.status, 202);
    assert_eq!(
        (ingress.events().await, count(&ingress.pool, caused).await),
        (1, 1),
        "and only then"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_waits_while_its_partition_is_made_is_stored_with_its_job() {
    let ingress = TestIngress::start().await;
    let today = "DO $$ BEGIN EXECUTE format('DROP TABLE polar_jobs.stored_events_%s', to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')); END $$";
    sqlx::raw_sql(today).execute(&ingress.pool).await.unwrap();
    let mut prune = ingress.pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE polar_jobs.stored_events_default IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *prune)
        .await
        .unwrap();
    let delivery = Delivery::grant();
    let (mut answer, ()) = tokio::join!(ingress.deliver(&delivery), async {
        // By itself: its group did not wait as long.
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                          AND wait_event_type = 'Lock' AND application_name <> 'polar-jobs ingress'";
        until("the delivery waits", || async {
            count(&ingress.pool, waiting).await == 1
        })
        .await;
        sqlx::raw_sql("SELECT polar_jobs.create_partitions('stored_events', 0)")
            .execute(&mut *prune)
            .await
            .unwrap();
        prune.commit().await.unwrap();
    });
    if answer.status == 503 {
        // On a slow machine it had waited for long enough; Polar sends it again.
        answer = ingress.deliver(&delivery).await;
    }
    assert_eq!(answer.status, 202);
    let stored = "SELECT count(*) FROM polar_jobs.external_events WHERE type = 'benefit_grant.created' AND outcome IS NULL";
    assert_eq!(
        (count(&ingress.pool, stored).await, ingress.jobs().await),
        (1, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_whose_jobs_cannot_be_stored_stays_failed_however_often_it_comes() {
    let ingress = TestIngress::start().await;
    sqlx::raw_sql("ALTER TABLE polar_jobs.live_jobs ADD CONSTRAINT none CHECK (false)")
        .execute(&ingress.pool)
        .await
        .unwrap();
    let delivery = Delivery::grant();
    let failed = "SELECT count(*) FROM polar_jobs.external_events WHERE outcome = 'failed'";
    for _ in 0..3 {
        assert_eq!(ingress.deliver(&delivery).await.status, 202);
        assert_eq!(
            (ingress.events().await, count(&ingress.pool, failed).await),
            (1, 1)
        );
    }
    sqlx::raw_sql("ALTER TABLE polar_jobs.live_jobs DROP CONSTRAINT none")
        .execute(&ingress.pool)
        .await
        .unwrap();
    assert_eq!(ingress.deliver(&delivery).await.status, 202);
    assert_eq!(
        (ingress.jobs().await, count(&ingress.pool, failed).await),
        (1, 0),
        "it is handled after all"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_one_customer_keep_the_order_in_which_they_were_committed() {
    let ingress = TestIngress::start().await;
    let customer = Uuid::new_v4();
    futures::future::join_all((0..50).map(|_| async {
        assert_eq!(
            ingress
                .deliver(&Delivery::grant_of(customer, customer))
                .await
                .status,
            202
        );
    }))
    .await;
    let heads = "SELECT count(*) FROM polar_jobs.live_jobs WHERE NOT blocked";
    assert_eq!(
        count(&ingress.pool, heads).await,
        1,
        "one job of a key may run"
    );
    let named = "SELECT count(DISTINCT e) FROM polar_jobs.live_jobs, unnest(events) AS e";
    assert_eq!(
        count(&ingress.pool, named).await,
        50,
        "every delivery is a cause of a job"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_long_is_503_in_time_and_rolled_back_by_the_database_itself() {
    let ingress = TestIngress::start().await;
    sqlx::raw_sql(
        "CREATE FUNCTION slow_down() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON polar_jobs.stored_events FOR EACH ROW EXECUTE FUNCTION slow_down()",
    )
    .execute(&ingress.pool)
    .await
    .unwrap();
    refuses_eight_in_time(&ingress).await;
    sqlx::raw_sql("DROP TRIGGER slow ON polar_jobs.stored_events")
        .execute(&ingress.pool)
        .await
        .unwrap();
    assert_eq!((ingress.events().await, ingress.jobs().await), (0, 0));
    assert_eq!(ingress.deliver(&Delivery::grant()).await.status, 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_given_up_while_its_transaction_begins_leaves_none_open() {
    let TestDatabase { url, pool } = database(polar_jobs::migrate::migrator).await;
    let wire = Wire::before(&pool);
    let only_one = PgPoolOptions::new().max_connections(1);
    let narrow = only_one.connect(&wire.url).await.unwrap();
    let ingress = TestIngress::on(url, narrow, &[SECRET], Some(TOKEN)).await;
    let change = json!({"type": "organization.deleted", "data": {"id": Uuid::new_v4()}});

    wire.hold_begins();
    assert_eq!(ingress.change(&change).await.status, 503);
    wire.begun().await;
    wire.release();
    let open = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND state = 'idle in transaction'";
    until("no transaction is open", || async {
        count(&pool, open).await == 0
    })
    .await;
    assert_eq!(ingress.change(&change).await.status, 202);
    assert_eq!(ingress.events().await, 1, "a 503 stored nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_without_a_word_keeps_no_place_in_a_pool_for_long() {
    let TestDatabase { pool, .. } = database(polar_jobs::migrate::migrator).await;
    let wire = Wire::before(&pool);
    let through_wire = QueueDatabase::new(&wire.url, Pooler::None).unwrap().plain();
    let only_place = QueueDatabase::pool(through_wire, 1);
    wire.hold_begins();
    let begun = begin(&only_place).await;
    assert!(matches!(begun, Err(sqlx::Error::Io(_))));
    until("another connection has the place", || async {
        sqlx::query("SELECT 1").execute(&only_place).await.is_ok()
    })
    .await;
}
