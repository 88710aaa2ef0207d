//! A customer that somebody deleted at Polar although we want it.

use polar::Deletion;
use serde_json::json;
use simulator::{Product, RequestMatch};
use uuid::Uuid;

use crate::test_app::{DEADLINE, Tenant, TestApp, user};

impl TestApp {
    async fn someone_deletes(&self, tenant: &Tenant, deletion: Deletion) {
        self.polar()
            .customers()
            .delete_by_external_id(&tenant.id, deletion)
            .await
            .unwrap();
    }

    fn customer_id(&self, tenant: &Tenant) -> Option<Uuid> {
        self.simulator.customer(&tenant.id).map(|row| row.id)
    }

    fn roles_at_polar(&self, tenant: &Tenant) -> Vec<(Option<String>, String)> {
        let members = self.simulator.members(&tenant.id).into_iter();
        let mut roles: Vec<_> = members.map(|row| (row.external_id, row.role)).collect();
        roles.sort();
        roles
    }

    async fn unsynced(&self) -> i64 {
        self.count(
            "SELECT (SELECT count(*) FROM polar_jobs.organizations WHERE synced_event IS DISTINCT FROM event_id)
                  + (SELECT count(*) FROM polar_jobs.memberships m JOIN polar_jobs.people p USING (user_id)
                      WHERE removed_at IS NULL AND synced_event IS DISTINCT FROM greatest(event_id, changed_event))
                  + (SELECT count(*) FROM polar_jobs.out_of_step)",
        )
        .await
    }
}

/// A synced organization with an admin, a member, one who left, and a plan.
async fn open() -> (TestApp, Tenant) {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    let left = user();
    app.tell(&[
        tenant.created(),
        tenant.added(&user(), "ada@example.com", "admin"),
        tenant.added(&user(), "bob@example.com", "member"),
        tenant.added(&left, "left@example.com", "member"),
    ])
    .await;
    app.resolve_waits().await;
    app.tell(&[tenant.removed(&left)]).await;
    app.resolve_waits().await;
    app.simulator
        .purchase(&tenant.id, Product::Scale)
        .await
        .unwrap();
    app.resolve_waits().await;
    assert_eq!(app.unsynced().await, 0);
    (app, tenant)
}

