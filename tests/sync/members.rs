//! `sync_member`: a member at Polar follows the person.

use polar::{NewMember, Role};
use serde_json::json;
use simulator::RequestMatch;

use crate::house::{House, PATIENCE, Tenant, user};

/// An installation with one synced organization.
async fn open() -> (House, Tenant) {
    let (house, tenant) = (House::open().await, Tenant::new());
    house.tell(&[tenant.created()]).await;
    house.settle().await;
    (house, tenant)
}

async fn someone_adds(house: &House, tenant: &Tenant, external_id: &str, email: &str) {
    let member = NewMember {
        email: email.to_owned(),
        name: "Somebody".to_owned(),
        external_id: external_id.to_owned(),
        role: Role::Member,
    };
    house
        .polar()
        .members()
        .create_external(&tenant.id, &member)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_member_has_our_id_name_address_and_role() {
    let (house, tenant) = open().await;
    let people: Vec<_> = [
        ("admin", "billing_manager"),
        ("finance", "member"),
        ("member", "member"),
    ]
    .into_iter()
    .map(|(role, at_polar)| (user(), role, at_polar))
    .collect();
    for (id, role, _) in &people {
        house
            .tell(&[tenant.added(id, &format!("{role}@example.com"), role)])
            .await;
    }
    house.settle().await;
    for (id, role, at_polar) in &people {
        let member = house.member(&tenant, id).unwrap();
        assert_eq!(
            (member.role.as_str(), member.email, member.name.as_deref()),
            (*at_polar, format!("{role}@example.com"), Some("Ada Added"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_a_name_is_called_by_the_address() {
    let (house, tenant) = open().await;
    let ada = user();
    let mut added = tenant.added(&ada, "ada.l@example.com", "member");
    added["data"]["user"]["name"] = json!(null);
    house.tell(&[added]).await;
    house.settle().await;
    assert_eq!(
        house.member(&tenant, &ada).unwrap().name.as_deref(),
        Some("ada.l")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn new_name_and_address_of_a_user_reach_every_organization() {
    let house = House::open().await;
    let tenants = [Tenant::new(), Tenant::new()];
    let ada = user();
    for tenant in &tenants {
        house
            .tell(&[
                tenant.created(),
                tenant.added(&ada, "ada@example.com", "member"),
            ])
            .await;
    }
    house.settle_waits().await;
    house.tell(&[json!({"type": "user.updated", "data": {"id": ada, "email": "lovelace@example.com", "name": "Ada L"}})]).await;
    house.settle_waits().await;
    for tenant in &tenants {
        let member = house.member(tenant, &ada).unwrap();
        assert_eq!(
            (member.email.as_str(), member.name.as_deref()),
            ("lovelace@example.com", Some("Ada L"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_added_and_removed_at_once_is_gone_and_stays_gone() {
    let (house, tenant) = open().await;
    let ada = user();
    house
        .tell(&[
            tenant.added(&ada, "ada@example.com", "member"),
            tenant.removed(&ada),
        ])
        .await;
    house.settle_waits().await;
    assert!(house.member(&tenant, &ada).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_overtakes_a_slow_addition_still_wins() {
    let (house, tenant) = open().await;
    let ada = user();
    let gate = house
        .simulator
        .gate(RequestMatch::path("/members").method("POST"));
    house
        .tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    tokio::join!(house.drain(), async {
        assert!(gate.wait_for(1, PATIENCE).await);
        house.tell(&[tenant.removed(&ada)]).await;
        gate.open();
    });
    house.settle_waits().await;
    assert!(house.member(&tenant, &ada).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_who_comes_back_is_a_member_again() {
    let (house, tenant) = open().await;
    let ada = user();
    for change in [
        tenant.added(&ada, "ada@example.com", "member"),
        tenant.removed(&ada),
        tenant.added(&ada, "ada@example.com", "admin"),
    ] {
        house.tell(&[change]).await;
        house.settle().await;
    }
    assert_eq!(
        house.role_at_polar(&tenant, &ada).as_deref(),
        Some("billing_manager")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_member_who_is_gone_already_is_no_error() {
    let (house, tenant) = open().await;
    let ada = user();
    house
        .tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    house.settle().await;
    house
        .polar()
        .members()
        .delete(&tenant.id, &ada)
        .await
        .unwrap();
    house.tell(&[tenant.removed(&ada)]).await;
    house.settle().await;
    assert_eq!(house.end("sync_member").await.0, "applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loser_of_a_race_to_add_the_same_member_finds_it_there() {
    let (house, tenant) = open().await;
    let ada = user();
    let gate = house
        .simulator
        .gate(RequestMatch::path("/members").method("POST"));
    house
        .tell(&[tenant.added(&ada, "ada@example.com", "finance")])
        .await;
    tokio::join!(house.settle(), async {
        assert!(gate.wait_for(1, PATIENCE).await);
        let polar = house.polar();
        let members = polar.members();
        let twin = NewMember {
            email: "ada@example.com".to_owned(),
            name: "Ada Added".to_owned(),
            external_id: ada.clone(),
            role: Role::Member,
        };
        let rival = members.create_external(&tenant.id, &twin);
        let release = async {
            assert!(gate.wait_for(2, PATIENCE).await);
            gate.open();
        };
        let (_either, ()) = tokio::join!(rival, release);
    });
    assert_eq!(house.member(&tenant, &ada).unwrap().role, "member");
    assert_eq!(house.simulator.members(&tenant.id).len(), 2);
    assert_eq!(house.end("sync_member").await.0, "applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_known_at_polar_under_another_address_gets_the_wanted_one() {
    let (house, tenant) = open().await;
    let ada = user();
    someone_adds(&house, &tenant, &ada, "old@example.com").await;
    house
        .tell(&[tenant.added(&ada, "new@example.com", "admin")])
        .await;
    house.settle().await;
    let member = house.member(&tenant, &ada).unwrap();
    assert_eq!(
        (member.email.as_str(), member.role.as_str()),
        ("new@example.com", "billing_manager")
    );
    assert_eq!(house.ends("sync_member").await.last().unwrap().0, "applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_belongs_to_somebody_who_is_not_ours_is_discarded_with_the_reason() {
    let (house, tenant) = open().await;
    someone_adds(&house, &tenant, "not one of ours", "ADA@example.com").await;
    let ada = user();
    house
        .tell(&[tenant.added(&ada, "ada@example.com", "admin")])
        .await;
    house.settle().await;
    assert!(
        house.member(&tenant, &ada).is_none(),
        "201 does not prove that the member is ours"
    );
    let (state, reason) = house.end("sync_member").await;
    assert_eq!(state, "discarded");
    assert!(
        reason.contains("belongs to member") && !reason.contains('@'),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_somebody_who_left_is_free_for_the_next() {
    let (house, tenant) = open().await;
    let (old, new) = (user(), user());
    house
        .tell(&[tenant.added(&old, "office@example.com", "member")])
        .await;
    house.settle().await;
    // Both are known here before either sync runs; whoever comes first, the end is the same.
    house
        .tell(&[
            tenant.added(&new, "Office@example.com", "finance"),
            tenant.removed(&old),
        ])
        .await;
    house.settle_waits().await;
    assert!(house.member(&tenant, &old).is_none());
    assert_eq!(house.member(&tenant, &new).unwrap().role, "member");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_moves_from_one_member_to_another_arrives() {
    let (house, tenant) = open().await;
    let (ada, bob) = (user(), user());
    house
        .tell(&[
            tenant.added(&ada, "ada@example.com", "member"),
            tenant.added(&bob, "bob@example.com", "member"),
        ])
        .await;
    house.settle_waits().await;
    house
        .tell(&[
            json!({"type": "user.updated", "data": {"id": bob, "email": "bobby@example.com"}}),
            json!({"type": "user.updated", "data": {"id": ada, "email": "bob@example.com"}}),
        ])
        .await;
    house.settle_waits().await;
    assert_eq!(
        house.member(&tenant, &ada).unwrap().email,
        "bob@example.com"
    );
    assert_eq!(
        house.member(&tenant, &bob).unwrap().email,
        "bobby@example.com"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_with_one_address_are_reported_and_the_first_stays() {
    let (house, tenant) = open().await;
    let (ada, bob) = (user(), user());
    house
        .tell(&[tenant.added(&ada, "both@example.com", "member")])
        .await;
    house.settle().await;
    let worker = house.work();
    house
        .tell(&[tenant.added(&bob, "both@example.com", "member")])
        .await;
    let given_up = async || {
        house.hurry().await;
        house.end("sync_member").await.0 == "discarded"
    };
    house.until("it is given up", given_up).await;
    assert!(house.member(&tenant, &ada).is_some());
    assert!(house.end("sync_member").await.1.contains("same address"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_takes_no_mail_is_tried_once_more_slowly_and_then_discarded() {
    let (house, tenant) = open().await;
    let ada = user();
    let before = house.writes().len();
    let worker = house.work();
    house
        .tell(&[tenant.added(&ada, "ada@undeliverable.test", "member")])
        .await;
    let waits = async || matches!(house.notes().await.as_slice(), [(_, Some(_))]);
    house.until("it waits for its one more try", waits).await;
    house.age_refusals().await;
    house.hurry().await;
    let given_up = async || house.ends("sync_member").await.len() == 1;
    house.until("it is given up", given_up).await;
    assert_eq!(house.end("sync_member").await.0, "discarded");
    assert_eq!(house.writes().len() - before, 2);
    worker.stop().await;
    house
        .tell(&[json!({"type": "user.updated", "data": {"id": ada, "email": "ada@example.com"}})])
        .await;
    house.settle().await;
    assert!(
        house.member(&tenant, &ada).is_some(),
        "a usable address starts anew"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn members_who_come_before_their_organization_wait_for_it_and_then_go_to_polar() {
    let (house, tenant) = (House::open().await, Tenant::new());
    let ada = user();
    house
        .tell(&[tenant.added(&ada, "ada@example.com", "finance")])
        .await;
    house.settle_waits().await;
    assert!(
        house.simulator.requests().is_empty(),
        "nothing goes to Polar before the organization is created"
    );
    assert_eq!(
        house.count("SELECT count(*) FROM polar_jobs.members").await,
        1
    );
    assert_eq!(
        house
            .count("SELECT count(*) FROM polar_jobs.organizations")
            .await,
        0
    );
    house.tell(&[tenant.created()]).await;
    house.settle_waits().await;
    assert_eq!(
        house.role_at_polar(&tenant, &ada).as_deref(),
        Some("member")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_not_lost_when_their_customer_cannot_be_made_for_a_long_time() {
    let (house, tenant) = (House::open().await, Tenant::new());
    let ada = user();
    let mut created = tenant.created();
    created["data"]["owner"]["email"] = json!("owner@undeliverable.test");
    house.tell(&[created]).await;
    house.settle().await;
    house.age_refusals().await;
    house
        .tell(&[tenant.added(&ada, "ada@example.com", "admin")])
        .await;
    house.settle_waits().await;
    assert_eq!(
        house.end("sync_member").await.0,
        "ignored",
        "it does not wait for ever"
    );
    house.tell(&[json!({"type": "user.updated", "data": {"id": tenant.owner, "email": "owner@example.com"}})]).await;
    house.settle_waits().await;
    assert_eq!(
        house.role_at_polar(&tenant, &ada).as_deref(),
        Some("billing_manager")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_deleted_at_polar_by_hand_comes_back_with_all_its_members() {
    let (house, tenant) = open().await;
    let bob = user();
    house
        .tell(&[tenant.added(&bob, "bob@example.com", "admin")])
        .await;
    house.settle().await;
    // Nobody says so; only the next change shows it.
    house.simulator.set_webhook_url(None);
    house
        .polar()
        .customers()
        .delete_by_external_id(&tenant.id, polar::Deletion::Keep)
        .await
        .unwrap();
    let ada = user();
    house
        .tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    house.settle_waits().await;
    for (user, role) in [
        (&ada, "member"),
        (&bob, "billing_manager"),
        (&tenant.owner, "owner"),
    ] {
        assert_eq!(house.role_at_polar(&tenant, user).as_deref(), Some(role));
    }
}
