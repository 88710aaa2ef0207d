//! `backfill`: a file is taken whole or not at all, once however often it is run or killed, behind live traffic.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use private_postgres::testing::sessions_waiting_for_a_lock;
use serde_json::{Value, json};
use sqlx::{Postgres, Transaction};
use tempfile::TempDir;
use uuid::Uuid;

use crate::command::{command, run};
use crate::test_app::{Tenant, TestApp, user};

/// A file of so many organizations with four members beside the owner, and their ids.
struct Crowd {
    _directory: TempDir,
    path: PathBuf,
    organizations: Vec<String>,
}

impl Crowd {
    fn of(size: usize) -> Self {
        let (mut lines, mut organizations) = (String::new(), Vec::new());
        for number in 0..size {
            let tenant = Tenant::new();
            let created = json!({"type": "organization.created", "data": {"id": tenant.id, "name": format!("Org {number}"),
                "slug": format!("org-{number}"), "owner": {"id": tenant.owner, "email": format!("owner{number}@example.com")}}});
            writeln!(lines, "{created}").unwrap();
            for member in 1..5 {
                let added = json!({"type": "member.added", "data": {"organization_id": tenant.id, "role": "member",
                    "user": {"id": user(), "email": format!("member{member}of{number}@example.com")}}});
                writeln!(lines, "{added}").unwrap();
            }
            organizations.push(tenant.id);
        }
        Self::written(&lines, organizations)
    }

    fn written(lines: &str, organizations: Vec<String>) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("changes.ndjson");
        std::fs::write(&path, lines).unwrap();
        Self {
            _directory: directory,
            path,
            organizations,
        }
    }

    fn arguments(&self) -> [&str; 3] {
        ["backfill", "--from", self.path.to_str().unwrap()]
    }

    fn is_complete_at(&self, app: &TestApp) -> bool {
        self.organizations
            .iter()
            .all(|id| app.simulator.members(id).len() == 5)
    }
}

const RUNS: &str = "SELECT count(*) FROM polar_jobs.backfills";
const STORED: &str = "SELECT count(*) FROM polar_jobs.stored_events WHERE source = 'app'";

/// The calls that Polar saw, each once, and those that came again.
fn calls(app: &TestApp) -> (HashSet<String>, Vec<String>) {
    let (mut calls, mut again) = (HashSet::new(), Vec::new());
    for one in app.simulator.requests() {
        let call = format!("{} {}?{} {}", one.method, one.path, one.query, one.body);
        if !calls.insert(call.clone()) {
            again.push(call);
        }
    }
    (calls, again)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_organization_of_a_file_is_at_polar_with_its_members() {
    let app = TestApp::open().await;
    let crowd = Crowd::of(10);
    let said = run(&app, &crowd.arguments()).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.out.contains("50 changes stored") && said.out.contains("no worker runs"),
        "{}",
        said.out
    );
    let behind = "SELECT count(*) FROM polar_jobs.live_jobs WHERE priority < 30";
    assert_eq!(app.count(behind).await, 0, "live traffic goes first");
    app.work_until_idle().await;
    assert!(crowd.is_complete_at(&app));
    let hurried = "SELECT count(*) FROM polar_jobs.finished_jobs WHERE kind IN ('sync_customer', 'sync_member') AND priority < 30";
    assert_eq!(app.count(hurried).await, 0, "what follows stays behind too");
    // 10 calls for an organization of five: look and make, for the customer with its owner and four members.
    let (calls, repeated) = calls(&app);
    let made = calls
        .iter()
        .filter(|call| call.starts_with("POST "))
        .count();
    assert_eq!((calls.len(), made), (100, 50));
    // A member's job that was claimed just before its customer was there is asked for again, and looks again.
    let looks = repeated
        .iter()
        .all(|call| call.starts_with("GET ") && call.contains("/members/"));
    assert!(looks && repeated.len() <= 40, "{repeated:#?}");
    let calls = app.simulator.requests().len();

    let again = run(&app, &crowd.arguments()).await;
    assert!(
        again
            .out
            .contains("0 changes stored, 50 were stored before"),
        "{}",
        again.out
    );
    app.work_until_idle().await;
    assert_eq!(
        app.simulator.requests().len(),
        calls,
        "a second run repeats nothing"
    );
    let actions = "SELECT count(*) FROM polar_jobs.operator_actions WHERE action = 'backfill'";
    assert_eq!(app.count(actions).await, 1);
}

