//! Several processes, one budget: what the fleet promises Polar, with a real database between them.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use polar::{
    Admission, Answer, CallClass, CallFacts, RateLimiter, Rejected, RejectedReason, Subject,
};
use polar_jobs::limiter::{FleetRateLimiter, Limits, SingleCalls, Status, Timing, status};
use private_postgres::testing::{TestDatabase, database};
use sqlx::PgPool;
use tokio::sync::Barrier;

use crate::densest::densest;
use crate::free_port::free_port;
use crate::local_polar::client_config;
use crate::wait::eventually;

/// Ten times faster than Polar, but with time for the database: the machine may be busy.
const FAST: Timing = Timing {
    window: Duration::from_secs(6),
    quota_lifetime: Duration::from_millis(200),
    travel: Duration::from_millis(200),
    acquire_timeout: Duration::from_millis(500),
    query_timeout: Duration::from_secs(5),
    query_retry_delay: Duration::from_millis(100),
    breaker_first_delay: Duration::from_millis(300),
    breaker_longest_delay: Duration::from_millis(1200),
    token_probe_interval: Duration::from_millis(600),
    token_probe_timeout: Duration::from_millis(100),
};

/// For tests about something else: no test waits for budget, and no answer comes too late.
const CALM: Timing = Timing {
    window: Duration::from_secs(12),
    quota_lifetime: Duration::from_millis(500),
    acquire_timeout: Duration::from_secs(5),
    breaker_first_delay: Duration::from_secs(1),
    ..FAST
};

fn limiter(pool: &PgPool, limit: u32, timing: Timing) -> Arc<FleetRateLimiter> {
    let limits = Limits {
        per_window: NonZeroU32::new(limit).unwrap(),
        in_flight: NonZeroU32::new(16).unwrap(),
    };
    Arc::new(FleetRateLimiter::new(pool.clone(), limits, timing))
}

fn facts(class: CallClass) -> CallFacts {
    CallFacts {
        class,
        scope: Some("customers:read"),
    }
}

const URGENT: CallFacts = CallFacts {
    class: CallClass::Entitlement,
    scope: Some("customers:read"),
};

/// A failure about nobody in particular.
const DOWN: Answer = Answer::Down { subject: None };

