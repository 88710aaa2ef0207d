//! Addresses of members: each is taken once per customer, and Polar may refuse one.

use serde_json::{Value, json};

use crate::test_app::{Tenant, TestApp, user};

fn moved(user: &str, email: &str) -> Value {
    json!({"type": "user.updated", "data": {"id": user, "email": email}})
}

/// One synced organization with these members.
async fn open<const N: usize>(names: [&str; N]) -> (TestApp, Tenant, [String; N]) {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    let people = names.map(|_| user());
    let mut changes = vec![tenant.created()];
    for (name, id) in names.iter().zip(&people) {
        changes.push(tenant.added(id, &format!("{name}@example.com"), "member"));
    }
    app.tell(&changes).await;
    app.resolve_waits().await;
    (app, tenant, people)
}

impl TestApp {
    fn address(&self, tenant: &Tenant, user: &str) -> String {
        let member = self.member(tenant, user);
        member.map_or_else(|| "nobody".to_owned(), |row| row.email)
    }

    async fn discarded(&self) -> i64 {
        self.count("SELECT count(*) FROM polar_jobs.jobs WHERE state = 'discarded'")
            .await
    }

    async fn notes_out_of_step(&self) -> Vec<(String, String)> {
        sqlx::query_as("SELECT subject, reason FROM polar_jobs.out_of_step ORDER BY subject")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_exchange_their_addresses() {
    let (app, tenant, [ada, bob]) = open(["ada", "bob"]).await;
    let changes = [
        moved(&ada, "bob@example.com"),
        moved(&bob, "ada@example.com"),
    ];
    app.tell(&changes).await;
    app.resolve_waits().await;
    assert_eq!(app.address(&tenant, &ada), "bob@example.com");
    assert_eq!(app.address(&tenant, &bob), "ada@example.com");
    assert_eq!(app.discarded().await, 0);
    assert_eq!(app.notes_out_of_step().await, []);
}

/// As after a process that stopped between the deletion of the one who leaves first and its commit.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_goes_on_where_one_has_left_and_the_other_gave_up() {
    let (app, tenant, [ada, bob]) = open(["ada", "bob"]).await;
    app.tell(&[moved(&bob, "ada@example.com")]).await;
    app.resolve_waits().await;
    assert_eq!(app.discarded().await, 1);
    let polar = app.polar();
    polar.members().delete(&tenant.id, &ada).await.unwrap();
    let working = app.work();
    app.tell(&[moved(&ada, "bob@example.com")]).await;
    app.until("the exchange", async || {
        app.hurry().await;
        app.address(&tenant, &ada) == "bob@example.com"
            && app.address(&tenant, &bob) == "ada@example.com"
    })
    .await;
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_begins_after_one_of_them_gave_up_is_done_too() {
    let (app, tenant, [ada, bob]) = open(["ada", "bob"]).await;
    app.tell(&[moved(&ada, "bob@example.com")]).await;
    app.resolve_waits().await;
    assert_eq!(app.end("sync_member").await.0, "discarded");
    app.tell(&[moved(&bob, "ada@example.com")]).await;
    app.resolve_waits().await;
    assert_eq!(app.address(&tenant, &ada), "bob@example.com");
    assert_eq!(app.address(&tenant, &bob), "ada@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_of_three_with_the_owner_in_it_is_resolved_and_the_owner_never_leaves() {
    let (app, tenant, [ada, bob]) = open(["ada", "bob"]).await;
    let owner = app.member(&tenant, &tenant.owner).unwrap().id;
    app.tell(&[
        moved(&tenant.owner, "ada@example.com"),
        moved(&ada, "bob@example.com"),
        moved(&bob, "owner@example.com"),
    ])
    .await;
    app.resolve_waits().await;
    assert_eq!(app.address(&tenant, &tenant.owner), "ada@example.com");
    assert_eq!(app.address(&tenant, &ada), "bob@example.com");
    assert_eq!(app.address(&tenant, &bob), "owner@example.com");
    let now = app.member(&tenant, &tenant.owner).unwrap();
    assert_eq!((now.id, now.role.as_str()), (owner, "owner"));
    assert_eq!(app.discarded().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_to_one_who_waits_for_an_address_is_done() {
    let (app, tenant, [ada, bob]) = open(["ada", "bob"]).await;
    app.tell(&[
        moved(&ada, "bob@example.com"),
        tenant.transferred(&ada),
        tenant.role(&tenant.owner, "member"),
    ])
    .await;
    app.resolve_waits().await;
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    assert_eq!(
        app.role_at_polar(&tenant, &tenant.owner).as_deref(),
        Some("member")
    );
    assert_eq!(app.address(&tenant, &ada), "ada@example.com");
    assert_eq!(app.address(&tenant, &bob), "bob@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_owner_with_the_address_of_the_one_who_leaves_takes_over() {
    let (app, tenant, []) = open([]).await;
    let next = user();
    app.tell(&[
        tenant.added(&next, "owner@example.com", "owner"),
        tenant.removed(&tenant.owner),
    ])
    .await;
    app.resolve_waits().await;
    assert!(app.member(&tenant, &tenant.owner).is_none());
    assert_eq!(app.role_at_polar(&tenant, &next).as_deref(), Some("owner"));
    assert_eq!(app.address(&tenant, &next), "owner@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_polar_refuses_stops_neither_name_nor_role() {
    let (app, tenant, [ada]) = open(["ada"]).await;
    app
        .tell(&[
            json!({"type": "user.updated", "data": {"id": ada, "email": "ada@undeliverable.test", "name": "Ada L"}}),
            tenant.role(&ada, "admin"),
        ])
        .await;
    app.work_until_idle().await;
    app.age_refusals().await;
    app.resolve_waits().await;
    let member = app.member(&tenant, &ada).unwrap();
    assert_eq!(
        (
            member.name.as_deref(),
            member.role.as_str(),
            member.email.as_str()
        ),
        (Some("Ada L"), "billing_manager", "ada@example.com")
    );
    let (state, reason) = app.end("sync_member").await;
    assert_eq!(state, "discarded");
    assert!(reason.contains("cannot deliver mail"), "{reason}");
    assert_eq!(
        app.notes_out_of_step().await,
        [(format!("member/{ada}"), reason)]
    );
    // Name and role go on following the application.
    app.tell(&[tenant.role(&ada, "finance")]).await;
    app.resolve_waits().await;
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("member"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_to_one_whose_address_polar_refuses_is_done_and_the_owner_before_can_leave() {
    let (app, tenant, [ada]) = open(["ada"]).await;
    app.tell(&[
        moved(&ada, "ada@undeliverable.test"),
        tenant.transferred(&ada),
        tenant.removed(&tenant.owner),
    ])
    .await;
    app.work_until_idle().await;
    app.age_refusals().await;
    app.resolve_waits().await;
    assert_eq!(app.role_at_polar(&tenant, &ada).as_deref(), Some("owner"));
    assert!(app.member(&tenant, &tenant.owner).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_becomes_free_wakes_who_was_given_up_for_it() {
    let (app, tenant, [ada, bob]) = open(["ada", "bob"]).await;
    for free in [
        moved(&ada, "lovelace@example.com"),
        tenant.removed(&ada),
        tenant.deleted(),
    ] {
        let next = user();
        let email = app.address(&tenant, &ada);
        app.tell(&[tenant.added(&next, &email, "admin")]).await;
        app.resolve_waits().await;
        assert!(app.member(&tenant, &next).is_none());
        let (state, reason) = app.end("sync_member").await;
        assert_eq!(state, "discarded");
        assert!(reason.contains("same address"), "{reason}");
        let before = app.discarded().await;
        // A change of the holder that frees nothing wakes nobody.
        app.tell(&[tenant.role(&ada, "finance"), tenant.role(&bob, "finance")])
            .await;
        app.resolve_waits().await;
        assert_eq!(app.discarded().await, before);
        app.tell(std::slice::from_ref(&free)).await;
        app.resolve_waits().await;
        match free["type"].as_str() {
            Some("organization.deleted") => assert_eq!(app.notes_out_of_step().await, []),
            _ => assert_eq!(app.address(&tenant, &next), email, "{free}"),
        }
        if free["type"] == "member.removed" {
            app.tell(&[
                tenant.removed(&next),
                tenant.added(&ada, "ada.again@example.com", "member"),
            ])
            .await;
            app.resolve_waits().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clash_after_a_long_outage_is_waited_out_all_the_same() {
    let (app, tenant, [ada, bob]) = open(["ada", "bob"]).await;
    app.tell(&[moved(&ada, "bob@example.com")]).await;
    // The jobs of the changes have run; that of the member was put off again and again while Polar was
    // down, which counts as claims and not as failures.
    app.drain_without_billing().await;
    sqlx::query(
        "SELECT polar_jobs.enqueue('sync_member', $1, ordering_key => $2, unique_key => $2)",
    )
    .bind(json!({"organization_id": tenant.id, "user_id": ada}))
    .bind(format!("sync_member/{}/{ada}", tenant.id))
    .execute(&app.pool)
    .await
    .unwrap();
    sqlx::query("UPDATE polar_jobs.live_jobs SET attempt = 500")
        .execute(&app.pool)
        .await
        .unwrap();
    app.work_until_idle().await;
    assert_eq!(
        app.discarded().await,
        0,
        "it waits for its first clash to end"
    );
    assert_eq!(app.notes().await.len(), 1);
    app.tell(&[moved(&bob, "bobby@example.com")]).await;
    app.resolve_waits().await;
    assert_eq!(app.address(&tenant, &ada), "bob@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_addresses_that_polar_normalises_are_written_once() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    let ada = user();
    let mut created = tenant.created();
    created["data"]["name"] = json!("  Acme \u{a0}");
    created["data"]["owner"]["name"] = json!("\tOlga Owner ");
    created["data"]["owner"]["email"] = json!("Owner@XN--EXMPLE-CUA.com");
    let mut added = tenant.added(&ada, "u\u{308}na@exa\u{308}mple.com", "member");
    added["data"]["user"]["name"] = json!(" ");
    app.tell(&[created, added]).await;
    app.resolve_waits().await;
    let customer = app.simulator.customer(&tenant.id).unwrap();
    assert_eq!(customer.name.as_deref(), Some("Acme"));
    let owner = app.member(&tenant, &tenant.owner).unwrap();
    assert_eq!(
        (owner.name.as_deref(), owner.email.as_str()),
        (Some("Olga Owner"), "Owner@exämple.com")
    );
    let member = app.member(&tenant, &ada).unwrap();
    assert_eq!(
        (member.name.as_deref(), member.email.as_str()),
        (Some("üna"), "üna@exämple.com")
    );
    let here: Vec<(String, String)> = sqlx::query_as(
        "SELECT name, email FROM polar_jobs.members UNION SELECT name, '' FROM polar_jobs.organizations ORDER BY 1",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    let text = |name: &str, email: &str| (name.to_owned(), email.to_owned());
    assert_eq!(
        here,
        [
            text("Acme", ""),
            text("Olga Owner", "Owner@exämple.com"),
            text("üna", "üna@exämple.com")
        ]
    );
    let before = app.writes().len();
    app.tell(&[
        json!({"type": "organization.updated", "data": {"id": tenant.id, "name": " Acme"}}),
        tenant.role(&ada, "finance"),
    ])
    .await;
    sqlx::query("SELECT polar_jobs.record_change('user.updated', $1)")
        .bind(json!({"id": ada, "name": "", "email": "üna@xn--exmple-cua.com"}))
        .execute(&app.pool)
        .await
        .unwrap();
    app.resolve_waits().await;
    assert_eq!(app.writes().len(), before);
}
