//! Who is who at the support desk, and who belongs to which organization.

use serde_json::json;
use simulator::{PlainFault, RequestMatch};

use crate::fixture::SupportDeskApp;
use crate::test_app::{DEADLINE, user};

const UNSYNCED: &str = "SELECT count(*) FROM polar_jobs.organizations o, polar_jobs.support_desk_unsynced_members(o.id)";

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_belongs_to_the_tenant_and_who_leaves_does_not() {
    let app = SupportDeskApp::open().await;
    let (tenant, ada) = (app.tenant().await, user());
    app.tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    app.resolve_waits().await;
    assert_eq!(
        app.plain.people_of(&tenant.id),
        ["ada@example.com", "owner@example.com"]
    );
    app.tell(&[tenant.removed(&ada)]).await;
    app.resolve_waits().await;
    assert_eq!(app.plain.people_of(&tenant.id), ["owner@example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_unknown_is_made_by_our_id_and_somebody_known_is_left_alone() {
    let app = SupportDeskApp::open().await;
    let (tenant, ada) = (app.tenant().await, user());
    let before = app.asked().len();
    app.tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    app.resolve_waits().await;
    let made = app.operations(before);
    assert_eq!(
        made,
        ["customerByEmail", "upsertCustomer", "addCustomerToTenants"]
    );
    let upsert = &app.asked()[before + 1];
    let address = json!({"email": "ada@example.com", "isVerified": false});
    assert_eq!(
        upsert.variables,
        json!({"input": {
            "identifier": {"externalId": ada},
            "onCreate": {"externalId": ada, "fullName": "ada@example.com", "email": address},
            "onUpdate": {"externalId": {"value": ada}, "email": address},
        }})
    );
    let before = app.asked().len();
    app.tell(&[tenant.role(&ada, "admin")]).await;
    app.resolve_waits().await;
    assert_eq!(
        app.operations(before),
        ["customerByEmail", "addCustomerToTenants"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_address_is_bound_to_our_id_with_another_id_or_none() {
    let app = SupportDeskApp::open().await;
    let (tenant, ada, bob) = (app.tenant().await, user(), user());
    app.plain.add_customer("ada@example.com", None);
    app.plain
        .add_customer("bob@example.com", Some("an earlier account"));
    app.tell(&[
        tenant.added(&ada, "ada@example.com", "member"),
        tenant.added(&bob, "bob@example.com", "member"),
    ])
    .await;
    app.resolve_waits().await;
    let customers = app.plain.customers();
    assert_eq!(customers.len(), 3, "nobody was made twice: {customers:?}");
    for (email, id) in [("ada@example.com", &ada), ("bob@example.com", &bob)] {
        let row = customers.iter().find(|row| row.email == email).unwrap();
        assert_eq!(
            (row.external_id.as_ref(), &row.tenants[..]),
            (Some(id), &[tenant.id.clone()][..])
        );
        let upsert = app.asked().into_iter().find(|asked| {
            asked.operation == "upsertCustomer"
                && asked.variables["input"]["identifier"] == json!({"emailAddress": email})
        });
        assert!(upsert.is_some(), "{email} was found by the address");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_address_changes_at_the_support_desk() {
    let app = SupportDeskApp::open().await;
    let tenant = app.tenant().await;
    app.tell(&[
        json!({"type": "user.updated", "data": {"id": tenant.owner, "email": "olga@example.com"}}),
    ])
    .await;
    app.resolve_waits().await;
    let customers = app.plain.customers();
    assert_eq!(customers.len(), 1);
    assert_eq!(customers[0].email, "olga@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_goes_from_one_to_another_arrives_whoever_is_synced_first() {
    let app = SupportDeskApp::open().await;
    let (tenant, ada, bob) = (app.tenant().await, user(), user());
    app.tell(&[
        tenant.added(&ada, "shared@example.com", "member"),
        tenant.added(&bob, "bob@example.com", "member"),
    ])
    .await;
    app.resolve_waits().await;
    let email = |user: &str, email: &str| json!({"type": "user.updated", "data": {"id": user, "email": email}});
    app.tell(&[
        email(&ada, "ada@example.com"),
        email(&bob, "shared@example.com"),
    ])
    .await;
    app.resolve_waits().await;
    let known = |email: &str| {
        app.plain
            .customers()
            .into_iter()
            .find(|row| row.email == email)
    };
    assert_eq!(known("ada@example.com").unwrap().external_id, Some(ada));
    assert_eq!(known("shared@example.com").unwrap().external_id, Some(bob));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_inside_an_answer_of_status_200_is_a_failure_that_is_tried_again() {
    let app = SupportDeskApp::open().await;
    let (tenant, ada) = (app.tenant().await, user());
    for (operation, fault) in [
        ("upsertCustomer", PlainFault::Refused("internal")),
        ("upsertCustomer", PlainFault::Errors),
        ("upsertCustomer", PlainFault::Empty),
        ("customerByEmail", PlainFault::Odd),
        (
            "addCustomerToTenants",
            PlainFault::Refused("input_validation"),
        ),
    ] {
        app.plain.fail_next(operation, fault);
    }
    app.tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    app.resolve_waits().await;
    assert!(
        app.plain
            .people_of(&tenant.id)
            .contains(&"ada@example.com".to_owned())
    );
    let failures = app.failures().await;
    assert_eq!(failures.len(), 5, "{failures:?}");
    let told = format!("{failures:?}");
    assert!(told.contains("refused (internal)"), "{told}");
    assert!(told.contains("it lacks the operation's result"), "{told}");
    assert!(!told.contains('@'), "no address of anybody: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_unlink_is_tried_again_without_asking_polar_again() {
    let app = SupportDeskApp::open().await;
    let (tenant, ada) = (app.tenant().await, user());
    app.tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    app.resolve_waits().await;
    app.plain
        .fail_next("removeCustomerFromTenants", PlainFault::Refused("internal"));
    app.tell(&[tenant.removed(&ada)]).await;
    app.work_until_idle().await;
    assert_eq!(app.member(&tenant, &ada), None, "gone at Polar");
    let at_polar = app.simulator.requests().len();
    app.resolve_waits().await;
    let failures = app.failures().await;
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(app.plain.people_of(&tenant.id), ["owner@example.com"]);
    assert_eq!(app.simulator.requests().len(), at_polar);
}

/// The person is one at the support desk, whichever organizations they belong to.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_arrives_late_for_one_organization_is_corrected_for_the_others() {
    for is_answered in [true, false] {
        let app = SupportDeskApp::without_token().await;
        app.give_token_and_time(Some("free"), DEADLINE);
        let (left, kept, ada) = (app.tenant().await, app.tenant().await, user());
        let held = app
            .plain
            .hold(RequestMatch::path("ada@example.com").on_arrival());
        let worker = app.work();
        app.tell(&[left.added(&ada, "ada@example.com", "member")])
            .await;
        assert!(held.wait_for(1, DEADLINE).await, "who has the address");
        held.release(1);
        assert!(held.wait_for(2, DEADLINE).await, "the address");
        app.tell(&[
            kept.added(&ada, "lovelace@example.com", "member"),
            left.removed(&ada),
        ])
        .await;
        let newer = "SELECT count(*) FROM polar_jobs.support_desk_members s
                       JOIN polar_jobs.people p USING (user_id)
                      WHERE p.email = 'lovelace@example.com' AND EXISTS (
                          SELECT FROM polar_jobs.memberships m
                           WHERE m.user_id = p.user_id AND m.removed_at IS NOT NULL)";
        app.until("the newer address", async || app.count(newer).await == 1)
            .await;
        if !is_answered {
            app.plain
                .fail_next("upsertCustomer", PlainFault::AnswerLost);
        }
        held.release_all();
        worker.stop().await;
        app.resolve_waits().await;
        let people = app.plain.people_of(&kept.id);
        assert_eq!(
            people,
            ["lovelace@example.com", "owner@example.com"],
            "answered: {is_answered}"
        );
        assert_eq!(app.plain.people_of(&left.id), ["owner@example.com"]);
    }
}

/// Changes of a person and of a membership have no order among each other. No token is set when it comes.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_told_late_is_not_taken_for_confirmed() {
    let app = SupportDeskApp::open().await;
    let (tenant, ada) = (app.tenant().await, user());
    app.tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    app.resolve_waits().await;
    app.tell(&[json!({"type": "user.updated", "data": {"id": ada, "email": "late@example.com"}})])
        .await;
    app.postpone_changes("1 hour").await;
    app.tell(&[tenant.role(&ada, "admin")]).await;
    app.drain().await;
    let token = app.support_desk.lock().unwrap().take();
    app.postpone_changes("0").await;
    app.resolve_waits().await;
    *app.support_desk.lock().unwrap() = token;
    app.resume().await;
    assert_eq!(
        app.plain.people_of(&tenant.id),
        ["late@example.com", "owner@example.com"]
    );
    assert_eq!(app.count(UNSYNCED).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_told_late_while_a_newer_change_is_brought_is_confirmed_as_well() {
    let app = SupportDeskApp::without_token().await;
    app.give_token_and_time(Some("free"), DEADLINE);
    let (here, there, ada) = (app.tenant().await, app.tenant().await, user());
    app.tell(&[here.added(&ada, "ada@example.com", "member")])
        .await;
    app.resolve_waits().await;
    app.tell(&[there.added(&ada, "late@example.com", "member")])
        .await;
    app.postpone_changes("1 hour").await;
    let looks = RequestMatch::path("ada@example.com").on_arrival();
    let held = app.plain.hold(looks);
    app.tell(&[json!({"type": "user.updated", "data": {"id": ada, "name": "Ada L"}})])
        .await;
    let worker = app.work();
    assert!(held.wait_for(1, DEADLINE).await, "it is brought");
    app.postpone_changes("0").await;
    let late = "SELECT count(*) FROM polar_jobs.people WHERE email = 'late@example.com'";
    app.until("the late one is applied", async || {
        app.count(late).await == 1
    })
    .await;
    held.release_all();
    worker.stop().await;
    app.resolve_waits().await;
    assert_eq!(
        app.plain.people_of(&here.id),
        ["late@example.com", "owner@example.com"]
    );
    assert_eq!(app.count(UNSYNCED).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_of_who_left_is_nothing_to_tell_of_the_organization_they_left() {
    let app = SupportDeskApp::open().await;
    let (left, kept, ada) = (app.tenant().await, app.tenant().await, user());
    app.tell(&[
        left.added(&ada, "ada@example.com", "member"),
        kept.added(&ada, "ada@example.com", "member"),
    ])
    .await;
    app.resolve_waits().await;
    app.tell(&[left.removed(&ada)]).await;
    app.resolve_waits().await;
    app.tell(&[
        json!({"type": "user.updated", "data": {"id": ada, "email": "lovelace@example.com"}}),
    ])
    .await;
    app.resolve_waits().await;
    assert_eq!(
        app.plain.people_of(&kept.id),
        ["lovelace@example.com", "owner@example.com"]
    );
    assert_eq!(app.count(UNSYNCED).await, 0);
}
