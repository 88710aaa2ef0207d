//! Whoever takes a worker for dead looks again under the lock of its row, and what a worker claimed without
//! hearing of it goes back once.

use polar_jobs::queue::claim::{self, ClaimRecord};
use polar_jobs::queue::lease;
use polar_jobs::queue::reclaim::{self, ReclaimedJob, Suspect};
use polar_jobs::queue::recovery::{self, LostClaim};
use sqlx::{Connection, PgConnection};

use crate::script::Script;
use crate::test_app::{TestApp, claim_from_head, complete_and_claim, register};

/// A worker with one job and a session whose lock is gone.
async fn cut_worker(app: &TestApp) -> (PgConnection, i64, i64) {
    let mut connection = app.connect().await;
    let worker = register(&mut connection).await;
    assert!(
        lease::begin_session(&mut connection, worker, true)
            .await
            .unwrap()
    );
    let job = app.add(Script::note("held").row()).await;
    let claimed = complete_and_claim(&mut connection, worker, &[], 1).await;
    assert_eq!(claimed.unwrap().len(), 1);
    (connection, worker, job)
}

/// It looks dead because nobody holds its lock.
fn unlocked(worker: i64, session: i32) -> Suspect {
    Suspect {
        worker,
        session,
        lock_is_free: true,
    }
}

async fn suspects(app: &TestApp) -> Vec<Suspect> {
    let mut connection = app.connect().await;
    let findings = reclaim::look(&mut connection, 0, &[]).await.unwrap();
    findings.suspects
}

async fn remove(app: &TestApp, suspect: Suspect) -> bool {
    let mut connection = app.connect().await;
    reclaim::remove_dead_worker(&mut connection, suspect)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_worker_without_its_lock_is_removed_and_its_jobs_are_requeued() {
    let app = TestApp::new().await;
    let (_connection, worker, job) = cut_worker(&app).await;
    let suspect = unlocked(worker, 1);
    assert_eq!(suspects(&app).await, [suspect]);
    assert!(remove(&app, suspect).await);
    let mut connection = app.connect().await;
    let reclaimed = reclaim::reclaim_jobs(&mut connection).await.unwrap();
    let expected = ReclaimedJob {
        id: job,
        kind: "trial".to_owned(),
        organization: None,
        discarded: false,
    };
    assert_eq!(reclaimed, [expected]);
    assert_eq!(app.job(job).await.last_error(), "the worker died");
    assert_eq!(
        app.number("SELECT count(*) FROM polar_jobs.claims").await,
        0
    );
}

#[tokio::test]
async fn a_worker_that_came_back_after_it_was_suspected_is_left_alone() {
    let app = TestApp::new().await;
    let (mut connection, worker, _) = cut_worker(&app).await;
    let suspect = suspects(&app).await[0];
    lease::take_session_lock(&mut connection, worker)
        .await
        .unwrap();
    assert!(!remove(&app, suspect).await, "it holds its lock");
    assert!(
        lease::begin_session(&mut connection, worker, true)
            .await
            .unwrap()
    );
    connection.close().await.unwrap();
    // Cut once more: that is another session, to be suspected anew.
    assert!(!remove(&app, suspect).await);
    assert_eq!(suspects(&app).await, [unlocked(worker, 2)]);
}

#[tokio::test]
async fn a_worker_that_renewed_its_lease_after_it_was_suspected_is_left_alone() {
    let app = TestApp::new().await;
    let mut connection = app.connect().await;
    let worker = register(&mut connection).await;
    app.execute("UPDATE polar_jobs.workers SET leased_until = now() - interval '1 second'")
        .await;
    let suspect = suspects(&app).await[0];
    assert!(!suspect.lock_is_free, "it never had one");
    assert!(lease::renew(&mut connection, worker).await.unwrap());
    assert!(!remove(&app, suspect).await);
    app.execute("UPDATE polar_jobs.workers SET leased_until = now() - interval '1 second'")
        .await;
    assert!(remove(&app, suspect).await);
}

#[tokio::test]
async fn a_worker_that_has_not_come_back_to_a_server_that_was_away_is_judged_by_its_lease_alone() {
    let app = TestApp::new().await;
    let (_connection, worker, _) = cut_worker(&app).await;
    let suspect = unlocked(worker, 1);
    app.execute("UPDATE polar_jobs.workers SET incarnation = 'before the failover'")
        .await;
    assert!(!remove(&app, suspect).await, "its lease is not over");
    app.execute("UPDATE polar_jobs.workers SET leased_until = now() - interval '1 second'")
        .await;
    // The lease may have run out while the server was away; who judges has just come as well.
    assert!(!remove(&app, suspect).await, "it gets time to come back");
}

#[tokio::test]
async fn a_removed_worker_claims_nothing_more() {
    let app = TestApp::new().await;
    let (mut connection, worker, _) = cut_worker(&app).await;
    assert!(remove(&app, unlocked(worker, 1)).await);
    let mut other = app.connect().await;
    reclaim::reclaim_jobs(&mut other).await.unwrap();
    let claimed = complete_and_claim(&mut connection, worker, &[], 1).await;
    assert!(claimed.unwrap().is_empty());
    assert!(!lease::renew(&mut connection, worker).await.unwrap());
}

#[tokio::test]
async fn a_lost_claim_that_is_released_twice_does_not_end_the_next_one_of_the_same_job() {
    let app = TestApp::new().await;
    let (mut connection, worker, job) = cut_worker(&app).await;
    let lost = recovery::lost_claims(&mut connection, worker, &[job])
        .await
        .unwrap();
    assert_eq!(
        lost,
        [LostClaim {
            id: job,
            attempt: 1
        }]
    );
    let left = recovery::release(&mut connection, worker, &lost).await;
    assert!(left.unwrap().is_empty());
    // Another connection of the same process claims it, and the answer to the release does not come.
    let again = complete_and_claim(&mut connection, worker, &[], 1).await;
    assert_eq!(again.unwrap()[0].attempt, 2);
    recovery::release(&mut connection, worker, &lost)
        .await
        .unwrap();
    let row = app.job(job).await;
    assert_eq!((row.state.as_str(), row.attempt), ("running", 2));
}

#[tokio::test]
async fn what_a_lost_claim_took_is_told_from_what_was_held_before() {
    let app = TestApp::new().await;
    let (mut connection, worker, held) = cut_worker(&app).await;
    let taken = app.add(Script::note("taken").row()).await;
    let claim = async |connection: &mut PgConnection, fetcher, turn, held: &[i64]| {
        let record = ClaimRecord {
            worker,
            fetcher,
            epoch: 1,
            turn,
            held,
        };
        claim::complete_and_claim(connection, &claim_from_head(record, &[], 1))
            .await
            .unwrap()
    };
    assert_eq!(
        claim(&mut connection, 0, 2, &[held]).await[0].id,
        taken,
        "the answer of this one is lost"
    );
    // Meanwhile the other one goes back to waiting, and a second connection of this process claims it.
    let back = recovery::lost_claims(&mut connection, worker, &[held])
        .await
        .unwrap();
    recovery::release(&mut connection, worker, &back)
        .await
        .unwrap();
    recovery::begin_epoch(&mut connection, worker, 1, 1)
        .await
        .unwrap();
    assert_eq!(claim(&mut connection, 1, 1, &[]).await[0].id, held);
    let last = recovery::begin_epoch(&mut connection, worker, 0, 2).await;
    let last = last.unwrap().unwrap();
    assert_eq!((last.turn, last.taken(1)), (2, [taken].as_slice()));
}