/// Asks again and again, however often it is rejected.
async fn acquire(limiter: &FleetRateLimiter, call: CallFacts) -> Admission {
    let acquiring = async {
        loop {
            match limiter.acquire(call).await {
                Ok(admission) => return admission,
                Err(rejected) => {
                    tokio::time::sleep(rejected.retry_after.min(Duration::from_millis(50))).await;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), acquiring)
        .await
        .expect("the call is let out in the end")
}

/// A call, with the same answer for the probe before it where one is due.
async fn call(limiter: &FleetRateLimiter, answer: Answer) {
    let admission = acquire(limiter, URGENT).await;
    limiter.record(URGENT, admission, answer);
}

/// The first rejection, however many calls go out before.
async fn rejected(limiter: &FleetRateLimiter) -> Rejected {
    let rejecting = async {
        loop {
            match limiter.acquire(URGENT).await {
                Ok(admission) => limiter.record(URGENT, admission, Answer::Abandoned),
                Err(rejected) => return rejected,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), rejecting)
        .await
        .expect("a call is rejected in the end")
}

async fn fleet(database: &TestDatabase) -> Status {
    status(&database.pool).await.unwrap().unwrap()
}

async fn execute(pool: &PgPool, statement: &'static str) {
    sqlx::query(statement).execute(pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_under_pressure_keeps_the_budget_in_every_window_and_uses_it() {
    const LIMIT: u32 = 240;
    let database = database(polar_jobs::migrate::migrator).await;
    let barrier = Arc::new(Barrier::new(4 * 12));
    let went = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now();
    let mut callers = Vec::new();
    for process in 0..4 {
        let limiter = limiter(&database.pool, LIMIT, FAST);
        for caller in 0..12 {
            let (limiter, barrier, went) = (
                Arc::clone(&limiter),
                Arc::clone(&barrier),
                Arc::clone(&went),
            );
            let call = facts(
                [
                    CallClass::Entitlement,
                    CallClass::Mail,
                    CallClass::Metering,
                    CallClass::Bulk,
                ][(process + caller) % 4],
            );
            callers.push(tokio::spawn(async move {
                barrier.wait().await;
                while start.elapsed() < Duration::from_secs(9) {
                    if let Ok(admission) = limiter.acquire(call).await {
                        went.lock().unwrap().push(Instant::now());
                        limiter.record(call, admission, Answer::Answered);
                    }
                }
            }));
        }
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let mut went = went.lock().unwrap().clone();
    went.sort_unstable();
    assert!(
        densest(&went, FAST.window) <= LIMIT as usize,
        "{} calls in one window",
        densest(&went, FAST.window)
    );
    // Nine seconds at 36 calls a second; half of it shows that the budget is there to be used.
    assert!(went.len() >= 160, "only {} calls went out", went.len());
}

#[tokio::test]
async fn many_calls_cost_few_writes() {
    let database = database(polar_jobs::migrate::migrator).await;
    // 1200 calls in 12 s: 57 stand ready, and 90 a second follow.
    let limiter = limiter(&database.pool, 1200, CALM);
    let writes = async || {
        sqlx::query_scalar::<_, i64>("SELECT version FROM polar_jobs.rate_limiter")
            .fetch_one(&database.pool)
            .await
            .unwrap()
    };
    let before = writes().await;
    let calls: Vec<_> = (0..300)
        .map(|_| {
            let limiter = Arc::clone(&limiter);
            tokio::spawn(async move { call(&limiter, Answer::Answered).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    let written = writes().await - before;
    assert!(written <= 60, "{written} writes for 300 calls");
}

/// Uses up the budget at once.
async fn drain(limiter: &FleetRateLimiter) {
    while let Ok(Ok(admission)) =
        tokio::time::timeout(Duration::from_millis(20), limiter.acquire(URGENT)).await
    {
        limiter.record(URGENT, admission, Answer::Answered);
    }
}

#[tokio::test]
async fn waiting_calls_of_a_class_go_in_the_order_they_came_and_urgent_ones_first() {
    let database = database(polar_jobs::migrate::migrator).await;
    let timing = Timing {
        acquire_timeout: Duration::from_secs(20),
        ..FAST
    };
    // 60 in 6 s are a burst of about two.
    let limiter = limiter(&database.pool, 60, timing);
    drain(&limiter).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for (name, class) in [
        ("b1", CallClass::Bulk),
        ("b2", CallClass::Bulk),
        ("e1", CallClass::Entitlement),
        ("e2", CallClass::Entitlement),
    ] {
        let mut acquiring = Box::pin({
            let (limiter, order) = (Arc::clone(&limiter), Arc::clone(&order));
            async move {
                let admission = limiter.acquire(facts(class)).await.unwrap();
                order.lock().unwrap().push(name);
                limiter.record(facts(class), admission, Answer::Answered);
            }
        });
        // Polled once, so it stands in line before the next one comes.
        assert!(
            futures::poll!(&mut acquiring).is_pending(),
            "{name} had to wait"
        );
        waiting.push(tokio::spawn(acquiring));
    }
    for waited in waiting {
        waited.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), ["e1", "e2", "b1", "b2"]);
}

#[tokio::test]
async fn a_call_without_budget_is_rejected_in_the_end() {
    let database = database(polar_jobs::migrate::migrator).await;
    let limiter = limiter(&database.pool, 1, FAST);
    call(&limiter, Answer::Answered).await;
    let started = Instant::now();
    let rejected = rejected(&limiter).await;
    assert_eq!(rejected.reason, RejectedReason::Budget);
    assert!(started.elapsed() >= FAST.acquire_timeout && !rejected.retry_after.is_zero());
}

/// About forty calls at once stall Polar for half a minute.
#[tokio::test]
async fn a_burst_of_forty_calls_has_never_more_than_sixteen_under_way_and_urgent_ones_first() {
    let database = database(polar_jobs::migrate::migrator).await;
    let limiter = limiter(&database.pool, 6000, CALM);
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (tx, mut went) = tokio::sync::mpsc::unbounded_channel();
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let mut callers = Vec::new();
    for number in 0..40 {
        let class = match number {
            39 => CallClass::Entitlement,
            _ => CallClass::Bulk,
        };
        let (limiter, tx, release) = (Arc::clone(&limiter), tx.clone(), Arc::clone(&release));
        let (under_way, most) = (Arc::clone(&under_way), Arc::clone(&most));
        let mut calling = Box::pin(async move {
            let admission = limiter.acquire(facts(class)).await.unwrap();
            most.fetch_max(
                under_way.fetch_add(1, Ordering::SeqCst) + 1,
                Ordering::SeqCst,
            );
            tx.send(class).unwrap();
            release.acquire().await.unwrap().forget();
            under_way.fetch_sub(1, Ordering::SeqCst);
            limiter.record(facts(class), admission, Answer::Answered);
        });
        assert!(futures::poll!(&mut calling).is_pending());
        callers.push(tokio::spawn(calling));
    }
    let mut first = Vec::new();
    for _ in 0..16 {
        first.push(went.recv().await.unwrap());
    }
    assert!(went.try_recv().is_err(), "a seventeenth went out");
    assert_eq!(first[0], CallClass::Entitlement);
    release.add_permits(40);
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 16);
}

#[tokio::test]
async fn a_429_to_one_process_makes_all_wait_as_polar_asks() {
    let database = database(polar_jobs::migrate::migrator).await;
    let (one, other) = (
        limiter(&database.pool, 600, CALM),
        limiter(&database.pool, 600, CALM),
    );
    call(&other, Answer::Answered).await;
    let asked = Instant::now();
    let waits = Answer::RateLimited {
        retry_after: Duration::from_secs(2),
    };
    call(&one, waits).await;
    assert_eq!(rejected(&one).await.reason, RejectedReason::RateLimited);
    // The other one learns it with its next quota.
    eventually("the other process waits", async || {
        match other.acquire(URGENT).await {
            Ok(admission) => {
                other.record(URGENT, admission, Answer::Answered);
                false
            }
            Err(rejected) => rejected.reason == RejectedReason::RateLimited,
        }
    })
    .await;
    call(&other, Answer::Answered).await;
    assert!(
        asked.elapsed() >= Duration::from_secs(2),
        "after {:?}",
        asked.elapsed()
    );
    call(&one, Answer::Answered).await;
}

/// Until the breaker is open: five failures, and the probe that they ask for.
async fn open_breaker(limiter: &FleetRateLimiter) {
    for _ in 0..6 {
        call(limiter, DOWN).await;
    }
    let reason = limiter.rejected().map(|rejected| rejected.reason);
    assert_eq!(reason, Some(RejectedReason::Breaker));
}

#[tokio::test]
async fn polar_down_five_times_in_a_row_and_for_a_probe_stops_the_process_until_one_succeeds() {
    let database = database(polar_jobs::migrate::migrator).await;
    let limiter = limiter(&database.pool, 600, CALM);
    open_breaker(&limiter).await;
    let stored = async || {
        let status = fleet(&database).await;
        status.breaker_probe_at.is_some_and(|at| at > status.now)
    };
    eventually("doctor can see it", stored).await;
    // Ten come at once when it is time: one probes, nine wait for its answer.
    eventually("the probe is due", async || limiter.rejected().is_none()).await;
    let barrier = Arc::new(Barrier::new(10));
    let (tx, mut went) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..10 {
        let (limiter, barrier, tx) = (Arc::clone(&limiter), Arc::clone(&barrier), tx.clone());
        tokio::spawn(async move {
            barrier.wait().await;
            let _ = tx.send(limiter.acquire(URGENT).await);
        });
    }
    assert_eq!(went.recv().await.unwrap(), Ok(Admission::Probe));
    assert!(
        tokio::time::timeout(Duration::from_millis(200), went.recv())
            .await
            .is_err(),
        "a second call went out"
    );
    limiter.record(URGENT, Admission::Probe, Answer::Answered);
    for _ in 0..9 {
        assert_eq!(went.recv().await.unwrap(), Ok(Admission::Call));
        limiter.record(URGENT, Admission::Call, Answer::Answered);
    }
    eventually("doctor can see it", async || !stored().await).await;
}

#[tokio::test]
async fn a_process_that_reaches_nobody_stops_calling() {
    let database = database(polar_jobs::migrate::migrator).await;
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let config = client_config(nobody, "polar_oat_test", Duration::from_secs(2));
    let timing = Timing {
        breaker_first_delay: Duration::from_secs(60),
        ..CALM
    };
    let limiter = limiter(&database.pool, 600, timing);
    // One customer's calls are enough: without a connection nobody knows whom they are about.
    let client = polar::Client::new(config, limiter)
        .unwrap()
        .with_subject("x");
    for _ in 0..5 {
        let unreachable = client
            .customers()
            .get_by_external_id("x")
            .await
            .unwrap_err();
        assert!(unreachable.is_down(), "{unreachable}");
    }
    let error = client
        .customers()
        .get_by_external_id("x")
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            polar::Error::Rejected(Rejected {
                reason: RejectedReason::Breaker,
                ..
            })
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_customer_that_alone_keeps_failing_stops_nobody() {
    let database = database(polar_jobs::migrate::migrator).await;
    let limiter = limiter(&database.pool, 6000, CALM);
    let subject = Some(Subject::of("broken"));
    for _ in 0..40 {
        let admission = acquire(&limiter, URGENT).await;
        assert_eq!(admission, Admission::Call);
        limiter.record(URGENT, admission, Answer::Down { subject });
    }
    assert_eq!(limiter.acquire(URGENT).await, Ok(Admission::Call));
    limiter.record(URGENT, Admission::Call, Answer::Answered);
}

#[tokio::test]
async fn a_refused_token_stops_the_fleet_which_tries_one_call_at_a_time_and_resumes_by_itself() {
    let database = database(polar_jobs::migrate::migrator).await;
    let limiters: Vec<_> = (0..4)
        .map(|_| limiter(&database.pool, 6000, CALM))
        .collect();
    call(&limiters[0], Answer::Unauthorized).await;
    eventually("the fleet knows", async || {
        fleet(&database).await.unauthorized_since.is_some()
    })
    .await;

    // Twelve callers at four processes hammer for three of the fleet's minutes; every probe is
    // refused.
    let probes = Arc::new(Mutex::new(Vec::new()));
    let started = Instant::now();
    let hammering: Vec<_> = (0..12)
        .map(|caller| {
            let (limiter, probes) = (Arc::clone(&limiters[caller % 4]), Arc::clone(&probes));
            tokio::spawn(async move {
                while started.elapsed() < 3 * CALM.token_probe_interval {
                    match limiter.acquire(URGENT).await {
                        Ok(admission) => {
                            probes.lock().unwrap().push(admission);
                            limiter.record(URGENT, admission, Answer::Unauthorized);
                        }
                        Err(rejected) => {
                            assert_eq!(rejected.reason, RejectedReason::Unauthorized);
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    }
                }
            })
        })
        .collect();
    for hammer in hammering {
        hammer.await.unwrap();
    }
    let probes = probes.lock().unwrap().clone();
    assert!((1..=3).contains(&probes.len()), "{} probes", probes.len());
    assert!(probes.iter().all(|probe| *probe == Admission::Probe));

    // The next probe is answered, by whichever process makes it, and all go on.
    for limiter in &limiters {
        call(limiter, Answer::Answered).await;
    }
    assert_eq!(fleet(&database).await.unauthorized_since, None);
}

/// A job goes back until the moment that it was given and is claimed some milliseconds after it.
#[tokio::test]
async fn a_job_that_comes_back_when_it_was_told_to_becomes_the_probe() {
    let database = database(polar_jobs::migrate::migrator).await;
    let limiter = limiter(&database.pool, 6000, CALM);
    call(&limiter, Answer::Unauthorized).await;
    let comes_back = async {
        loop {
            match limiter.acquire(URGENT).await {
                Ok(admission) => return admission,
                Err(rejected) => {
                    tokio::time::sleep(rejected.retry_after + Duration::from_millis(10)).await;
                }
            }
        }
    };
    let admission = tokio::time::timeout(10 * CALM.token_probe_interval, comes_back)
        .await
        .expect("the token is tried again");
    assert_eq!(admission, Admission::Probe);
    limiter.record(URGENT, admission, Answer::Answered);
    eventually("the fleet resumes", async || {
        fleet(&database).await.unauthorized_since.is_none()
    })
    .await;
}

/// Ten thousand jobs that came back at one moment would all be claimed to be put back.
#[tokio::test]
async fn those_rejected_come_again_one_behind_the_other_and_the_urgent_in_a_line_of_their_own() {
    let database = database(polar_jobs::migrate::migrator).await;
    let limiter = limiter(&database.pool, 60, Timing::PRODUCTION);
    call(&limiter, Answer::Unauthorized).await;
    let opening = rejected(&limiter).await.retry_after;
    let mut bulk = Vec::new();
    for _ in 0..10 {
        let rejected = limiter.acquire(facts(CallClass::Bulk)).await.unwrap_err();
        bulk.push(rejected.retry_after);
    }
    // 54 calls a minute; the moment of asking moves on a little, the moments given do not.
    for (behind, moment) in bulk.iter().enumerate() {
        let expected = opening.as_secs_f64() + behind as f64 * 60.0 / 54.0;
        assert!((moment.as_secs_f64() - expected).abs() < 1.0, "{bulk:?}");
    }
    let urgent = rejected(&limiter).await.retry_after;
    assert!(
        urgent < bulk[3],
        "{urgent:?} does not stand behind {bulk:?}"
    );
}

#[tokio::test]
async fn without_the_database_no_call_goes_out_and_with_it_they_do() {
    let database = database(polar_jobs::migrate::migrator).await;
    let limiter = limiter(&database.pool, 600, CALM);
    execute(
        &database.pool,
        "ALTER TABLE polar_jobs.rate_limiter RENAME TO gone",
    )
    .await;
    for _ in 0..3 {
        let reason = rejected(&limiter).await.reason;
        assert_eq!(reason, RejectedReason::BudgetUnknown);
    }
    execute(
        &database.pool,
        "ALTER TABLE polar_jobs.gone RENAME TO rate_limiter",
    )
    .await;
    call(&limiter, Answer::Answered).await;
    // A row that somebody removed begins anew, and empty.
    execute(&database.pool, "DELETE FROM polar_jobs.rate_limiter").await;
    call(&limiter, Answer::Answered).await;
    eventually("the row is back", async || {
        let _ = limiter
            .acquire(URGENT)
            .await
            .map(|admission| limiter.record(URGENT, admission, Answer::Answered));
        status(&database.pool).await.unwrap().is_some()
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_behind() {
    let database = database(polar_jobs::migrate::migrator).await;
    let limiter = limiter(&database.pool, 600, CALM);
    open_breaker(&limiter).await;
    eventually("the probe is due", async || limiter.rejected().is_none()).await;
    // Each would be the probe; each is dropped while it waits or just as it is let through.
    for timeout in 0..30 {
        let acquiring = limiter.acquire(URGENT);
        let acquired = tokio::time::timeout(Duration::from_millis(timeout), acquiring).await;
        if let Ok(Ok(admission)) = acquired {
            limiter.record(URGENT, admission, Answer::Abandoned);
        }
    }
    call(&limiter, Answer::Answered).await;
    call(&limiter, Answer::Answered).await;
    assert_eq!(limiter.rejected(), None);
}

#[tokio::test]
async fn a_clock_of_the_database_that_is_set_back_holds_up_nobody() {
    let database = database(polar_jobs::migrate::migrator).await;
    let limiter = limiter(&database.pool, 600, CALM);
    call(&limiter, Answer::Answered).await;
    // What Polar asked for, as it looks once the clock is set back by three hours.
    let asked = "UPDATE polar_jobs.rate_limiter SET wait_until = clock_timestamp() + interval '3 hours', version = version + 1";
    execute(&database.pool, asked).await;
    let other = self::limiter(&database.pool, 600, CALM);
    call(&other, Answer::Answered).await;
    let limits = Limits {
        per_window: NonZeroU32::new(600).unwrap(),
        in_flight: NonZeroU32::MIN,
    };
    let single = SingleCalls::new(database.pool.clone(), limits);
    assert_eq!(single.acquire(URGENT).await, Ok(Admission::Call));
    assert_eq!(fleet(&database).await.wait_until, None, "doctor sees none");
    // What it asks for now is obeyed all the same.
    let limited = Answer::RateLimited {
        retry_after: Duration::from_secs(60),
    };
    call(&other, limited).await;
    let stored = async || {
        let status = fleet(&database).await;
        status
            .wait_until
            .is_some_and(|until| (until - status.now).num_seconds() < 61)
    };
    eventually("the fleet waits a minute", stored).await;
}

#[tokio::test]
async fn a_refused_token_is_tried_although_the_clock_of_the_database_is_set_back() {
    let database = database(polar_jobs::migrate::migrator).await;
    let one = limiter(&database.pool, 600, CALM);
    call(&one, Answer::Unauthorized).await;
    eventually("the fleet knows", async || {
        fleet(&database).await.unauthorized_since.is_some()
    })
    .await;
    let probed = "UPDATE polar_jobs.rate_limiter SET next_probe_at = clock_timestamp() + interval '3 hours', version = version + 1";
    execute(&database.pool, probed).await;
    let other = limiter(&database.pool, 600, CALM);
    assert_eq!(acquire(&other, URGENT).await, Admission::Probe);
}
