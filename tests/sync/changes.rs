//! `apply_change`: the mirror after changes in odd orders.

use serde_json::json;

use crate::test_app::{Tenant, TestApp, user};

const OUT_OF_STEP: &str = "SELECT count(*) FROM polar_jobs.organization_overview WHERE NOT in_step";

type Row = (String, String, String, bool);

async fn members(app: &TestApp) -> Vec<Row> {
    sqlx::query_as("SELECT user_id::text, coalesce(email, ''), role, removed_at IS NULL FROM polar_jobs.members ORDER BY email")
        .fetch_all(&app.pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_change_that_is_replayed_overwrites_nothing() {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    app.tell(&[
        tenant.created(),
        tenant.added(&ada, "ada@example.com", "member"),
        tenant.transferred(&ada),
        tenant.transferred(&tenant.owner),
        json!({"type": "user.updated", "data": {"id": ada, "email": "new@example.com"}}),
        json!({"type": "organization.updated", "data": {"id": tenant.id, "name": "Acme 2"}}),
    ])
    .await;
    app.resolve_waits().await;
    let before = members(&app).await;
    let events: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM polar_jobs.external_events WHERE source = 'app' ORDER BY id",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    let mut connection = app.pool.acquire().await.unwrap();
    for event in events {
        let replay = jobs::NewJob::of(&jobs::ApplyChange { event });
        polar_jobs::queue::enqueue::insert(&mut connection, &replay)
            .await
            .unwrap();
    }
    app.resolve_waits().await;
    assert_eq!(members(&app).await, before);
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.organizations WHERE name = 'Acme 2'")
            .await,
        1
    );
    assert_eq!(
        app.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("owner")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_given_up_and_is_retried_writes_what_no_newer_one_has_written() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    let update = |mut fields: serde_json::Value| {
        fields["id"] = tenant.id.clone().into();
        json!({"type": "organization.updated", "data": fields})
    };
    app.tell(&[update(json!({"name": "Acme 2", "slug": "acme-2"}))])
        .await;
    let given_up = app.give_up_changes().await;
    app.tell(&[update(json!({"slug": "acme-3"}))]).await;
    app.resolve_waits().await;
    app.retry(&given_up).await;
    app.resolve_waits().await;
    let customer = app.simulator.customer(&tenant.id).unwrap();
    assert_eq!(customer.name.as_deref(), Some("Acme 2"));
    let written: (String, String) =
        sqlx::query_as("SELECT name, slug FROM polar_jobs.organizations")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!(written, ("Acme 2".to_owned(), "acme-3".to_owned()));
    assert_eq!(app.count(OUT_OF_STEP).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_deletion_member_changes_are_ignored() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[
        tenant.created(),
        tenant.deleted(),
        tenant.added(&user(), "ada@example.com", "member"),
    ])
    .await;
    app.resolve_waits().await;
    assert_eq!(app.end("apply_change").await.0, "ignored");
    assert!(members(&app).await.iter().all(|(.., active)| !active));
    let outcome: String = sqlx::query_scalar(
        "SELECT outcome FROM polar_jobs.external_events WHERE type = 'member.added'",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!(outcome, "ignored");
}

#[tokio::test(flavor = "multi_thread")]
async fn fees_are_the_organizations_own_or_the_platforms() {
    let app = TestApp::open().await;
    let (plain, special) = (Tenant::new(), Tenant::new());
    let mut created = special.created();
    created["data"]["fees"] =
        json!({"basis_points": 123, "fixed": 4, "subscription_basis_points": 5});
    app.tell(&[plain.created(), created]).await;
    app.resolve_waits().await;
    for (tenant, fees) in [(plain, (500, 50, 0)), (special, (123, 4, 5))] {
        let row: (i32, i32, i32) = sqlx::query_as(
            "SELECT fee_basis_points, fee_fixed, subscription_fee_basis_points
               FROM polar_jobs.accounts WHERE organization_id = $1::text::uuid",
        )
        .bind(&tenant.id)
        .fetch_one(&app.pool)
        .await
        .unwrap();
        assert_eq!(row, fees);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ownership_given_to_somebody_unknown_waits_for_the_address() {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    app.tell(&[tenant.transferred(&ada)]).await;
    app.resolve_waits().await;
    assert_eq!(app.end("sync_member").await.0, "discarded");
    assert_eq!(
        app.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("owner")
    );
    app.tell(&[json!({"type": "user.updated", "data": {"id": ada, "email": "ada@example.com"}})])
        .await;
    app.resolve_waits().await;
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    assert_eq!(app.count(OUT_OF_STEP).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_whose_owner_became_somebody_unknown_before_it_was_made_waits_for_the_address() {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    app.tell(&[tenant.created(), tenant.transferred(&ada)])
        .await;
    app.drain_without_billing().await;
    app.resolve_waits().await;
    let (state, reason) = app.end("sync_customer").await;
    assert_eq!(state, "discarded");
    assert!(reason.contains("is not known"), "{reason}");
    app.tell(&[json!({"type": "user.updated", "data": {"id": ada, "email": "ada@example.com"}})])
        .await;
    app.resolve_waits().await;
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    assert_eq!(
        app.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("billing_manager")
    );
    assert_eq!(app.count(OUT_OF_STEP).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_organization_leaves_nothing_but_its_row() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created(), tenant.deleted()]).await;
    app.resolve_waits().await;
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.organizations WHERE deleted_at IS NOT NULL")
            .await,
        1
    );
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.entitlements")
            .await,
        0
    );
    assert!(
        app.simulator
            .customers()
            .iter()
            .all(|customer| customer.deleted_at.is_some())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn news_about_a_person_that_come_with_one_organization_reach_the_others() {
    let app = TestApp::open().await;
    let (first, second, ada) = (Tenant::new(), Tenant::new(), user());
    app.tell(&[
        first.created(),
        second.created(),
        first.added(&ada, "old@example.com", "member"),
    ])
    .await;
    app.resolve_waits().await;
    app.tell(&[second.added(&ada, "new@example.com", "member")])
        .await;
    app.resolve_waits().await;
    for tenant in [&first, &second] {
        assert_eq!(app.member(tenant, &ada).unwrap().email, "new@example.com");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_an_organization_that_names_no_field_is_applied() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    app.tell(&[json!({"type": "organization.updated", "data": {"id": tenant.id}})])
        .await;
    app.resolve_waits().await;
    assert_eq!(app.end("apply_change").await.0, "applied");
    assert_eq!(app.count(OUT_OF_STEP).await, 0);
}

/// Changes of one person that come with different organizations have no order among each other.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_a_person_late_is_confirmed_as_well() {
    let (app, here, there, ada) = (TestApp::open().await, Tenant::new(), Tenant::new(), user());
    app.tell(&[
        here.created(),
        there.created(),
        here.added(&ada, "ada@example.com", "member"),
    ])
    .await;
    app.resolve_waits().await;
    app.tell(&[there.added(&ada, "late@example.com", "member")])
        .await;
    app.postpone_changes("1 hour").await;
    app.tell(&[json!({"type": "user.updated", "data": {"id": ada, "name": "Ada L"}})])
        .await;
    app.drain().await;
    app.postpone_changes("0").await;
    app.resolve_waits().await;
    let member = app.member(&here, &ada).unwrap();
    assert_eq!(member.email, "late@example.com");
    assert_eq!(app.count(OUT_OF_STEP).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_who_left_is_nothing_to_tell_of_the_organization_they_left() {
    let (app, here, there, ada) = (TestApp::open().await, Tenant::new(), Tenant::new(), user());
    app.tell(&[
        here.created(),
        there.created(),
        here.added(&ada, "ada@example.com", "member"),
        there.added(&ada, "ada@example.com", "member"),
    ])
    .await;
    app.resolve_waits().await;
    let named = |name: &str| json!({"type": "user.updated", "data": {"id": ada, "name": name}});
    // One change that comes late, and one that is newer.
    app.tell(&[named("Ada K")]).await;
    app.postpone_changes("1 hour").await;
    app.tell(&[here.removed(&ada)]).await;
    app.drain().await;
    assert!(app.member(&here, &ada).is_none());
    let deletions = || app.requests("DELETE", "members").len();
    let before = deletions();
    app.postpone_changes("0").await;
    for name in ["Ada K", "Ada L"] {
        app.resolve_waits().await;
        let member = app.member(&there, &ada).unwrap();
        assert_eq!(member.name.as_deref(), Some(name));
        assert_eq!(deletions(), before, "{name}");
        assert_eq!(app.count(OUT_OF_STEP).await, 0, "{name}");
        app.tell(&[named("Ada L")]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_without_an_owner_is_no_customer_until_one_comes() {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    app.tell(&[tenant.created(), tenant.removed(&tenant.owner)])
        .await;
    app.drain_without_billing().await;
    app.resolve_waits().await;
    let (state, reason) = app.end("sync_customer").await;
    assert_eq!(state, "discarded");
    assert!(reason.contains("nobody owns"), "{reason}");
    app.tell(&[tenant.added(&ada, "ada@example.com", "owner")])
        .await;
    app.resolve_waits().await;
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    assert!(app.member(&tenant, &tenant.owner).is_none());
}
