//! Several processes at one gate: what the fleet promises Polar, with a real database between them.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed, and says where

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use polar::{Answer, CallClass, Gate, Held, HeldReason};
use polar_jobs::gate::{FleetGate, Status, Timing, status};
use private_postgres::testing::{TestDatabase, database};
use sqlx::PgPool;
use tokio::sync::Barrier;

/// Ten times faster than Polar, but with a patient database: the machine may be busy.
const FAST: Timing = Timing {
    window: Duration::from_secs(6),
    portion: Duration::from_millis(200),
    travel: Duration::from_millis(200),
    patience: Duration::from_millis(500),
    database: Duration::from_secs(5),
    database_pause: Duration::from_millis(100),
    breaker_first: Duration::from_millis(300),
    breaker_longest: Duration::from_millis(1200),
    authorization_probe: Duration::from_millis(600),
    authorization_answer: Duration::from_millis(100),
};

/// For tests about something else: no test waits for budget, and no answer comes too late.
const CALM: Timing = Timing {
    window: Duration::from_secs(12),
    portion: Duration::from_millis(500),
    patience: Duration::from_secs(5),
    breaker_first: Duration::from_secs(1),
    ..FAST
};

fn gate(pool: &PgPool, limit: u32, timing: Timing) -> Arc<FleetGate> {
    Arc::new(FleetGate::open(
        pool.clone(),
        NonZeroU32::new(limit).unwrap(),
        timing,
    ))
}

/// Enters again and again, however often it is held back.
async fn enter(gate: &FleetGate, class: CallClass) {
    let entering = async {
        while let Err(held) = gate.enter(class).await {
            tokio::time::sleep(held.until.min(Duration::from_millis(50))).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), entering)
        .await
        .expect("the call is let out in the end");
}

async fn call(gate: &FleetGate, answer: Answer) {
    enter(gate, CallClass::Entitlement).await;
    gate.left(answer);
}

async fn held(gate: &FleetGate) -> Held {
    gate.enter(CallClass::Entitlement)
        .await
        .expect_err("the call is held back")
}

async fn fleet(database: &TestDatabase) -> Status {
    status(&database.pool).await.unwrap().unwrap()
}

/// Polls for a condition; ten seconds are a failure.
async fn until<F: AsyncFn() -> bool>(what: &str, condition: F) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), holds)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

async fn execute(pool: &PgPool, statement: &'static str) {
    sqlx::query(statement).execute(pool).await.unwrap();
}

