//! `sync_member`: a member at Polar follows the person.

use polar::{NewMember, Role};
use serde_json::json;
use simulator::RequestMatch;

use crate::test_app::{DEADLINE, Tenant, TestApp, user};

/// An installation with one synced organization.
async fn open() -> (TestApp, Tenant) {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    (app, tenant)
}

async fn someone_adds(app: &TestApp, tenant: &Tenant, external_id: &str, email: &str) {
    let member = NewMember {
        email: email.to_owned(),
        name: "Somebody".to_owned(),
        external_id: external_id.to_owned(),
        role: Role::Member,
    };
    app.polar()
        .members()
        .create_external(&tenant.id, &member)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_member_has_our_id_name_address_and_role() {
    let (app, tenant) = open().await;
    let people: Vec<_> = [
        ("admin", "billing_manager"),
        ("finance", "member"),
        ("member", "member"),
    ]
    .into_iter()
    .map(|(role, at_polar)| (user(), role, at_polar))
    .collect();
    for (id, role, _) in &people {
        app.tell(&[tenant.added(id, &format!("{role}@example.com"), role)])
            .await;
    }
    app.work_until_idle().await;
    for (id, role, at_polar) in &people {
        let member = app.member(&tenant, id).unwrap();
        assert_eq!(
            (member.role.as_str(), member.email, member.name.as_deref()),
            (*at_polar, format!("{role}@example.com"), Some("Ada Added"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_a_name_is_called_by_the_address() {
    let (app, tenant) = open().await;
    let ada = user();
    let mut added = tenant.added(&ada, "ada.l@example.com", "member");
    added["data"]["user"]["name"] = json!(null);
    app.tell(&[added]).await;
    app.work_until_idle().await;
    assert_eq!(
        app.member(&tenant, &ada).unwrap().name.as_deref(),
        Some("ada.l")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn new_name_and_address_of_a_user_reach_every_organization() {
    let app = TestApp::open().await;
    let tenants = [Tenant::new(), Tenant::new()];
    let ada = user();
    for tenant in &tenants {
        app.tell(&[
            tenant.created(),
            tenant.added(&ada, "ada@example.com", "member"),
        ])
        .await;
    }
    app.resolve_waits().await;
    app.tell(&[json!({"type": "user.updated", "data": {"id": ada, "email": "lovelace@example.com", "name": "Ada L"}})]).await;
    app.resolve_waits().await;
    for tenant in &tenants {
        let member = app.member(tenant, &ada).unwrap();
        assert_eq!(
            (member.email.as_str(), member.name.as_deref()),
            ("lovelace@example.com", Some("Ada L"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_added_and_removed_at_once_is_gone_and_stays_gone() {
    let (app, tenant) = open().await;
    let ada = user();
    app.tell(&[
        tenant.added(&ada, "ada@example.com", "member"),
        tenant.removed(&ada),
    ])
    .await;
    app.resolve_waits().await;
    assert!(app.member(&tenant, &ada).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_overtakes_a_slow_addition_still_wins() {
    let (app, tenant) = open().await;
    let ada = user();
    let held = app
        .simulator
        .hold(RequestMatch::path("/members").method("POST"));
    app.tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    tokio::join!(app.drain(), async {
        assert!(held.wait_for(1, DEADLINE).await);
        app.tell(&[tenant.removed(&ada)]).await;
        held.release_all();
    });
    app.resolve_waits().await;
    assert!(app.member(&tenant, &ada).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_who_comes_back_is_a_member_again() {
    let (app, tenant) = open().await;
    let ada = user();
    for change in [
        tenant.added(&ada, "ada@example.com", "member"),
        tenant.removed(&ada),
        tenant.added(&ada, "ada@example.com", "admin"),
    ] {
        app.tell(&[change]).await;
        app.work_until_idle().await;
    }
    assert_eq!(
        app.role_at_polar(&tenant, &ada).as_deref(),
        Some("billing_manager")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_member_who_is_gone_already_is_no_error() {
    let (app, tenant) = open().await;
    let ada = user();
    app.tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    app.work_until_idle().await;
    app.polar()
        .members()
        .delete(&tenant.id, &ada)
        .await
        .unwrap();
    app.tell(&[tenant.removed(&ada)]).await;
    app.work_until_idle().await;
    assert_eq!(app.end("sync_member").await.0, "applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loser_of_a_race_to_add_the_same_member_finds_it_there() {
    let (app, tenant) = open().await;
    let ada = user();
    let held = app
        .simulator
        .hold(RequestMatch::path("/members").method("POST"));
    app.tell(&[tenant.added(&ada, "ada@example.com", "finance")])
        .await;
    tokio::join!(app.work_until_idle(), async {
        assert!(held.wait_for(1, DEADLINE).await);
        let polar = app.polar();
        let members = polar.members();
        let same = NewMember {
            email: "ada@example.com".to_owned(),
            name: "Ada Added".to_owned(),
            external_id: ada.clone(),
            role: Role::Member,
        };
        let rival = members.create_external(&tenant.id, &same);
        let release = async {
            assert!(held.wait_for(2, DEADLINE).await);
            held.release_all();
        };
        let (_either, ()) = tokio::join!(rival, release);
    });
    assert_eq!(app.member(&tenant, &ada).unwrap().role, "member");
    assert_eq!(app.simulator.members(&tenant.id).len(), 2);
    assert_eq!(app.end("sync_member").await.0, "applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_known_at_polar_under_another_address_gets_the_wanted_one() {
    let (app, tenant) = open().await;
    let ada = user();
    someone_adds(&app, &tenant, &ada, "old@example.com").await;
    app.tell(&[tenant.added(&ada, "new@example.com", "admin")])
        .await;
    app.work_until_idle().await;
    let member = app.member(&tenant, &ada).unwrap();
    assert_eq!(
        (member.email.as_str(), member.role.as_str()),
        ("new@example.com", "billing_manager")
    );
    assert_eq!(app.ends("sync_member").await.last().unwrap().0, "applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_belongs_to_somebody_who_is_not_ours_is_discarded_with_the_reason() {
    let (app, tenant) = open().await;
    someone_adds(&app, &tenant, "not one of ours", "ADA@example.com").await;
    let ada = user();
    app.tell(&[tenant.added(&ada, "ada@example.com", "admin")])
        .await;
    app.work_until_idle().await;
    assert!(
        app.member(&tenant, &ada).is_none(),
        "201 does not prove that the member is ours"
    );
    let (state, reason) = app.end("sync_member").await;
    assert_eq!(state, "discarded");
    assert!(
        reason.contains("belongs to member") && !reason.contains('@'),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_somebody_who_left_is_free_for_the_next() {
    let (app, tenant) = open().await;
    let (old, new) = (user(), user());
    app.tell(&[tenant.added(&old, "office@example.com", "member")])
        .await;
    app.work_until_idle().await;
    // Both are known here before either sync runs; whoever comes first, the end is the same.
    app.tell(&[
        tenant.added(&new, "Office@example.com", "finance"),
        tenant.removed(&old),
    ])
    .await;
    app.resolve_waits().await;
    assert!(app.member(&tenant, &old).is_none());
    assert_eq!(app.member(&tenant, &new).unwrap().role, "member");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_moves_from_one_member_to_another_arrives() {
    let (app, tenant) = open().await;
    let (ada, bob) = (user(), user());
    app.tell(&[
        tenant.added(&ada, "ada@example.com", "member"),
        tenant.added(&bob, "bob@example.com", "member"),
    ])
    .await;
    app.resolve_waits().await;
    app.tell(&[
        json!({"type": "user.updated", "data": {"id": bob, "email": "bobby@example.com"}}),
        json!({"type": "user.updated", "data": {"id": ada, "email": "bob@example.com"}}),
    ])
    .await;
    app.resolve_waits().await;
    assert_eq!(app.member(&tenant, &ada).unwrap().email, "bob@example.com");
    assert_eq!(
        app.member(&tenant, &bob).unwrap().email,
        "bobby@example.com"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_with_one_address_are_reported_and_the_first_stays() {
    let (app, tenant) = open().await;
    let (ada, bob) = (user(), user());
    app.tell(&[tenant.added(&ada, "both@example.com", "member")])
        .await;
    app.work_until_idle().await;
    let worker = app.work();
    app.tell(&[tenant.added(&bob, "both@example.com", "member")])
        .await;
    let given_up = async || {
        app.hurry().await;
        app.end("sync_member").await.0 == "discarded"
    };
    app.until("it is given up", given_up).await;
    assert!(app.member(&tenant, &ada).is_some());
    assert!(app.end("sync_member").await.1.contains("same address"));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_takes_no_mail_is_tried_once_more_slowly_and_then_discarded() {
    let (app, tenant) = open().await;
    let ada = user();
    let before = app.writes().len();
    let worker = app.work();
    app.tell(&[tenant.added(&ada, "ada@undeliverable.test", "member")])
        .await;
    let waits = async || matches!(app.notes().await.as_slice(), [(_, Some(_))]);
    app.until("it waits for its one more try", waits).await;
    app.age_refusals().await;
    app.hurry().await;
    let given_up = async || app.ends("sync_member").await.len() == 1;
    app.until("it is given up", given_up).await;
    assert_eq!(app.end("sync_member").await.0, "discarded");
    assert_eq!(app.writes().len() - before, 2);
    worker.stop().await;
    app.tell(&[json!({"type": "user.updated", "data": {"id": ada, "email": "ada@example.com"}})])
        .await;
    app.work_until_idle().await;
    assert!(
        app.member(&tenant, &ada).is_some(),
        "a usable address starts anew"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn members_who_come_before_their_organization_wait_for_it_and_then_go_to_polar() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    let ada = user();
    app.tell(&[tenant.added(&ada, "ada@example.com", "finance")])
        .await;
    app.resolve_waits().await;
    assert!(
        app.simulator.requests().is_empty(),
        "nothing goes to Polar before the organization is created"
    );
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.members").await,
        1
    );
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.organizations")
            .await,
        0
    );
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("member"));
}

/// Somebody is added to an organization whose customer cannot be made, as no mail can be delivered to its owner.
async fn added_before_the_customer(app: &TestApp, tenant: &Tenant, user: &str) {
    let mut created = tenant.created();
    created["data"]["owner"]["email"] = json!("owner@undeliverable.test");
    app.tell(&[created]).await;
    app.work_until_idle().await;
    app.age_refusals().await;
    app.tell(&[tenant.added(user, "ada@example.com", "admin")])
        .await;
    app.resolve_waits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_not_lost_when_their_customer_cannot_be_made_for_a_long_time() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    let ada = user();
    added_before_the_customer(&app, &tenant, &ada).await;
    assert_eq!(
        app.end("sync_member").await.0,
        "ignored",
        "it does not wait for ever"
    );
    app.tell(&[
        json!({"type": "user.updated", "data": {"id": tenant.owner, "email": "owner@example.com"}}),
    ])
    .await;
    app.resolve_waits().await;
    assert_eq!(
        app.role_at_polar(&tenant, &ada).as_deref(),
        Some("billing_manager")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_deleted_at_polar_by_hand_comes_back_with_all_its_members() {
    let (app, tenant) = open().await;
    let bob = user();
    app.tell(&[tenant.added(&bob, "bob@example.com", "admin")])
        .await;
    app.work_until_idle().await;
    // Nobody says so; only the next change shows it.
    app.simulator.set_webhook_url(None);
    app.polar()
        .customers()
        .delete_by_external_id(&tenant.id, polar::Deletion::Keep)
        .await
        .unwrap();
    let ada = user();
    app.tell(&[tenant.added(&ada, "ada@example.com", "member")])
        .await;
    app.resolve_waits().await;
    for (user, role) in [
        (&ada, "member"),
        (&bob, "billing_manager"),
        (&tenant.owner, "owner"),
    ] {
        assert_eq!(app.role_at_polar(&tenant, user).as_deref(), Some(role));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_who_left_before_their_customer_was_made_nothing_stays_noted() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    let ada = user();
    added_before_the_customer(&app, &tenant, &ada).await;
    app.tell(&[tenant.removed(&ada)]).await;
    app.resolve_waits().await;
    let noted = "SELECT count(*) FROM polar_jobs.out_of_step WHERE subject LIKE 'member/%'";
    assert_eq!(app.count(noted).await, 1);
    app.tell(&[
        json!({"type": "user.updated", "data": {"id": tenant.owner, "email": "owner@example.com"}}),
    ])
    .await;
    app.resolve_waits().await;
    assert_eq!(app.count(noted).await, 0);
    let in_step = "SELECT count(*) FROM polar_jobs.organization_overview WHERE in_step";
    assert_eq!(app.count(in_step).await, 1);
}
