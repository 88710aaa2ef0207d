//! Exactly one owner, here and at Polar; a new one is promoted before the one before goes.

use serde_json::json;
use simulator::RequestMatch;

use crate::test_app::{DEADLINE, Tenant, TestApp, user};

async fn open() -> (TestApp, Tenant, String) {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    app.tell(&[
        tenant.created(),
        tenant.added(&ada, "ada@example.com", "member"),
    ])
    .await;
    app.resolve_waits().await;
    (app, tenant, ada)
}

async fn role_here(app: &TestApp, user: &str) -> String {
    sqlx::query_scalar("SELECT role FROM polar_jobs.members WHERE user_id = $1::text::uuid")
        .bind(user)
        .fetch_one(&app.pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_promotes_the_new_owner_and_the_old_one_becomes_an_admin() {
    let (app, tenant, ada) = open().await;
    app.tell(&[tenant.transferred(&ada)]).await;
    app.resolve_waits().await;
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    assert_eq!(
        app.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("billing_manager")
    );
    assert_eq!(
        (
            role_here(&app, &ada).await,
            role_here(&app, &tenant.owner).await
        ),
        ("owner".into(), "admin".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_the_role_owner_is_a_transfer() {
    let (app, tenant, ada) = open().await;
    app.tell(&[tenant.role(&ada, "owner")]).await;
    app.resolve_waits().await;
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    let bob = user();
    app.tell(&[tenant.added(&bob, "bob@example.com", "owner")])
        .await;
    app.resolve_waits().await;
    assert_eq!(app.role_at_polar(&tenant, &bob).as_deref(), Some("owner"));
    assert_eq!(role_here(&app, &ada).await, "admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_hands_over_and_leaves_at_once_is_replaced_before_being_removed() {
    let (app, tenant, ada) = open().await;
    app.tell(&[tenant.transferred(&ada), tenant.removed(&tenant.owner)])
        .await;
    app.resolve_waits().await;
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    assert!(app.member(&tenant, &tenant.owner).is_none());
    assert!(
        app.ends("sync_member")
            .await
            .iter()
            .all(|(state, _)| state == "applied")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_owner_may_be_unknown_at_polar_when_the_old_one_leaves_first() {
    let (app, tenant, _) = open().await;
    let bob = user();
    // The addition is held back: the removal's job must bring the successor by itself.
    app.tell(&[
        tenant.added(&bob, "bob@example.com", "owner"),
        tenant.removed(&tenant.owner),
    ])
    .await;
    let held = app
        .simulator
        .hold(RequestMatch::path(&format!("members/{bob}")).method("GET"));
    tokio::join!(app.work_until_idle(), async {
        assert!(held.wait_for(1, DEADLINE).await);
        held.release_all();
    });
    assert_eq!(app.role_at_polar(&tenant, &bob).as_deref(), Some("owner"));
    assert!(app.member(&tenant, &tenant.owner).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_the_only_owner_is_discarded_and_done_when_another_owner_comes() {
    let (app, tenant, ada) = open().await;
    app.tell(&[tenant.removed(&tenant.owner)]).await;
    app.resolve_waits().await;
    let (state, reason) = app.end("sync_member").await;
    assert_eq!(state, "discarded");
    assert!(reason.contains("only owner"), "{reason}");
    assert!(app.member(&tenant, &tenant.owner).is_some());
    app.tell(&[tenant.transferred(&ada)]).await;
    app.resolve_waits().await;
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    assert!(app.member(&tenant, &tenant.owner).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn demoting_the_only_owner_is_discarded_and_done_when_another_owner_comes() {
    let (app, tenant, ada) = open().await;
    app.tell(&[tenant.role(&tenant.owner, "member")]).await;
    app.resolve_waits().await;
    assert_eq!(app.end("sync_member").await.0, "discarded");
    assert_eq!(
        app.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("owner")
    );
    app.tell(&[tenant.transferred(&ada)]).await;
    app.resolve_waits().await;
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    assert_eq!(
        app.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("member")
    );
}

/// Somebody moves ownership at Polar by hand.
async fn own_at_polar(app: &TestApp, tenant: &Tenant, new_owner: &str) {
    let update = polar::MemberUpdate {
        role: Some(polar::Role::Owner),
        ..polar::MemberUpdate::default()
    };
    let polar = app.polar();
    let updated = polar.members().update(&tenant.id, new_owner, &update).await;
    updated.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_change_for_whom_polar_takes_for_the_owner_is_no_poison() {
    let (app, tenant, ada) = open().await;
    own_at_polar(&app, &tenant, &ada).await;
    app.tell(&[tenant.role(&ada, "finance")]).await;
    app.resolve_waits().await;
    assert_eq!(
        app.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("owner")
    );
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("member"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_of_the_customer_puts_the_owner_right() {
    let (app, tenant, ada) = open().await;
    own_at_polar(&app, &tenant, &ada).await;
    app.tell(&[json!({"type": "organization.updated", "data": {"id": tenant.id, "name": "Acme"}})])
        .await;
    app.resolve_waits().await;
    assert_eq!(
        app.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("owner")
    );
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("member"));
}