/// The most moments within any stretch of `length`.
fn densest(moments: &[Instant], length: Duration) -> usize {
    let within = |first: usize| {
        moments[first..]
            .iter()
            .take_while(|at| **at - moments[first] <= length)
            .count()
    };
    (0..moments.len()).map(within).max().unwrap_or(0)
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
        let gate = gate(&database.pool, LIMIT, FAST);
        for caller in 0..12 {
            let (gate, barrier, went) =
                (Arc::clone(&gate), Arc::clone(&barrier), Arc::clone(&went));
            let class = [
                CallClass::Entitlement,
                CallClass::Mail,
                CallClass::Metering,
                CallClass::Bulk,
            ][(process + caller) % 4];
            callers.push(tokio::spawn(async move {
                barrier.wait().await;
                while start.elapsed() < Duration::from_secs(9) {
                    if gate.enter(class).await.is_ok() {
                        went.lock().unwrap().push(Instant::now());
                        gate.left(Answer::Answered);
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
    let gate = gate(&database.pool, 1200, CALM);
    let writes = async || {
        sqlx::query_scalar::<_, i64>("SELECT version FROM polar_jobs.gate")
            .fetch_one(&database.pool)
            .await
            .unwrap()
    };
    let before = writes().await;
    let calls: Vec<_> = (0..300)
        .map(|_| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { call(&gate, Answer::Answered).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    let written = writes().await - before;
    assert!(written <= 60, "{written} writes for 300 calls");
}

#[tokio::test]
async fn waiting_calls_of_a_class_go_in_the_order_they_came_and_urgent_ones_first() {
    let database = database(polar_jobs::migrate::migrator).await;
    let gate = gate(
        &database.pool,
        60,
        Timing {
            patience: Duration::from_secs(20),
            ..FAST
        },
    );
    // The budget is used up: 60 in 6 s are a burst of about two.
    while let Ok(Ok(())) = tokio::time::timeout(
        Duration::from_millis(20),
        gate.enter(CallClass::Entitlement),
    )
    .await
    {
        gate.left(Answer::Answered);
    }
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for (name, class) in [
        ("b1", CallClass::Bulk),
        ("b2", CallClass::Bulk),
        ("e1", CallClass::Entitlement),
        ("e2", CallClass::Entitlement),
    ] {
        let mut entering = Box::pin({
            let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
            async move {
                gate.enter(class).await.unwrap();
                order.lock().unwrap().push(name);
                gate.left(Answer::Answered);
            }
        });
        // Polled once, so it stands in line before the next one comes.
        assert!(
            futures::poll!(&mut entering).is_pending(),
            "{name} had to wait"
        );
        waiting.push(tokio::spawn(entering));
    }
    for waited in waiting {
        waited.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), ["e1", "e2", "b1", "b2"]);
}

#[tokio::test]
async fn a_call_without_budget_is_held_back_in_the_end() {
    let database = database(polar_jobs::migrate::migrator).await;
    let gate = gate(&database.pool, 1, FAST);
    enter(&gate, CallClass::Entitlement).await;
    gate.left(Answer::Answered);
    let started = Instant::now();
    let held = held(&gate).await;
    assert_eq!(held.reason, HeldReason::Budget);
    assert!(started.elapsed() >= FAST.patience && !held.until.is_zero());
}

#[tokio::test]
async fn a_429_to_one_process_makes_all_wait_as_polar_asks() {
    let database = database(polar_jobs::migrate::migrator).await;
    let (one, other) = (
        gate(&database.pool, 600, CALM),
        gate(&database.pool, 600, CALM),
    );
    call(&other, Answer::Answered).await;
    let asked = Instant::now();
    call(
        &one,
        Answer::RateLimited {
            retry_after: Duration::from_secs(2),
        },
    )
    .await;
    assert_eq!(held(&one).await.reason, HeldReason::RateLimited);
    // The other one learns it with its next portion.
    until("the other process waits", async || {
        match other.enter(CallClass::Entitlement).await {
            Ok(()) => {
                other.left(Answer::Answered);
                false
            }
            Err(held) => held.reason == HeldReason::RateLimited,
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

#[tokio::test]
async fn polar_down_five_times_in_a_row_stops_the_process_until_one_probe_succeeds() {
    let database = database(polar_jobs::migrate::migrator).await;
    let gate = gate(&database.pool, 600, CALM);
    for _ in 0..5 {
        call(&gate, Answer::Down).await;
    }
    assert_eq!(held(&gate).await.reason, HeldReason::Breaker);
    // Ten come at once when it is time: one goes, nine wait for its answer.
    until("the probe is due", async || gate.held().is_none()).await;
    let barrier = Arc::new(Barrier::new(10));
    let (sender, mut went) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..10 {
        let (gate, barrier, sender) = (Arc::clone(&gate), Arc::clone(&barrier), sender.clone());
        tokio::spawn(async move {
            barrier.wait().await;
            let _ = sender.send(gate.enter(CallClass::Entitlement).await);
        });
    }
    went.recv().await.unwrap().unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(200), went.recv())
            .await
            .is_err(),
        "a second call went out"
    );
    gate.left(Answer::Answered);
    for _ in 0..9 {
        went.recv().await.unwrap().unwrap();
        gate.left(Answer::Answered);
    }
}

#[tokio::test]
async fn a_client_that_reaches_nobody_stops_calling() {
    let database = database(polar_jobs::migrate::migrator).await;
    // A port that was free a moment ago: nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = polar::ClientConfig {
        base_url: format!("http://{nobody}"),
        access_token: "polar_oat_test".to_owned().into(),
        version: "2026-04".to_owned(),
        timeout: Duration::from_secs(2),
        user_agent: "polar-jobs tests".to_owned(),
    };
    let timing = Timing {
        breaker_first: Duration::from_secs(60),
        ..CALM
    };
    let client = polar::Client::new(config, gate(&database.pool, 600, timing)).unwrap();
    for _ in 0..5 {
        let unreachable = client
            .customers()
            .get_by_external_id("x")
            .await
            .unwrap_err();
        assert!(unreachable.is_down(), "{unreachable}");
    }
    let held = client
        .customers()
        .get_by_external_id("x")
        .await
        .unwrap_err();
    assert!(
        matches!(
            held,
            polar::Error::Held(Held {
                reason: HeldReason::Breaker,
                ..
            })
        ),
        "{held}"
    );
}

#[tokio::test]
async fn a_refused_token_stops_the_fleet_which_tries_one_call_at_a_time_and_resumes_by_itself() {
    let database = database(polar_jobs::migrate::migrator).await;
    let gates: Vec<_> = (0..4).map(|_| gate(&database.pool, 6000, CALM)).collect();
    call(&gates[0], Answer::Unauthorized).await;
    until("the fleet knows", async || {
        fleet(&database).await.unauthorized_since.is_some()
    })
    .await;

    // Twelve callers at four gates hammer for three of the fleet's minutes; every probe is refused.
    let probes = Arc::new(Mutex::new(Vec::new()));
    let started = Instant::now();
    let hammering: Vec<_> = (0..12)
        .map(|caller| {
            let (gate, probes) = (Arc::clone(&gates[caller % 4]), Arc::clone(&probes));
            tokio::spawn(async move {
                while started.elapsed() < 3 * CALM.authorization_probe {
                    match gate.enter(CallClass::Entitlement).await {
                        Ok(()) => {
                            probes.lock().unwrap().push(Instant::now());
                            gate.left(Answer::Unauthorized);
                        }
                        Err(held) => {
                            assert_eq!(held.reason, HeldReason::Unauthorized);
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

    // The next probe is answered, by whichever process makes it, and all go on.
    for gate in &gates {
        call(gate, Answer::Answered).await;
    }
    assert_eq!(fleet(&database).await.unauthorized_since, None);
}

/// A job goes back until the moment that it was told and is claimed some milliseconds after it.
#[tokio::test]
async fn a_job_that_comes_back_when_it_was_told_to_becomes_the_probe() {
    let database = database(polar_jobs::migrate::migrator).await;
    let gate = gate(&database.pool, 6000, CALM);
    call(&gate, Answer::Unauthorized).await;
    let comes_back = async {
        while let Err(held) = gate.enter(CallClass::Entitlement).await {
            tokio::time::sleep(held.until + Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(10 * CALM.authorization_probe, comes_back)
        .await
        .expect("the token is tried again");
    gate.left(Answer::Answered);
    until("the fleet resumes", async || {
        fleet(&database).await.unauthorized_since.is_none()
    })
    .await;
}

/// Ten thousand jobs that came back at one moment would all be claimed to be put back.
#[tokio::test]
async fn those_held_back_come_again_one_behind_the_other_and_the_urgent_in_a_line_of_their_own() {
    let database = database(polar_jobs::migrate::migrator).await;
    let gate = gate(&database.pool, 60, Timing::PRODUCTION);
    call(&gate, Answer::Unauthorized).await;
    let opening = held(&gate).await.until;
    let mut bulk = Vec::new();
    for _ in 0..10 {
        bulk.push(gate.enter(CallClass::Bulk).await.unwrap_err().until);
    }
    // 54 calls a minute; the moment of asking moves on a little, the turns do not.
    for (behind, turn) in bulk.iter().enumerate() {
        let expected = opening.as_secs_f64() + behind as f64 * 60.0 / 54.0;
        assert!((turn.as_secs_f64() - expected).abs() < 1.0, "{bulk:?}");
    }
    let urgent = held(&gate).await.until;
    assert!(
        urgent < bulk[3],
        "{urgent:?} does not stand behind {bulk:?}"
    );
}

#[tokio::test]
async fn without_the_database_no_call_goes_out_and_with_it_they_do() {
    let database = database(polar_jobs::migrate::migrator).await;
    let gate = gate(&database.pool, 600, CALM);
    execute(&database.pool, "ALTER TABLE polar_jobs.gate RENAME TO gone").await;
    for _ in 0..3 {
        assert_eq!(held(&gate).await.reason, HeldReason::Budget);
    }
    execute(&database.pool, "ALTER TABLE polar_jobs.gone RENAME TO gate").await;
    call(&gate, Answer::Answered).await;
    // A row that somebody removed begins anew, and empty.
    execute(&database.pool, "DELETE FROM polar_jobs.gate").await;
    call(&gate, Answer::Answered).await;
    until("the row is back", async || {
        let _ = gate
            .enter(CallClass::Entitlement)
            .await
            .map(|()| gate.left(Answer::Answered));
        status(&database.pool).await.unwrap().is_some()
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_behind() {
    let database = database(polar_jobs::migrate::migrator).await;
    let gate = gate(&database.pool, 600, CALM);
    for _ in 0..5 {
        call(&gate, Answer::Down).await;
    }
    until("the probe is due", async || gate.held().is_none()).await;
    // Each would be the probe; each is dropped while it waits or just as it is told to go.
    for patience in 0..30 {
        let entering = gate.enter(CallClass::Entitlement);
        if let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(patience), entering).await {
            gate.left(Answer::Abandoned);
        }
    }
    call(&gate, Answer::Answered).await;
    call(&gate, Answer::Answered).await;
    assert_eq!(gate.held(), None);
}