async fn plan(app: &TestApp) -> (String, Option<String>, i32) {
    sqlx::query_as(
        "SELECT plan, support_tier, fee_basis_points
           FROM polar_jobs.entitlements JOIN polar_jobs.accounts USING (organization_id)",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_back_by_itself_with_everybody_who_belongs_to_it() {
    for deletion in [Deletion::Keep, Deletion::Anonymize] {
        let (app, tenant) = open().await;
        let (before, roles) = (app.customer_id(&tenant), app.roles_at_polar(&tenant));
        assert_eq!((roles.len(), plan(&app).await.0.as_str()), (3, "Scale"));
        app.someone_deletes(&tenant, deletion).await;
        app.resolve_waits().await;
        let now = app.customer_id(&tenant);
        assert!(now.is_some() && now != before, "{deletion:?}");
        assert_eq!(app.roles_at_polar(&tenant), roles);
        assert_eq!(plan(&app).await, ("Free".to_owned(), None, 500));
        assert_eq!(app.unsynced().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_delivery_the_next_change_brings_it_back_with_everybody() {
    for (of_a_member, members) in [(false, 3), (true, 4)] {
        let (app, tenant) = open().await;
        let before = app.customer_id(&tenant);
        app.simulator.set_webhook_url(None);
        app.someone_deletes(&tenant, Deletion::Keep).await;
        let change = if of_a_member {
            tenant.added(&user(), "new@example.com", "member")
        } else {
            json!({"type": "organization.updated", "data": {"id": tenant.id, "name": "Acme 2"}})
        };
        app.tell(&[change]).await;
        app.resolve_waits().await;
        assert_ne!(app.customer_id(&tenant), before);
        assert_eq!(app.roles_at_polar(&tenant).len(), members);
        assert_eq!(plan(&app).await.0, "Free");
        assert_eq!(app.unsynced().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_deletion_that_is_delivered_several_times_makes_one_customer() {
    let (app, tenant) = open().await;
    // Deletions that run side by side all succeed, and each announces itself.
    let held = app
        .simulator
        .hold(RequestMatch::path(&tenant.id).method("DELETE"));
    let deletes = async || app.someone_deletes(&tenant, Deletion::Keep).await;
    tokio::join!(deletes(), deletes(), deletes(), async {
        assert!(held.wait_for(3, DEADLINE).await);
        held.release_all();
    });
    app.resolve_waits().await;
    let delivered =
        "SELECT count(*) FROM polar_jobs.external_events WHERE type = 'customer.deleted'";
    assert_eq!(app.count(delivered).await, 3);
    assert_eq!(app.roles_at_polar(&tenant).len(), 3);
    let living = app.simulator.customers().into_iter();
    assert_eq!(living.filter(|row| row.deleted_at.is_none()).count(), 1);
    let failed = "SELECT count(*) FROM polar_jobs.external_events WHERE outcome = 'failed'";
    assert_eq!(app.count(failed).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_deletion_ends_without_another_call() {
    let (app, tenant) = open().await;
    app.tell(&[tenant.deleted()]).await;
    app.resolve_waits().await;
    let requests = app.simulator.requests();
    let last = requests.last().unwrap();
    assert_eq!(last.method, "DELETE", "{} {}", last.method, last.path);
    assert!(app.customer_id(&tenant).is_none());
    let (outcome, reason) = app.end("restore_customer").await;
    assert_eq!(outcome, "ignored");
    assert!(reason.contains("no living organization"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_late_news_of_a_deletion_leave_a_new_life_alone() {
    let (app, tenant) = open().await;
    app.simulator.set_webhook_url(None);
    let old = app.customer_id(&tenant).unwrap();
    app.tell(&[tenant.deleted(), tenant.created()]).await;
    app.resolve_waits().await;
    let before = (app.customer_id(&tenant), app.simulator.requests().len());
    let late = jobs::RestoreCustomer { customer_id: old };
    let mut connection = app.pool.acquire().await.unwrap();
    polar_jobs::queue::enqueue::insert(&mut connection, &jobs::NewJob::of(&late))
        .await
        .unwrap();
    app.resolve_waits().await;
    let after = (app.customer_id(&tenant), app.simulator.requests().len());
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_while_billing_was_off_comes_back_when_it_is_on() {
    let (app, tenant) = open().await;
    app.someone_deletes(&tenant, Deletion::Keep).await;
    assert!(app.simulator.deliveries_finished(DEADLINE).await);
    app.drain_without_billing().await;
    assert!(app.customer_id(&tenant).is_none());
    // Polar bills to nobody what it hears meanwhile.
    let billable = "SELECT count(*) FROM polar_jobs.organization_lives WHERE has_customer";
    assert_eq!(app.count(billable).await, 0);
    app.resolve_waits().await;
    assert_eq!(app.count(billable).await, 1);
    assert_eq!(app.roles_at_polar(&tenant).len(), 3);
    assert_eq!(app.unsynced().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_that_goes_on_deletes_nothing_of_a_new_life() {
    let (app, tenant) = open().await;
    let old = app.customer_id(&tenant).unwrap();
    let held = app
        .simulator
        .hold(RequestMatch::path(&old.to_string()).method("DELETE"));
    app.tell(&[tenant.deleted()]).await;
    tokio::join!(app.resolve_waits(), async {
        assert!(held.wait_for(1, DEADLINE).await);
        // What another worker does meanwhile: the deletion is done, and a new life begins.
        app.someone_deletes(&tenant, Deletion::Anonymize).await;
        sqlx::query("UPDATE polar_jobs.organizations SET erasure_event = NULL, polar_customer_id = NULL, deleted_at = NULL")
            .execute(&app.pool)
            .await
            .unwrap();
        let team = polar::NewTeam {
            name: "Acme".to_owned(),
            external_id: tenant.id.clone(),
            metadata: polar::Metadata::default(),
            owner: polar::Owner {
                email: "owner@example.com".to_owned(),
                name: "Olga Owner".to_owned(),
                external_id: tenant.owner.clone(),
            },
        };
        app.polar().customers().create_team(&team).await.unwrap();
        held.release_all();
    });
    let new = app.customer_id(&tenant);
    assert!(new.is_some() && new != Some(old));
    app.resolve_waits().await;
    assert_eq!(app.customer_id(&tenant), new);
}

#[tokio::test(flavor = "multi_thread")]
async fn making_one_organization_asks_once_and_writes_once() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    let requests = app.simulator.requests().into_iter();
    let methods: Vec<String> = requests.map(|request| request.method).collect();
    assert_eq!(methods, ["GET", "POST"]);
}
