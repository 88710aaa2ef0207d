//! Exactly one owner, here and at Polar; a new one is promoted before the one before goes.

use serde_json::json;
use simulator::{Faults, RequestMatch};

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

/// Otherwise a promotion that is late could make an owner of who is wanted as none by then, and whose own job is done.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_new_owners_own_job_promotes_however_often_ownership_moves_meanwhile() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    let (ada, bob) = (user(), user());
    app.tell(&[
        tenant.created(),
        tenant.added(&ada, "ada@example.com", "admin"),
        tenant.added(&bob, "bob@example.com", "admin"),
    ])
    .await;
    app.resolve_waits().await;
    // Ada's own job fails and waits, so that only the removal of the owner before can promote her.
    let member = |user: &str| RequestMatch::path(&format!("members/{user}"));
    let looked_at = app.simulator.hold(member(&ada).method("GET").on_arrival());
    let removed = app
        .simulator
        .hold(member(&tenant.owner).method("DELETE").on_arrival());
    let promoted = app.simulator.hold(member(&ada).method("PATCH"));
    app.tell(&[tenant.transferred(&ada), tenant.removed(&tenant.owner)])
        .await;
    let working = app.work();
    assert!(looked_at.wait_for(1, DEADLINE).await && removed.wait_for(1, DEADLINE).await);
    app.simulator.set_faults(Faults {
        error_before: 1.0,
        ..Faults::default()
    });
    looked_at.release(1);
    let put_off = "WITH put_off AS (UPDATE polar_jobs.live_jobs SET run_at = now() + interval '1 day'
                     WHERE kind = 'sync_member' AND worker IS NULL AND jsonb_array_length(errors) > 0 RETURNING 1)
                   SELECT count(*) FROM put_off";
    app.until("the job fails", async || app.count(put_off).await == 1)
        .await;
    app.simulator.set_faults(Faults::default());
    looked_at.release_all();
    removed.release_all();
    assert!(promoted.wait_for(1, DEADLINE).await);
    // Ownership moves on before the promotion takes effect.
    app.tell(&[tenant.transferred(&bob)]).await;
    app.until("the next owner", async || {
        app.role_at_polar(&tenant, &bob).as_deref() == Some("owner")
    })
    .await;
    app.hurry().await;
    let waiting = "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'sync_member' AND worker IS NULL AND NOT blocked";
    app.until("Ada's own job", async || app.count(waiting).await == 0)
        .await;
    promoted.release_all();
    // In the same process: one that starts looks for whatever is out of step.
    let busy = "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'sync_member'";
    app.until("the end", async || app.count(busy).await == 0)
        .await;
    let role = |user: &str| app.role_at_polar(&tenant, user);
    assert_eq!(
        (role(&ada).as_deref(), role(&bob).as_deref()),
        (Some("billing_manager"), Some("owner"))
    );
    assert_eq!(role(&tenant.owner), None);
    working.stop().await;
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

/// As after a process that stopped between the promotion and its commit: nothing tells who owned before.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_could_not_go_goes_once_another_one_owns_whoever_promoted_that_one() {
    let (app, tenant, ada) = open().await;
    app.tell(&[tenant.removed(&tenant.owner)]).await;
    app.resolve_waits().await;
    assert_eq!(app.end("sync_member").await.0, "discarded");
    own_at_polar(&app, &tenant, &ada).await;
    let working = app.work();
    app.tell(&[tenant.transferred(&ada)]).await;
    app.until("the owner before is gone", async || {
        app.member(&tenant, &tenant.owner).is_none()
    })
    .await;
    working.stop().await;
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
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
