//! What is at Polar and none of ours: reported, and deleted only where that is asked for by name.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::RequestMatch;
use uuid::Uuid;

use crate::command::{Said, command, json as answer, run};
use crate::test_app::{DEADLINE, Tenant, TestApp, user};

fn team(external_id: Option<&str>) -> Value {
    json!({"type": "team", "name": "Shop", "external_id": external_id,
        "owner": {"email": "shop@example.com", "name": "Sam", "external_id": "sam"}})
}

async fn customers(app: &TestApp) -> Vec<Option<String>> {
    let mut ids: Vec<_> = app
        .simulator
        .customers()
        .into_iter()
        .filter(|one| one.deleted_at.is_none())
        .map(|one| one.external_id)
        .collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_of_nobody_are_reported_and_deleted_only_as_strangers() {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    app.tell(&[tenant.created()]).await;
    let gone = user();
    let self_organization = app.simulator.organization_id().to_string();
    for external_id in [Some("shop-7"), Some(&gone), Some(&self_organization), None] {
        app.at_polar("POST", "/v1/customers/", Some(&team(external_id)))
            .await;
    }
    app.work_until_idle().await;
    let (code, differences) = answer(&app, &["reconcile"]).await;
    assert_eq!(code, 1);
    let mut found: Vec<String> = differences
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["found"]["external_id"].as_str().unwrap().to_owned())
        .collect();
    found.sort();
    let mut expected = vec![gone.clone(), "shop-7".to_owned()];
    expected.sort();
    assert_eq!(found, expected);

    let before = customers(&app).await;
    assert_eq!(run(&app, &["reconcile", "--repair"]).await.code, 0);
    assert_eq!(
        customers(&app).await,
        before,
        "without --strangers nothing is deleted"
    );
    assert_eq!(run(&app, &["reconcile", "--strangers"]).await.code, 2);
    assert_eq!(
        run(&app, &["reconcile", "--repair", "--strangers"])
            .await
            .code,
        0
    );
    let mut kept = vec![None, Some(self_organization), Some(tenant.id)];
    kept.sort();
    assert_eq!(customers(&app).await, kept);
    assert_eq!(answer(&app, &["reconcile"]).await, (0, json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_who_are_none_of_ours_are_deleted_only_as_strangers() {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    let path = format!("/v1/customers/external/{}/members", tenant.id);
    let stranger = json!({"email": "sam@example.com", "name": "Sam", "role": "member"});
    let sam = app.at_polar("POST", &path, Some(&stranger)).await;
    let sam = sam["id"].as_str().unwrap();
    app.work_until_idle().await;
    let (code, differences) = answer(&app, &["reconcile"]).await;
    assert_eq!(code, 1);
    assert_eq!(differences[0]["cause"], "made at Polar by somebody else");
    assert_eq!(run(&app, &["reconcile", "--repair"]).await.code, 0);
    app.work_until_idle().await;
    assert_eq!(app.simulator.members(&tenant.id).len(), 2);
    assert_eq!(
        run(&app, &["reconcile", "--repair", "--strangers"])
            .await
            .code,
        0
    );
    assert_eq!(
        app.simulator.members(&tenant.id).len(),
        1,
        "the owner stays"
    );
    let recorded: Vec<Option<Uuid>> = sqlx::query_scalar(
        "SELECT organization_id FROM polar_jobs.operator_actions WHERE action = 'reconcile --repair --strangers'",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    assert_eq!(recorded, [tenant.id.parse().ok()]);
    assert_eq!(deletions(&app).await, [format!("member/{sam}")]);
    assert_eq!(answer(&app, &["reconcile"]).await, (0, json!([])));
}

/// An organization with a member at Polar who carries the id of somebody whom it does not know, made between two others
/// who carry none. Returns that id, and Polar's of the member.
async fn with_a_member_to_come(app: &TestApp) -> (Tenant, String, Uuid) {
    let (tenant, ada) = (Tenant::new(), user());
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    let path = format!("/v1/customers/external/{}/members", tenant.id);
    for (name, external_id) in [("sam", None), ("ada.old", Some(&ada)), ("kim", None)] {
        let member = json!({"email": format!("{name}@example.com"), "name": name, "role": "member",
            "external_id": external_id});
        app.at_polar("POST", &path, Some(&member)).await;
    }
    app.work_until_idle().await;
    let member = app.member(&tenant, &ada).unwrap().id;
    (tenant, ada, member)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_is_wanted_by_the_time_that_others_are_deleted_is_left_alone() {
    for is_applied in [true, false] {
        let app = TestApp::open().await;
        let (tenant, ada, member) = with_a_member_to_come(&app).await;
        let deletions = RequestMatch::path("/members/").method("DELETE");
        let held = app.simulator.hold(deletions.on_arrival());
        let (said, ()) = tokio::join!(
            run(&app, &["reconcile", "--repair", "--strangers"]),
            async {
                assert!(held.wait_for(1, DEADLINE).await);
                app.tell(&[tenant.added(&ada, "ada@example.com", "member")])
                    .await;
                if is_applied {
                    app.work_until_idle().await;
                }
                held.release_all();
            }
        );
        assert_eq!(said.code, 0, "{}", said.err);
        let there = app.member(&tenant, &ada).map(|member| member.id);
        assert_eq!(there, Some(member), "applied: {is_applied}");
        app.work_until_idle().await;
        assert_eq!(app.simulator.members(&tenant.id).len(), 2);
        assert_eq!(app.member(&tenant, &ada).unwrap().email, "ada@example.com");
        assert_eq!(answer(&app, &["reconcile"]).await, (0, json!([])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_is_wanted_while_the_deletion_is_on_its_way_comes_back() {
    let app = TestApp::open().await;
    let (tenant, ada, member) = with_a_member_to_come(&app).await;
    let deletion = RequestMatch::path(&format!("/members/{member}")).method("DELETE");
    let held = app.simulator.hold(deletion.on_arrival());
    let (said, ()) = tokio::join!(
        run(&app, &["reconcile", "--repair", "--strangers"]),
        async {
            assert!(held.wait_for(1, DEADLINE).await);
            app.tell(&[tenant.added(&ada, "ada@example.com", "member")])
                .await;
            app.work_until_idle().await;
            assert_eq!(app.member(&tenant, &ada).unwrap().id, member);
            held.release_all();
        }
    );
    assert_eq!(said.code, 0, "{}", said.err);
    app.work_until_idle().await;
    assert_eq!(app.member(&tenant, &ada).unwrap().email, "ada@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_whose_organization_is_announced_is_no_stranger_before_that_is_applied() {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    let customer = app
        .at_polar("POST", "/v1/customers/", Some(&team(Some(&tenant.id))))
        .await;
    app.work_until_idle().await;
    // Nobody works: the change is accepted, and waits.
    app.tell(&[tenant.created()]).await;
    assert_eq!(answer(&app, &["reconcile"]).await, (0, json!([])));
    let said = run(&app, &["reconcile", "--repair", "--strangers"]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    app.work_until_idle().await;
    let kept = app.simulator.customer(&tenant.id).unwrap();
    assert_eq!(json!(kept.id), customer["id"]);
    assert!(deletions(&app).await.is_empty());
}

/// Whom the actions say to be deleted, in their order.
async fn deletions(app: &TestApp) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT coalesce('member/' || (detail->>'member'), target) FROM polar_jobs.operator_actions
          WHERE action = 'reconcile --repair --strangers' ORDER BY id",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap()
}

/// Customers of nobody: shop-1, shop-2 and shop-3. Returns what an action says of each.
async fn three_strangers(app: &TestApp) -> Vec<String> {
    let mut targets = Vec::new();
    for external_id in ["shop-1", "shop-2", "shop-3"] {
        let stranger = team(Some(external_id));
        let customer = app
            .at_polar("POST", "/v1/customers/", Some(&stranger))
            .await;
        targets.push(format!("customer/{}", customer["id"].as_str().unwrap()));
    }
    targets
}

/// Lets the calls about a customer fail with this status until told.
async fn fail(app: &TestApp, customer: &str, status: u16) {
    let failure = json!({"customer": customer, "status": status});
    app.at_polar("POST", "/simulator/fail", Some(&failure))
        .await;
}

/// Ends all failures once a call was answered with this status.
async fn fail_nobody_after(app: &TestApp, status: u16) {
    let begun = Instant::now();
    let requests = || app.simulator.requests();
    while !requests().iter().any(|one| one.status == Some(status)) {
        assert!(begun.elapsed() < DEADLINE, "no call met {status}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    app.simulator.fail_nobody();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_deletion_of_a_customer_is_recorded_before_polar_is_asked_for_it() {
    let app = TestApp::open().await;
    let targets = three_strangers(&app).await;
    app.simulator.fail_customer("shop-2");
    let said = run(&app, &["reconcile", "--repair", "--strangers"]).await;
    assert_eq!(said.code, 1, "{}", said.err);
    let left = ["shop-2", "shop-3"].map(|id| Some(id.to_owned()));
    assert_eq!(customers(&app).await, left);
    // Polar may have deleted one that it answers 500 for.
    let mut recorded = targets[..2].to_vec();
    assert_eq!(deletions(&app).await, recorded);
    app.simulator.fail_nobody();
    let said = run(&app, &["reconcile", "--repair", "--strangers"]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    recorded.extend_from_slice(&targets[1..]);
    assert_eq!(deletions(&app).await, recorded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_killed_within_a_deletion_leaves_a_record_of_it() {
    let app = TestApp::open().await;
    let targets = three_strangers(&app).await;
    let matching = RequestMatch::path("/customers/").method("DELETE");
    let held = app.simulator.hold(matching.on_arrival());
    let mut process = command(&app, &["reconcile", "--repair", "--strangers"])
        .spawn()
        .unwrap();
    assert!(held.wait_for(1, DEADLINE).await);
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(deletions(&app).await, targets[..1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_polar_lets_wait_is_recorded_once() {
    let app = TestApp::open().await;
    let targets = three_strangers(&app).await;
    fail(&app, "shop-2", 429).await;
    let (said, ()) = tokio::join!(
        run(&app, &["reconcile", "--repair", "--strangers"]),
        fail_nobody_after(&app, 429),
    );
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(customers(&app).await.is_empty());
    assert_eq!(deletions(&app).await, targets);
}

/// Two organizations in the order in which they are compared: the first is named otherwise at Polar, the second has
/// two members who are none of ours.
async fn renamed_and_with_strangers(app: &TestApp) -> [Tenant; 2] {
    let mut tenants = [Tenant::new(), Tenant::new()];
    tenants.sort_by(|one, other| one.id.cmp(&other.id));
    for tenant in &tenants {
        app.tell(&[tenant.created()]).await;
    }
    app.work_until_idle().await;
    let [first, second] = &tenants;
    let path = format!("/v1/customers/external/{}", first.id);
    app.at_polar("PATCH", &path, Some(&json!({"name": "Renamed"})))
        .await;
    let path = format!("/v1/customers/external/{}/members", second.id);
    for name in ["sam", "kim"] {
        let member =
            json!({"email": format!("{name}@example.com"), "name": name, "role": "member"});
        app.at_polar("POST", &path, Some(&member)).await;
    }
    app.work_until_idle().await;
    tenants
}

/// Deletes strangers; once one member is deleted, calls about that organization fail.
async fn run_until_a_second_member(app: &TestApp, tenant: &Tenant, status: u16) -> Said {
    let matching = RequestMatch::path("/members/").method("DELETE");
    let held = app.simulator.hold(matching.on_arrival());
    let (said, ()) = tokio::join!(run(app, &["reconcile", "--repair", "--strangers"]), async {
        held.release(1);
        assert!(held.wait_for(2, DEADLINE).await);
        fail(app, &tenant.id, status).await;
        held.release_all();
        fail_nobody_after(app, status).await;
    });
    said
}

const RENAMED: &str = "SELECT count(*) FROM polar_jobs.differences WHERE subject = 'customer'";
const REPAIRS: &str = "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'sync_customer'";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_and_deleted_before_a_failure_is_kept() {
    let app = TestApp::open().await;
    let [_, tenant] = renamed_and_with_strangers(&app).await;
    let said = run_until_a_second_member(&app, &tenant, 500).await;
    assert_eq!(said.code, 1, "{}", said.err);
    assert_eq!(app.simulator.members(&tenant.id).len(), 2);
    let recorded = deletions(&app).await;
    assert_eq!(recorded.len(), 2);
    assert_eq!(app.count(RENAMED).await, 1, "found before the failure");
    assert_eq!(app.count(REPAIRS).await, 1);
    let said = run(&app, &["reconcile", "--repair", "--strangers"]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(app.simulator.members(&tenant.id).len(), 1);
    // Polar gave no clear answer to the second, and is asked again.
    assert_eq!(deletions(&app).await[2..], recorded[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_whose_strangers_wait_for_polar_is_compared_in_the_same_run() {
    let app = TestApp::open().await;
    let [_, tenant] = renamed_and_with_strangers(&app).await;
    let said = run_until_a_second_member(&app, &tenant, 429).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(
        app.simulator.members(&tenant.id).len(),
        1,
        "the owner stays"
    );
    assert_eq!(deletions(&app).await.len(), 2);
    assert_eq!(app.count(RENAMED).await, 1);
    let compared = "SELECT count(*) FROM polar_jobs.comparisons WHERE compared_at IS NOT NULL";
    assert_eq!(app.count(compared).await, 2);
}
