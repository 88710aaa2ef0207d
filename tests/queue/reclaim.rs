//! Whoever takes a worker for dead looks again under the lock of its row.

use polar_jobs::queue::lease::{self, Identity};
use polar_jobs::queue::reclaim::{self, Suspect};
use sqlx::{Connection, PgConnection};

use crate::script::Script;
use crate::stand::{Stand, complete_and_claim};

/// A worker with one job and a session whose lock is gone.
async fn cut_worker(stand: &Stand) -> (PgConnection, i64, i64) {
    let mut connection = stand.connect().await;
    let me = Identity {
        host: "here".to_owned(),
        pid: 1,
        queues: vec![],
    };
    let worker = lease::register(&mut connection, &me).await.unwrap();
    assert!(
        lease::begin_session(&mut connection, worker, true)
            .await
            .unwrap()
    );
    let job = stand.add(Script::note("held").row()).await;
    let claimed = complete_and_claim(&mut connection, worker, &[], 1).await;
    assert_eq!(claimed.unwrap().len(), 1);
    (connection, worker, job)
}

async fn suspects(stand: &Stand) -> Vec<Suspect> {
    let mut connection = stand.connect().await;
    let findings = reclaim::look(&mut connection, 0, &[]).await.unwrap();
    findings.suspects
}

async fn remove(stand: &Stand, suspect: Suspect) -> bool {
    let mut connection = stand.connect().await;
    reclaim::remove_dead_worker(&mut connection, suspect)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_worker_without_its_lock_is_removed_and_its_jobs_are_put_back() {
    let stand = Stand::new().await;
    let (_connection, worker, job) = cut_worker(&stand).await;
    let suspect = Suspect { worker, session: 1 };
    assert_eq!(suspects(&stand).await, [suspect]);
    assert!(remove(&stand, suspect).await);
    let mut connection = stand.connect().await;
    let reclaimed = reclaim::reclaim_jobs(&mut connection).await.unwrap();
    assert_eq!((reclaimed.returned, reclaimed.discarded), (1, 0));
    assert_eq!(stand.job(job).await.last_error(), "the worker died");
    assert_eq!(
        stand.number("SELECT count(*) FROM polar_jobs.claims").await,
        0
    );
}

#[tokio::test]
async fn a_worker_that_came_back_after_it_was_suspected_is_left_alone() {
    let stand = Stand::new().await;
    let (mut connection, worker, _) = cut_worker(&stand).await;
    let suspect = suspects(&stand).await[0];
    lease::take_session_lock(&mut connection, worker)
        .await
        .unwrap();
    assert!(!remove(&stand, suspect).await, "it holds its lock");
    assert!(
        lease::begin_session(&mut connection, worker, true)
            .await
            .unwrap()
    );
    connection.close().await.unwrap();
    // Cut once more: that is another session, to be suspected anew.
    assert!(!remove(&stand, suspect).await);
    assert_eq!(suspects(&stand).await, [Suspect { worker, session: 2 }]);
}

#[tokio::test]
async fn a_worker_that_has_not_come_back_to_a_server_that_was_away_is_judged_by_its_lease_alone() {
    let stand = Stand::new().await;
    let (_connection, worker, _) = cut_worker(&stand).await;
    let suspect = Suspect { worker, session: 1 };
    stand
        .execute("UPDATE polar_jobs.workers SET incarnation = 'before the failover'")
        .await;
    assert!(!remove(&stand, suspect).await, "its lease is not over");
    stand
        .execute("UPDATE polar_jobs.workers SET leased_until = now() - interval '1 second'")
        .await;
    // The lease may have run out while the server was away; who judges has just come as well.
    assert!(!remove(&stand, suspect).await, "it gets time to come back");
}

#[tokio::test]
async fn a_removed_worker_claims_nothing_more() {
    let stand = Stand::new().await;
    let (mut connection, worker, _) = cut_worker(&stand).await;
    assert!(remove(&stand, Suspect { worker, session: 1 }).await);
    let mut other = stand.connect().await;
    reclaim::reclaim_jobs(&mut other).await.unwrap();
    let claimed = complete_and_claim(&mut connection, worker, &[], 1).await;
    assert!(claimed.unwrap().is_empty());
    assert!(!lease::renew(&mut connection, worker).await.unwrap());
}
