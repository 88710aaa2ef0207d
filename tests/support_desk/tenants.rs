//! Tenants, and the tier that each has.

use serde_json::json;
use simulator::{PlainFault, Product};

use crate::fixture::{SupportDeskApp, renamed};
use crate::test_app::{Tenant, user};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_organization_is_a_tenant_with_the_default_tier_and_its_owner_belongs_to_it() {
    let app = SupportDeskApp::open().await;
    let tenant = app.tenant().await;
    let there = app.plain.tenant(&tenant.id).unwrap();
    assert_eq!(
        (there.name.as_str(), there.tier.as_deref()),
        ("Acme", Some("free"))
    );
    assert_eq!(app.plain.people_of(&tenant.id), ["owner@example.com"]);
    let asked = app.asked();
    assert_eq!(
        asked[0].variables,
        json!({"input": {"identifier": {"externalId": tenant.id}, "name": "Acme", "externalId": tenant.id}})
    );
    assert_eq!(
        asked[1].variables,
        json!({"input": {"tenantIdentifier": {"externalId": tenant.id}, "tierIdentifier": {"externalId": "free"}}})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_default_tier_a_tenant_gets_none() {
    let app = SupportDeskApp::without_token().await;
    app.give_token(None);
    let tenant = app.tenant().await;
    assert_eq!(app.tier(&tenant), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_given_by_hand_outlives_a_repeated_creation_and_a_rename() {
    let app = SupportDeskApp::open().await;
    let tenant = app.tenant().await;
    app.plain.set_tier(&tenant.id, Some("scale"));
    app.tell(&[tenant.created(), renamed(&tenant, "Acme Ltd")])
        .await;
    app.resolve_waits().await;
    let there = app.plain.tenant(&tenant.id).unwrap();
    assert_eq!(
        (there.name.as_str(), there.tier.as_deref()),
        ("Acme Ltd", Some("scale"))
    );
}

/// No token is set when the rename is retried.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_was_given_up_and_is_retried_after_a_newer_change_is_brought() {
    let app = SupportDeskApp::open().await;
    let tenant = app.tenant().await;
    app.tell(&[renamed(&tenant, "Acme Ltd")]).await;
    let given_up = app.give_up_changes().await;
    let slug = json!({"type": "organization.updated", "data": {"id": tenant.id, "slug": "acme-2"}});
    app.tell(&[slug]).await;
    app.resolve_waits().await;
    let token = app.support_desk.lock().unwrap().take();
    app.retry(&given_up).await;
    app.resolve_waits().await;
    *app.support_desk.lock().unwrap() = token;
    app.resume().await;
    assert_eq!(app.plain.tenant(&tenant.id).unwrap().name, "Acme Ltd");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_plain_does_not_know_keeps_nobody_from_asking_for_help() {
    let app = SupportDeskApp::open().await;
    for _attempt in 0..20 {
        let fault = PlainFault::Refused("input_validation");
        app.plain.fail_next("updateTenantTier", fault);
    }
    let tenant = app.tenant().await;
    let discarded = "SELECT count(*) FROM polar_jobs.jobs WHERE kind = 'sync_support_desk' AND state = 'discarded'";
    assert_eq!(app.count(discarded).await, 1, "the tier is given up");
    assert_eq!(app.plain.people_of(&tenant.id), ["owner@example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tier_follows_the_grants_and_falls_back_to_the_default_with_the_last_one() {
    let app = SupportDeskApp::open().await;
    let tenant = app.tenant().await;
    app.simulator
        .purchase(&tenant.id, Product::Growth)
        .await
        .unwrap();
    app.resolve_waits().await;
    assert_eq!(app.tier(&tenant).as_deref(), Some("growth"));
    app.simulator
        .change_plan(&tenant.id, Product::Scale, true)
        .await
        .unwrap();
    app.resolve_waits().await;
    assert_eq!(app.tier(&tenant).as_deref(), Some("scale"));
    // Nothing about it changes with the name.
    app.tell(&[renamed(&tenant, "Acme Ltd")]).await;
    app.resolve_waits().await;
    assert_eq!(app.tier(&tenant).as_deref(), Some("scale"));
    app.simulator.revoke(&tenant.id).await.unwrap();
    app.resolve_waits().await;
    assert_eq!(app.tier(&tenant).as_deref(), Some("free"));
}

/// Otherwise a paying organization would have the default tier until the hour comes round.
#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_comes_back_while_it_is_being_taken_away_is_given_again() {
    let app = SupportDeskApp::open().await;
    let tenant = app.tenant().await;
    let tier = async |tier: &str| {
        let held = "SELECT count(*) FROM polar_jobs.organizations WHERE coalesce(plain_tier_external_id, '') = $1
                       AND NOT EXISTS (SELECT FROM polar_jobs.live_jobs WHERE kind = 'apply_benefits')";
        let held = sqlx::query_scalar::<_, i64>(held).bind(tier.to_owned());
        held.fetch_one(&app.pool).await.unwrap() == 1
    };
    app.simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    app.resolve_waits().await;
    // What is done at Plain from now on cannot be confirmed.
    let mut confirmations = app.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM polar_jobs.support_desk_tenants FOR UPDATE")
        .execute(&mut *confirmations)
        .await
        .unwrap();
    let worker = app.work();
    app.simulator.revoke(&tenant.id).await.unwrap();
    app.until("the tier is taken away", async || {
        app.tier(&tenant).as_deref() == Some("free") && tier("").await
    })
    .await;
    app.simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    app.deliveries_end().await;
    app.until("it is granted again", async || tier("pro").await)
        .await;
    assert_eq!(
        app.tier(&tenant).as_deref(),
        Some("free"),
        "the job is under way"
    );
    confirmations.rollback().await.unwrap();
    worker.stop().await;
    app.resolve_waits().await;
    assert_eq!(app.tier(&tenant).as_deref(), Some("pro"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_is_given_although_another_benefit_cannot_be_read() {
    let app = SupportDeskApp::open().await;
    let tenant = app.tenant().await;
    let fees = json!({"type": "transaction_fee", "fee_percent": "much", "fee_fixed": 1, "subscription_fee_percent": 2});
    app.simulator
        .edit_benefit_metadata(
            Product::Pro,
            "transaction_fee",
            fees.as_object().unwrap().clone(),
        )
        .await
        .unwrap();
    app.simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    app.work_until_idle().await;
    let applied = app.ends("apply_benefits").await;
    assert!(
        applied.iter().all(|(end, _)| end != "applied"),
        "{applied:?}"
    );
    assert_eq!(app.tier(&tenant).as_deref(), Some("pro"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_whose_giving_was_never_answered_is_taken_away_with_its_grant() {
    let app = SupportDeskApp::open().await;
    let tenant = app.tenant().await;
    app.plain
        .fail_next("updateTenantTier", PlainFault::AnswerLost);
    app.simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    app.work_until_idle().await;
    assert_eq!(app.tier(&tenant).as_deref(), Some("pro"), "it was done");
    assert_eq!(app.failures().await.len(), 1, "but not answered");
    app.simulator.revoke(&tenant.id).await.unwrap();
    app.resolve_waits().await;
    assert_eq!(app.tier(&tenant).as_deref(), Some("free"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_somebody_changed_by_hand_stays_when_the_grant_ends() {
    let app = SupportDeskApp::open().await;
    let tenant = app.tenant().await;
    app.simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    app.resolve_waits().await;
    app.plain.set_tier(&tenant.id, Some("scale"));
    app.simulator.revoke(&tenant.id).await.unwrap();
    app.resolve_waits().await;
    assert_eq!(app.tier(&tenant).as_deref(), Some("scale"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_organization_loses_its_people_and_its_tier() {
    let app = SupportDeskApp::open().await;
    let (tenant, ada) = (app.tenant().await, user());
    app.tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    app.simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    app.resolve_waits().await;
    assert_eq!(app.plain.people_of(&tenant.id).len(), 2);
    app.tell(&[tenant.deleted()]).await;
    app.resolve_waits().await;
    assert_eq!(app.plain.people_of(&tenant.id), Vec::<String>::new());
    assert_eq!(app.tier(&tenant).as_deref(), Some("free"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_somebody_deleted_at_the_support_desk_comes_back_with_everybody() {
    let app = SupportDeskApp::open().await;
    let (tenant, ada, bob) = (app.tenant().await, user(), user());
    app.tell(&[
        tenant.added(&ada, "ada@example.com", "member"),
        tenant.added(&bob, "bob@example.com", "member"),
    ])
    .await;
    app.simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    app.resolve_waits().await;
    app.plain.remove_tenant(&tenant.id);
    app.tell(&[tenant.role(&ada, "admin"), tenant.removed(&bob)])
        .await;
    app.resolve_waits().await;
    let people = app.plain.people_of(&tenant.id);
    assert_eq!(people, ["ada@example.com", "owner@example.com"]);
    assert_eq!(app.tier(&tenant).as_deref(), Some("pro"));
    let ends = app.ends("sync_support_desk").await;
    assert!(ends.iter().all(|(end, _)| end != "discarded"), "{ends:?}");
    assert_eq!(app.failures().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_asked_and_with_one_everything_is_brought_within_the_hour() {
    let app = SupportDeskApp::without_token().await;
    let (tenant, ada, bob) = (app.tenant().await, user(), user());
    app.tell(&[
        tenant.added(&ada, "ada@example.com", "member"),
        tenant.added(&bob, "bob@example.com", "member"),
        tenant.removed(&bob),
    ])
    .await;
    app.simulator
        .purchase(&tenant.id, Product::Scale)
        .await
        .unwrap();
    let unknown = Tenant::new();
    app.tell(&[unknown.created(), unknown.deleted()]).await;
    app.resolve_waits().await;
    assert_eq!(app.asked(), []);
    assert_eq!(app.ends("sync_support_desk").await, []);
    app.give_token(Some("free"));
    app.resume().await;
    assert_eq!(app.tier(&tenant).as_deref(), Some("scale"));
    assert_eq!(
        app.plain.people_of(&tenant.id),
        ["ada@example.com", "owner@example.com"]
    );
    assert_eq!(app.plain.tenants().len(), 1);
    let before = app.asked().len();
    app.resume().await;
    assert_eq!(
        app.operations(before),
        Vec::<String>::new(),
        "all is in step"
    );
}

impl SupportDeskApp {
    /// The hour comes round.
    pub(crate) async fn resume(&self) {
        let mut connection = self.pool.acquire().await.unwrap();
        let job = jobs::NewJob::of(&jobs::ResumeSupportDesk::default());
        polar_jobs::queue::enqueue::insert(&mut connection, &job)
            .await
            .unwrap();
        drop(connection);
        self.resolve_waits().await;
    }
}
