//! Exactly one owner, here and at Polar; a new one is promoted before the one before goes.

use serde_json::json;
use simulator::RequestMatch;

use crate::house::{House, PATIENCE, Tenant, user};

async fn open() -> (House, Tenant, String) {
    let (house, tenant, ada) = (House::open().await, Tenant::new(), user());
    house
        .tell(&[
            tenant.created(),
            tenant.added(&ada, "ada@example.com", "member"),
        ])
        .await;
    house.settle_waits().await;
    (house, tenant, ada)
}

async fn role_here(house: &House, user: &str) -> String {
    sqlx::query_scalar("SELECT role FROM polar_jobs.members WHERE user_id = $1::text::uuid")
        .bind(user)
        .fetch_one(&house.pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_promotes_the_new_owner_and_the_old_one_becomes_an_admin() {
    let (house, tenant, ada) = open().await;
    house.tell(&[tenant.transferred(&ada)]).await;
    house.settle_waits().await;
    assert_eq!(house.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    assert_eq!(
        house.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("billing_manager")
    );
    assert_eq!(
        (
            role_here(&house, &ada).await,
            role_here(&house, &tenant.owner).await
        ),
        ("owner".into(), "admin".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_the_role_owner_is_a_transfer() {
    let (house, tenant, ada) = open().await;
    house.tell(&[tenant.role(&ada, "owner")]).await;
    house.settle_waits().await;
    assert_eq!(house.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    let bob = user();
    house
        .tell(&[tenant.added(&bob, "bob@example.com", "owner")])
        .await;
    house.settle_waits().await;
    assert_eq!(house.role_at_polar(&tenant, &bob).as_deref(), Some("owner"));
    assert_eq!(role_here(&house, &ada).await, "admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_hands_over_and_leaves_at_once_is_replaced_before_being_removed() {
    let (house, tenant, ada) = open().await;
    house
        .tell(&[tenant.transferred(&ada), tenant.removed(&tenant.owner)])
        .await;
    house.settle_waits().await;
    assert_eq!(house.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    assert!(house.member(&tenant, &tenant.owner).is_none());
    assert!(
        house
            .ends("sync_member")
            .await
            .iter()
            .all(|(state, _)| state == "applied")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_owner_may_be_unknown_at_polar_when_the_old_one_leaves_first() {
    let (house, tenant, _) = open().await;
    let bob = user();
    // The addition is held back: the removal's job must bring the successor by itself.
    house
        .tell(&[
            tenant.added(&bob, "bob@example.com", "owner"),
            tenant.removed(&tenant.owner),
        ])
        .await;
    let gate = house
        .simulator
        .gate(RequestMatch::path(&format!("members/{bob}")).method("GET"));
    tokio::join!(house.settle(), async {
        assert!(gate.wait_for(1, PATIENCE).await);
        gate.open();
    });
    assert_eq!(house.role_at_polar(&tenant, &bob).as_deref(), Some("owner"));
    assert!(house.member(&tenant, &tenant.owner).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_the_only_owner_is_discarded_and_done_when_another_owner_comes() {
    let (house, tenant, ada) = open().await;
    house.tell(&[tenant.removed(&tenant.owner)]).await;
    house.settle_waits().await;
    let (state, reason) = house.end("sync_member").await;
    assert_eq!(state, "discarded");
    assert!(reason.contains("only owner"), "{reason}");
    assert!(house.member(&tenant, &tenant.owner).is_some());
    house.tell(&[tenant.transferred(&ada)]).await;
    house.settle_waits().await;
    assert_eq!(house.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    assert!(house.member(&tenant, &tenant.owner).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn demoting_the_only_owner_is_discarded_and_done_when_another_owner_comes() {
    let (house, tenant, ada) = open().await;
    house.tell(&[tenant.role(&tenant.owner, "member")]).await;
    house.settle_waits().await;
    assert_eq!(house.end("sync_member").await.0, "discarded");
    assert_eq!(
        house.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("owner")
    );
    house.tell(&[tenant.transferred(&ada)]).await;
    house.settle_waits().await;
    assert_eq!(house.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    assert_eq!(
        house.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("member")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_change_for_whom_polar_takes_for_the_owner_is_no_poison() {
    let (house, tenant, ada) = open().await;
    // Somebody moved ownership at Polar by hand.
    let update = polar::MemberUpdate {
        role: Some(polar::Role::Owner),
        ..polar::MemberUpdate::default()
    };
    house
        .polar()
        .members()
        .update(&tenant.id, &ada, &update)
        .await
        .unwrap();
    house.tell(&[tenant.role(&ada, "finance")]).await;
    house.settle_waits().await;
    assert_eq!(
        house.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("owner")
    );
    assert_eq!(
        house.role_at_polar(&tenant, &ada).as_deref(),
        Some("member")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_of_the_customer_puts_the_owner_right() {
    let (house, tenant, ada) = open().await;
    let update = polar::MemberUpdate {
        role: Some(polar::Role::Owner),
        ..polar::MemberUpdate::default()
    };
    house
        .polar()
        .members()
        .update(&tenant.id, &ada, &update)
        .await
        .unwrap();
    house
        .tell(&[json!({"type": "organization.updated", "data": {"id": tenant.id, "name": "Acme"}})])
        .await;
    house.settle_waits().await;
    assert_eq!(
        house.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("owner")
    );
    assert_eq!(
        house.role_at_polar(&tenant, &ada).as_deref(),
        Some("member")
    );
}
