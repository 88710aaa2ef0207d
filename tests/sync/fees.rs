//! The fees in force: a grant's, else the organization's own, else the platform's.

use jobs::contract::Fees;
use serde_json::json;
use simulator::Product;

use crate::test_app::{PLATFORM, Tenant, TestApp};

type Account = (i32, i32, i32, String);

async fn account(app: &TestApp, tenant: &Tenant) -> Account {
    sqlx::query_as(
        "SELECT fee_basis_points, fee_fixed, subscription_fee_basis_points, source
           FROM polar_jobs.accounts WHERE organization_id = $1::text::uuid",
    )
    .bind(&tenant.id)
    .fetch_one(&app.pool)
    .await
    .unwrap()
}

fn account_of(fees: (i32, i32, i32), source: &str) -> Account {
    (fees.0, fees.1, fees.2, source.to_owned())
}

const RAISED: Fees = Fees {
    basis_points: 600,
    fixed: 60,
    subscription_basis_points: 6,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_default_holds_at_once_for_everybody_without_a_grant_and_fees_of_their_own() {
    let app = TestApp::open().await;
    let (plain, special, paying) = (Tenant::new(), Tenant::new(), Tenant::new());
    let mut created = special.created();
    created["data"]["fees"] =
        json!({"basis_points": 123, "fixed": 4, "subscription_basis_points": 5});
    app.tell(&[plain.created(), created, paying.created()])
        .await;
    app.work_until_idle().await;
    app.simulator
        .purchase(&paying.id, Product::Pro)
        .await
        .unwrap();
    app.work_until_idle().await;

    // No job runs: the start of the worker is enough.
    app.drain_with(|settings| settings.platform_fees = RAISED)
        .await;
    assert_eq!(
        account(&app, &plain).await,
        account_of((600, 60, 6), "platform")
    );
    assert_eq!(
        account(&app, &special).await,
        account_of((123, 4, 5), "organization")
    );
    assert_eq!(
        account(&app, &paying).await,
        account_of((380, 35, 0), "grant")
    );

    let newcomer = Tenant::new();
    app.tell(&[newcomer.created()]).await;
    app.drain_with(|settings| settings.platform_fees = RAISED)
        .await;
    app.simulator.revoke(&paying.id).await.unwrap();
    assert!(
        app.simulator
            .deliveries_finished(crate::test_app::DEADLINE)
            .await
    );
    app.drain_with(|settings| settings.platform_fees = RAISED)
        .await;
    for tenant in [&plain, &newcomer, &paying] {
        assert_eq!(
            account(&app, tenant).await,
            account_of((600, 60, 6), "platform")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_the_same_settings_changes_nothing() {
    let app = TestApp::open().await;
    let version = "SELECT xmin::text::bigint FROM polar_jobs.platform_fees";
    app.drain_with(|settings| settings.platform_fees = RAISED)
        .await;
    let written = app.count(version).await;
    app.drain_with(|settings| settings.platform_fees = RAISED)
        .await;
    assert_eq!(app.count(version).await, written);
    app.drain_with(|settings| settings.platform_fees = PLATFORM)
        .await;
    assert_ne!(app.count(version).await, written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_life_of_an_organization_has_no_fees_of_the_earlier_one() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    app.simulator
        .purchase(&tenant.id, Product::Scale)
        .await
        .unwrap();
    app.work_until_idle().await;
    app.tell(&[tenant.deleted(), tenant.created()]).await;
    app.resolve_waits().await;
    assert_eq!(
        account(&app, &tenant).await,
        account_of((500, 50, 0), "platform")
    );
}
