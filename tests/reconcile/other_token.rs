//! A command with a token of its own: what Polar says of it is an end of the command, and no matter of the fleet's.

use std::num::NonZeroU32;
use std::sync::Arc;

use polar_jobs::limiter::{FleetRateLimiter, Limits, Timing};
use serde_json::json;
use simulator::Product;

use crate::command::{Said, command};
use crate::test_app::{DEADLINE, Tenant, TestApp, user};

/// Runs a command with this token; fails where it does not end within seconds.
async fn run_with(app: &TestApp, token: &str, arguments: &[&str]) -> Said {
    let mut command = command(app, arguments);
    command
        .env("POLAR_ACCESS_TOKEN", token)
        .env("POLAR_SCALE_PRODUCT_ID", user());
    let output = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE / 2, output).await;
    let output = output
        .unwrap_or_else(|_| panic!("{arguments:?} does not end"))
        .unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The workers' limiter.
fn fleet(app: &TestApp) -> Arc<FleetRateLimiter> {
    let limits = Limits {
        per_window: NonZeroU32::new(60_000).unwrap(),
        in_flight: NonZeroU32::new(4).unwrap(),
    };
    let limiter = FleetRateLimiter::new(app.pool.clone(), limits, Timing::PRODUCTION);
    Arc::new(limiter)
}

/// An organization with a plan, everything in step.
async fn with_plan(app: &TestApp) -> Tenant {
    let tenant = Tenant::new();
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    app.simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    app.work_until_idle().await;
    tenant
}

const REFUSED: &str =
    "SELECT count(*) FROM polar_jobs.rate_limiter WHERE unauthorized_since IS NOT NULL";

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_token_is_refused_ends_with_the_reason_and_pauses_nobody() {
    let app = TestApp::open().await;
    let tenant = with_plan(&app).await;
    for arguments in [
        &["reconcile"][..],
        &["reconcile", "--organization", &tenant.id],
        &["startup", "status", &tenant.id],
        &[
            "events",
            "replay",
            "--shadow",
            "--type",
            "subscription.created",
        ],
    ] {
        let said = run_with(&app, "polar_oat_of_last_year", arguments).await;
        assert_eq!(said.code, 1, "{arguments:?}: {}{}", said.out, said.err);
        assert!(
            said.err
                .contains("Polar refuses POLAR_ACCESS_TOKEN of this shell"),
            "{arguments:?}: {}",
            said.err
        );
        assert_eq!(app.count(REFUSED).await, 0, "{arguments:?}");
    }
    let renamed =
        json!({"type": "organization.updated", "data": {"id": tenant.id, "name": "Renamed"}});
    app.tell(&[renamed]).await;
    app.drain_through(fleet(&app)).await;
    let customer = app.simulator.customer(&tenant.id).unwrap();
    assert_eq!(
        customer.name.as_deref(),
        Some("Renamed"),
        "the workers' token is good"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_token_lacks_a_scope_ends_and_names_it() {
    let app = TestApp::open().await;
    with_plan(&app).await;
    app.simulator
        .add_token("polar_oat_poor_token", &["customers:read"]);
    let said = run_with(&app, "polar_oat_poor_token", &["reconcile"]).await;
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    assert!(
        said.err
            .contains("POLAR_ACCESS_TOKEN of this shell lacks the scope members:read"),
        "{}",
        said.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_a_good_token_works_although_that_of_the_workers_is_refused() {
    let app = TestApp::open().await;
    with_plan(&app).await;
    sqlx::query(
        "INSERT INTO polar_jobs.rate_limiter (name, calls_left, counted_at, unauthorized_since, next_probe_at)
         VALUES ('polar', 0, now(), now(), now() - interval '1 second')
         ON CONFLICT (name) DO UPDATE SET unauthorized_since = excluded.unauthorized_since, next_probe_at = excluded.next_probe_at",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    let said = run_with(&app, app.simulator.access_token(), &["reconcile"]).await;
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert_eq!(
        app.count(REFUSED).await,
        1,
        "what another token is answered says nothing of theirs"
    );
    let probe = "SELECT count(*) FROM polar_jobs.rate_limiter WHERE next_probe_at < now()";
    assert_eq!(app.count(probe).await, 1, "the probe is left to a worker");
}
