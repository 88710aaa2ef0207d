//! Who is who at the desk, and who belongs to which organization.

use serde_json::json;
use simulator::PlainFault;

use crate::desk::Desk;
use crate::test_app::user;

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_belongs_to_the_tenant_and_who_leaves_does_not() {
    let desk = Desk::open().await;
    let (tenant, ada) = (desk.tenant().await, user());
    desk.tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    desk.resolve_waits().await;
    assert_eq!(
        desk.plain.people_of(&tenant.id),
        ["ada@example.com", "owner@example.com"]
    );
    desk.tell(&[tenant.removed(&ada)]).await;
    desk.resolve_waits().await;
    assert_eq!(desk.plain.people_of(&tenant.id), ["owner@example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_unknown_is_made_by_our_id_and_somebody_known_is_left_alone() {
    let desk = Desk::open().await;
    let (tenant, ada) = (desk.tenant().await, user());
    let before = desk.asked().len();
    desk.tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    desk.resolve_waits().await;
    let made = desk.operations(before);
    assert_eq!(
        made,
        ["customerByEmail", "upsertCustomer", "addCustomerToTenants"]
    );
    let upsert = &desk.asked()[before + 1];
    let address = json!({"email": "ada@example.com", "isVerified": false});
    assert_eq!(
        upsert.variables,
        json!({"input": {
            "identifier": {"externalId": ada},
            "onCreate": {"externalId": ada, "fullName": "ada@example.com", "email": address},
            "onUpdate": {"externalId": {"value": ada}, "email": address},
        }})
    );
    let before = desk.asked().len();
    desk.tell(&[tenant.role(&ada, "admin")]).await;
    desk.resolve_waits().await;
    assert_eq!(
        desk.operations(before),
        ["customerByEmail", "addCustomerToTenants"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_address_is_bound_to_our_id_with_another_id_or_none() {
    let desk = Desk::open().await;
    let (tenant, ada, bob) = (desk.tenant().await, user(), user());
    desk.plain.add_customer("ada@example.com", None);
    desk.plain
        .add_customer("bob@example.com", Some("an earlier account"));
    desk.tell(&[
        tenant.added(&ada, "ada@example.com", "member"),
        tenant.added(&bob, "bob@example.com", "member"),
    ])
    .await;
    desk.resolve_waits().await;
    let customers = desk.plain.customers();
    assert_eq!(customers.len(), 3, "nobody was made twice: {customers:?}");
    for (email, id) in [("ada@example.com", &ada), ("bob@example.com", &bob)] {
        let row = customers.iter().find(|row| row.email == email).unwrap();
        assert_eq!(
            (row.external_id.as_ref(), &row.tenants[..]),
            (Some(id), &[tenant.id.clone()][..])
        );
        let upsert = desk.asked().into_iter().find(|asked| {
            asked.operation == "upsertCustomer"
                && asked.variables["input"]["identifier"] == json!({"emailAddress": email})
        });
        assert!(upsert.is_some(), "{email} was found by the address");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_address_changes_at_the_desk() {
    let desk = Desk::open().await;
    let tenant = desk.tenant().await;
    desk.tell(&[
        json!({"type": "user.updated", "data": {"id": tenant.owner, "email": "olga@example.com"}}),
    ])
    .await;
    desk.resolve_waits().await;
    let customers = desk.plain.customers();
    assert_eq!(customers.len(), 1);
    assert_eq!(customers[0].email, "olga@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_goes_from_one_to_another_arrives_whoever_is_synced_first() {
    let desk = Desk::open().await;
    let (tenant, ada, bob) = (desk.tenant().await, user(), user());
    desk.tell(&[
        tenant.added(&ada, "shared@example.com", "member"),
        tenant.added(&bob, "bob@example.com", "member"),
    ])
    .await;
    desk.resolve_waits().await;
    let email = |user: &str, email: &str| json!({"type": "user.updated", "data": {"id": user, "email": email}});
    desk.tell(&[
        email(&ada, "ada@example.com"),
        email(&bob, "shared@example.com"),
    ])
    .await;
    desk.resolve_waits().await;
    let known = |email: &str| {
        desk.plain
            .customers()
            .into_iter()
            .find(|row| row.email == email)
    };
    assert_eq!(known("ada@example.com").unwrap().external_id, Some(ada));
    assert_eq!(known("shared@example.com").unwrap().external_id, Some(bob));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_inside_an_answer_of_status_200_is_a_failure_that_is_tried_again() {
    let desk = Desk::open().await;
    let (tenant, ada) = (desk.tenant().await, user());
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
        desk.plain.fail_next(operation, fault);
    }
    desk.tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    desk.resolve_waits().await;
    assert!(
        desk.plain
            .people_of(&tenant.id)
            .contains(&"ada@example.com".to_owned())
    );
    let failures = desk.failures().await;
    assert_eq!(failures.len(), 5, "{failures:?}");
    let told = format!("{failures:?}");
    assert!(told.contains("refused (internal)"), "{told}");
    assert!(told.contains("it lacks the operation's result"), "{told}");
    assert!(!told.contains('@'), "no address of anybody: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_unlink_is_tried_again_without_asking_polar_again() {
    let desk = Desk::open().await;
    let (tenant, ada) = (desk.tenant().await, user());
    desk.tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    desk.resolve_waits().await;
    desk.plain
        .fail_next("removeCustomerFromTenants", PlainFault::Refused("internal"));
    desk.tell(&[tenant.removed(&ada)]).await;
    desk.work_until_idle().await;
    assert_eq!(desk.member(&tenant, &ada), None, "gone at Polar");
    let at_polar = desk.simulator.requests().len();
    desk.resolve_waits().await;
    let failures = desk.failures().await;
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(desk.plain.people_of(&tenant.id), ["owner@example.com"]);
    assert_eq!(desk.simulator.requests().len(), at_polar);
}