/// The application renames an organization in a transaction of its own.
async fn rename(open: &mut Transaction<'static, Postgres>, tenant: &Tenant) {
    sqlx::query("SELECT polar_jobs.record_change('organization.updated', jsonb_build_object('id', $1, 'name', 'Later'))")
        .bind(&tenant.id)
        .execute(&mut **open)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_gives_way_to_a_transaction_of_the_application_that_needs_what_it_holds() {
    let app = TestApp::open().await;
    let (first, second) = (Tenant::new(), Tenant::new());
    // A file takes its organizations in this order.
    let [first, second] = match first.id < second.id {
        true => [first, second],
        false => [second, first],
    };
    let lines = format!("{}\n{}\n", first.created(), second.created());
    let file = Crowd::written(&lines, Vec::new());
    let mut open = app.pool.begin().await.unwrap();
    rename(&mut open, &second).await;
    let application = async {
        app.until("the file waits for the application", async || {
            sessions_waiting_for_a_lock(&app.pool).await == 1
        })
        .await;
        rename(&mut open, &first).await;
        open.commit().await.unwrap();
    };
    let arguments = file.arguments();
    let (said, ()) = tokio::join!(run(&app, &arguments), application);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("2 changes stored"), "{}", said.out);
    assert!(
        said.err
            .contains("a transaction that is still open changes organization"),
        "{}",
        said.err
    );
    assert_eq!(app.count(STORED).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_faults_is_listed_with_its_lines_and_nothing_is_written() {
    let app = TestApp::open().await;
    let good = Tenant::new().created();
    let lines = format!(
        "{good}\nnonsense\n\n{}\n{good}\n",
        json!({"type": "member.added", "data": {"role": "member"}})
    );
    let crowd = Crowd::written(&lines, Vec::new());
    let said = run(&app, &crowd.arguments()).await;
    assert_eq!(said.code, 1);
    assert!(said.out.contains("line 2: is not JSON"), "{}", said.out);
    assert!(
        said.out.contains("line 4: /data/organization_id"),
        "{}",
        said.out
    );
    assert!(
        !said.out.contains("line 1:") && said.err.contains("nothing is written"),
        "{}",
        said.err
    );
    assert_eq!(app.count(STORED).await, 0);
    let missing = run(&app, &["backfill", "--from", "/nowhere/at/all"]).await;
    assert_eq!(missing.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_it_would_take_and_writes_nothing() {
    let app = TestApp::open().await;
    let crowd = Crowd::of(100);
    let [backfill, from, path] = crowd.arguments();
    let mut command = command(&app, &[backfill, from, path, "--dry-run"]);
    command.env("POLAR_RATE_LIMIT", "400");
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let words: Vec<&str> = said.split_whitespace().collect();
    let number_of =
        |what: &str| words[words.iter().position(|word| *word == what).unwrap() - 1].to_owned();
    assert_eq!(
        (
            number_of("changes"),
            number_of("organizations"),
            number_of("members")
        ),
        ("500".into(), "100".into(), "400".into())
    );
    // 1000 calls at 360 a minute.
    assert_eq!(
        (number_of("calls"), number_of("minutes")),
        ("1000".into(), "3".into())
    );
    assert_eq!(app.count(STORED).await, 0);
    assert!(app.simulator.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_it_ends_in_the_same_state() {
    let app = TestApp::open().await;
    let crowd = Crowd::of(400);
    let all = 2000;
    for part in 1..=3 {
        // Killed while it stores: between two transactions or in one.
        let mut child = command(&app, &crowd.arguments())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        app.until("some more is stored", async || {
            app.count(STORED).await >= part * 500
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let said = run(&app, &crowd.arguments()).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(app.count(STORED).await, all, "no change is stored twice");
    let jobs = "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'apply_change'";
    assert_eq!(app.count(jobs).await, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_organization_we_know_is_synced_and_a_stopped_run_goes_on() {
    let app = TestApp::open().await;
    let tenants: Vec<Tenant> = (0..3).map(|_| Tenant::new()).collect();
    let changes: Vec<Value> = tenants.iter().map(Tenant::created).collect();
    app.tell(&changes).await;
    app.work_until_idle().await;
    app.simulator.set_webhook_url(None);
    let mut ids: Vec<Uuid> = tenants
        .iter()
        .map(|tenant| tenant.id.parse().unwrap())
        .collect();
    ids.sort_unstable();
    for id in &ids {
        app.at_polar(
            "PATCH",
            &format!("/v1/customers/external/{id}"),
            Some(&json!({"name": "Renamed"})),
        )
        .await;
    }
    // A run that wrote the jobs of the first organization and was killed.
    sqlx::query(
        "INSERT INTO polar_jobs.backfills (actor, position, organizations) VALUES ('Ada', $1, 1)",
    )
    .bind(ids[0])
    .execute(&app.pool)
    .await
    .unwrap();
    assert_eq!(run(&app, &["backfill"]).await.code, 0);
    app.work_until_idle().await;
    let names = |app: &TestApp| -> Vec<String> {
        ids.iter()
            .map(|id| {
                app.simulator
                    .customer(&id.to_string())
                    .unwrap()
                    .name
                    .unwrap()
            })
            .collect()
    };
    assert_eq!(names(&app), ["Renamed", "Acme", "Acme"]);
    assert_eq!(
        run(&app, &["backfill"]).await.code,
        0,
        "the next one begins anew"
    );
    app.work_until_idle().await;
    assert_eq!(names(&app), ["Acme", "Acme", "Acme"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_watches_a_worker_and_lists_what_polar_refuses_with_the_fix() {
    let app = TestApp::open().await;
    let (tenant, first, second) = (Tenant::new(), user(), user());
    let lines: String = [
        tenant.created(),
        tenant.added(&first, "same@example.com", "member"),
        tenant.added(&second, "same@example.com", "member"),
    ]
    .iter()
    .map(|change| format!("{change}\n"))
    .collect();
    let crowd = Crowd::written(&lines, vec![tenant.id.clone()]);
    let worker = app.work();
    app.until("the worker lives", async || {
        app.count("SELECT count(*) FROM polar_jobs.workers WHERE leased_until > now()")
            .await
            > 0
    })
    .await;
    let said = run(&app, &crowd.arguments()).await;
    worker.stop().await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("1 clash:"), "{}", said.out);
    assert!(
        said.out.contains("another address in the application"),
        "{}",
        said.out
    );
    assert_eq!(app.simulator.members(&tenant.id).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_readings_that_were_stored_before_as_well() {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    let mut created = tenant.created();
    created["id"] = "signup".into();
    let used = json!({"id": "used", "type": "usage.recorded",
        "data": {"organization_id": tenant.id, "quantity": 7}});
    let spent = json!({"id": "spent", "type": "cost.recorded",
        "data": {"organization_id": tenant.id, "source": "compass_assistant", "cost_usd": "0.01"}});
    let file = Crowd::written(&format!("{created}\n{used}\n{spent}\n"), vec![tenant.id]);
    let dry = [&file.arguments()[..], &["--dry-run"]].concat();
    let before = run(&app, &dry).await.out;
    assert!(before.contains("0 changes stored before"), "{before}");
    assert_eq!(run(&app, &file.arguments()).await.code, 0);
    let after = run(&app, &dry).await.out;
    assert!(after.contains("3 changes stored before"), "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_the_calls_for_what_polar_has_already() {
    let app = TestApp::open().await;
    let (one, other, third, member) = (Tenant::new(), Tenant::new(), Tenant::new(), user());
    for tenant in [&one, &other, &third] {
        app.tell(&[tenant.created()]).await;
    }
    for tenant in [&one, &other] {
        app.tell(&[tenant.added(&member, "ada@example.com", "member")])
            .await;
    }
    app.resolve_waits().await;
    // What Polar delivers about it would be asked for, too.
    app.simulator.set_webhook_url(None);
    let renamed = json!({"type": "user.updated", "data": {"id": member, "name": "Ada Renamed"}});
    let moved = json!({"type": "organization.updated", "data": {"id": third.id, "name": "Moved"}});
    let file = Crowd::written(&format!("{renamed}\n{moved}\n"), Vec::new());
    let dry = [&file.arguments()[..], &["--dry-run"]].concat();
    let said = run(&app, &dry).await.out;
    // Two members to look at and to change; a customer, its owner, and its change.
    assert!(said.contains(" 7 calls to Polar, about"), "{said}");

    let before = app.simulator.requests().len();
    assert_eq!(run(&app, &file.arguments()).await.code, 0);
    app.work_until_idle().await;
    let made = app.simulator.requests().split_off(before);
    assert_eq!(made.len(), 7, "{made:#?}");
}

/// The run that is open is finished now, as a run beside this one would.
const FINISH: &str =
    "UPDATE polar_jobs.backfills SET finished_at = now() WHERE finished_at IS NULL";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_another_finishes_while_it_is_waited_for_is_finished() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    sqlx::query("INSERT INTO polar_jobs.backfills (actor) VALUES ('Ada')")
        .execute(&app.pool)
        .await
        .unwrap();
    let mut other = app.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM polar_jobs.backfills WHERE finished_at IS NULL FOR UPDATE")
        .execute(&mut *other)
        .await
        .unwrap();
    let beside = async {
        app.until("the run waits for the other", async || {
            sessions_waiting_for_a_lock(&app.pool).await == 1
        })
        .await;
        sqlx::query(FINISH).execute(&mut *other).await.unwrap();
        other.commit().await.unwrap();
    };
    let (said, ()) = tokio::join!(run(&app, &["backfill"]), beside);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("finished by another"), "{}", said.out);
    assert_eq!(app.count(RUNS).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_another_finishes_between_two_pages_is_not_begun_anew() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    // The first page stops before its action, and so before it is committed; then the run is ours.
    let mut before = app.pool.begin().await.unwrap();
    let mut after = app.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE polar_jobs.operator_actions IN EXCLUSIVE MODE")
        .execute(&mut *before)
        .await
        .unwrap();
    let beside = async {
        app.until("the first page waits", async || {
            sessions_waiting_for_a_lock(&app.pool).await == 1
        })
        .await;
        let finish = async {
            sqlx::query("LOCK TABLE polar_jobs.backfills IN ACCESS EXCLUSIVE MODE")
                .execute(&mut *after)
                .await
                .unwrap();
            sqlx::query(FINISH).execute(&mut *after).await.unwrap();
            after.commit().await.unwrap();
        };
        let go_on = async {
            app.until("the other run comes next", async || {
                sessions_waiting_for_a_lock(&app.pool).await == 2
            })
            .await;
            before.rollback().await.unwrap();
        };
        tokio::join!(finish, go_on);
    };
    let (said, ()) = tokio::join!(run(&app, &["backfill"]), beside);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(app.count(RUNS).await, 1, "{}", said.out);
}
