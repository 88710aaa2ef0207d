//! Half an hour without Polar: changes come in all the same, nothing is lost, and afterwards everything is in step
//! within the budget of calls.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use polar_jobs::limiter::{FleetRateLimiter, Limits, Timing};
use serde_json::{Value, json};
use simulator::{Gateway, Options};

use crate::densest::densest;
use crate::test_app::{Tenant, TestApp, user};
use crate::wait::comes_true_within;

/// As Polar's own, ten times faster.
const TIMING: Timing = Timing {
    window: Duration::from_secs(6),
    quota_lifetime: Duration::from_millis(200),
    travel: Duration::from_millis(200),
    acquire_timeout: Duration::from_millis(500),
    breaker_first_delay: Duration::from_millis(300),
    breaker_longest_delay: Duration::from_secs(1),
    ..Timing::PRODUCTION
};
/// Calls in a window.
const BUDGET: u32 = 400;
/// Calls at once, which may all be under way when Polar goes down.
const IN_FLIGHT: u32 = 16;
/// Failures in a row that open the breaker.
const SUSPICIOUS: i64 = 5;
/// So often the clock is moved by three minutes.
const STEPS: usize = 10;

const NOT_TRIED: &str = "SELECT count(*) FROM polar_jobs.live_jobs WHERE NOT blocked AND (worker IS NOT NULL OR run_at <= now())";

/// `OUTAGE_CHANGES` makes it larger.
fn size() -> usize {
    std::env::var("OUTAGE_CHANGES").map_or(300, |text| text.parse().unwrap())
}

/// An organization with four members beside its owner: five changes.
fn sign_up(number: usize) -> (Tenant, Vec<Value>) {
    let tenant = Tenant::new();
    let owner = json!({"id": tenant.owner, "email": format!("owner{number}@example.com")});
    let mut changes = vec![
        json!({"type": "organization.created", "data": {"id": tenant.id,
        "name": format!("Org {number}"), "slug": format!("org-{number}"), "owner": owner}}),
    ];
    for member in 1..5 {
        let email = format!("member{member}of{number}@example.com");
        changes.push(tenant.added(&user(), &email, "member"));
    }
    (tenant, changes)
}

async fn until(app: &TestApp, what: &str, holds: impl AsyncFnMut() -> bool) {
    let longest = Duration::from_secs(60 + size() as u64 / 10);
    assert!(
        comes_true_within(longest, holds).await,
        "{what} did not happen; waiting: {:?}",
        app.notes().await
    );
}

/// Every time that a job waits for comes so much earlier.
async fn move_clock(app: &TestApp, minutes: i32) {
    sqlx::query("UPDATE polar_jobs.live_jobs SET run_at = run_at - make_interval(mins => $1) WHERE worker IS NULL")
        .bind(minutes)
        .execute(&app.pool)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_hour_without_polar_loses_nothing_and_uses_up_no_attempts() {
    let app = TestApp::open_with(Options {
        rate_limit_per_minute: u32::MAX,
        ..Options::default()
    })
    .await;
    let limits = Limits {
        per_window: NonZeroU32::new(BUDGET).unwrap(),
        in_flight: NonZeroU32::new(IN_FLIGHT).unwrap(),
    };
    let limiter = FleetRateLimiter::new(app.pool.clone(), limits, TIMING);
    app.simulator.set_gateway(Some(Gateway {
        status: 503,
        html: true,
        path: String::new(),
    }));
    let worker = app.work_through(Arc::new(limiter));
    let (tenants, changes): (Vec<Tenant>, Vec<Vec<Value>>) = (0..size() / 5).map(sign_up).unzip();
    let changes = changes.concat();
    for part in changes.chunks(changes.len().div_ceil(STEPS)) {
        app.tell(part).await;
        until(&app, "a try of all that is due", async || {
            app.count(NOT_TRIED).await == 0
        })
        .await;
        move_clock(&app, 3).await;
    }
    let (asked_in_vain, begun) = (app.simulator.requests().len(), Instant::now());
    app.simulator.set_gateway(None);
    until(&app, "everybody at Polar", async || {
        if app.count(NOT_TRIED).await == 0 {
            move_clock(&app, 1).await;
        }
        app.count("SELECT count(*) FROM polar_jobs.live_jobs").await == 0
    })
    .await;
    let (lasted, calls) = (begun.elapsed(), app.simulator.requests());
    worker.stop().await;

    let complete = |tenant: &Tenant| app.simulator.members(&tenant.id).len() == 5;
    assert!(tenants.iter().all(complete));
    let applied = "SELECT count(*) FROM polar_jobs.external_events WHERE source = 'app' AND outcome = 'applied'";
    assert_eq!(
        app.count(applied).await,
        i64::try_from(changes.len()).unwrap()
    );
    let given_up: Vec<String> = sqlx::query_scalar(
        "SELECT format('%s: %s', kind, errors) FROM polar_jobs.jobs WHERE state = 'discarded'",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    assert_eq!(given_up, Vec::<String>::new());
    let failures =
        "SELECT coalesce(sum(jsonb_array_length(errors)), 0)::bigint FROM polar_jobs.jobs";
    let failures = app.count(failures).await;
    assert!(
        failures <= SUSPICIOUS + i64::from(IN_FLIGHT),
        "only what found out that Polar is down fails: {failures}"
    );
    let moments: Vec<DateTime<Utc>> = calls.iter().map(|call| call.at).collect();
    let window = TimeDelta::from_std(TIMING.window).unwrap();
    let densest = densest(&moments, window);
    assert!(densest <= BUDGET as usize, "{densest} calls in a window");
    println!(
        "{} changes while Polar was down; {asked_in_vain} calls found that out, {failures} jobs failed once by it; in step after {} calls in {:.1} s, at most {densest} of {BUDGET} calls in a window of 6 s",
        changes.len(),
        calls.len() - asked_in_vain,
        lasted.as_secs_f64()
    );
}
