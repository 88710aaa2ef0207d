//! `sync_customer`: a customer at Polar follows its organization.

use polar::{CustomerUpdate, Metadata, NewTeam, Owner};
use serde_json::json;
use simulator::RequestMatch;

use crate::test_app::{DEADLINE, Tenant, TestApp, user};

#[tokio::test(flavor = "multi_thread")]
async fn a_created_organization_becomes_a_customer_with_name_slug_and_owner() {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    let customer = app.simulator.customer(&tenant.id).unwrap();
    assert_eq!(
        (customer.name.as_deref(), &customer.metadata["slug"]),
        (Some("Acme"), &json!("acme"))
    );
    let owner = app.member(&tenant, &tenant.owner).unwrap();
    assert_eq!(
        (
            owner.role.as_str(),
            owner.email.as_str(),
            owner.name.as_deref()
        ),
        ("owner", "owner@example.com", Some("Olga Owner"))
    );
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.polar_customers")
            .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_slug_and_name_keep_every_other_key_of_the_metadata() {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    let metadata = Metadata::from_iter([("slug", "acme"), ("startup_program_discount_id", "d")]);
    let update = CustomerUpdate {
        metadata: Some(metadata),
        ..CustomerUpdate::default()
    };
    app.polar()
        .customers()
        .update_by_external_id(&tenant.id, &update)
        .await
        .unwrap();
    app.tell(&[json!({"type": "organization.updated", "data": {"id": tenant.id, "name": "Acme 2", "slug": "acme-2"}})]).await;
    app.work_until_idle().await;
    let customer = app.simulator.customer(&tenant.id).unwrap();
    assert_eq!(customer.name.as_deref(), Some("Acme 2"));
    assert_eq!(
        json!(customer.metadata),
        json!({"slug": "acme-2", "startup_program_discount_id": "d"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_sync_changes_nothing_at_polar() {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    let before = app.writes().len();
    app.tell(&[json!({"type": "organization.updated", "data": {"id": tenant.id, "slug": "acme"}})])
        .await;
    app.work_until_idle().await;
    assert_eq!(app.writes().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_loses_the_race_to_create_the_customer_adopts_it() {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    let held = app
        .simulator
        .hold(RequestMatch::path("/v1/customers/").method("POST"));
    app.tell(&[tenant.created()]).await;
    tokio::join!(app.work_until_idle(), async {
        assert!(held.wait_for(1, DEADLINE).await);
        // The winner comes through first, with another name.
        let rival = NewTeam {
            name: "Rival".to_owned(),
            external_id: tenant.id.clone(),
            metadata: Metadata::default(),
            owner: Owner {
                email: "owner@example.com".to_owned(),
                name: "Olga Owner".to_owned(),
                external_id: tenant.owner.clone(),
            },
        };
        let polar = app.polar();
        let customers = polar.customers();
        let winner = customers.create_team(&rival);
        let release = async {
            assert!(held.wait_for(2, DEADLINE).await);
            held.release_all();
        };
        // Who of the two commits first is Polar's affair: one gets 422, both see one customer.
        let (outcome, ()) = tokio::join!(winner, release);
        if let Err(error) = outcome {
            assert!(error.is_duplicate_external_id(), "{error}");
        }
    });
    assert_eq!(app.simulator.customers().len(), 1);
    assert_eq!(
        app.simulator.customer(&tenant.id).unwrap().name.as_deref(),
        Some("Acme")
    );
    assert_eq!(app.end("sync_customer").await.0, "applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_whose_address_takes_no_mail_is_tried_once_more_and_then_discarded_until_it_changes()
 {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    let mut created = tenant.created();
    created["data"]["owner"]["email"] = json!("owner@undeliverable.test");
    app.tell(&[created]).await;
    app.work_until_idle().await;
    assert!(
        app.notes()
            .await
            .iter()
            .any(|(kind, note)| kind == "sync_customer" && note.is_some())
    );
    app.age_refusals().await;
    app.resolve_waits().await;
    let (state, reason) = app.end("sync_customer").await;
    assert_eq!(state, "discarded");
    assert!(
        reason.contains("cannot deliver mail") && !reason.contains('@'),
        "{reason}"
    );
    assert_eq!(app.writes().len(), 2, "the first try and one more");

    app.tell(&[
        json!({"type": "user.updated", "data": {"id": tenant.owner, "email": "owner@example.com"}}),
    ])
    .await;
    app.resolve_waits().await;
    assert_eq!(
        app.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("owner")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_organization_is_anonymized_and_its_customer_remembered() {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    let customer = app.simulator.customer(&tenant.id).unwrap().id;
    app.tell(&[tenant.deleted()]).await;
    // Usage may be counted late where another test on this server holds a transaction open.
    app.resolve_waits().await;
    assert!(app.simulator.customer(&tenant.id).is_none());
    let delete = app
        .writes()
        .into_iter()
        .rfind(|request| request.method == "DELETE")
        .unwrap();
    assert_eq!(delete.query, "anonymize=true");
    let remembered: String = sqlx::query_scalar(
        "SELECT organization_id::text FROM polar_jobs.polar_customers WHERE polar_customer_id = $1",
    )
    .bind(customer)
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!(remembered, tenant.id);
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.entitlements")
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_what_is_gone_already_is_no_error() {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    app.polar()
        .customers()
        .delete_by_external_id(&tenant.id, polar::Deletion::Keep)
        .await
        .unwrap();
    app.tell(&[tenant.deleted()]).await;
    app.resolve_waits().await;
    assert_eq!(app.end("sync_customer").await.0, "applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_starts_anew_gets_a_new_customer_even_if_both_came_at_once() {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    app.tell(&[
        tenant.created(),
        tenant.added(&user(), "left@example.com", "member"),
    ])
    .await;
    app.resolve_waits().await;
    let first = app.simulator.customer(&tenant.id).unwrap().id;
    app.tell(&[tenant.deleted(), tenant.created()]).await;
    app.resolve_waits().await;
    let second = app.simulator.customer(&tenant.id).unwrap().id;
    assert_ne!(first, second);
    assert_eq!(
        app.simulator.members(&tenant.id).len(),
        1,
        "nobody of the earlier life came along"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_self_organization_is_never_a_customer_of_its_own() {
    let app = TestApp::open().await;
    let tenant = Tenant {
        id: app.simulator.organization_id().to_string(),
        owner: user(),
    };
    app.tell(&[
        tenant.created(),
        tenant.added(&user(), "ada@example.com", "member"),
    ])
    .await;
    app.resolve_waits().await;
    assert!(app.simulator.requests().is_empty());
    assert_eq!(app.end("sync_customer").await.0, "ignored");
}
