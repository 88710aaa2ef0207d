//! Erasure: after it, nothing in any table tells who the people of an organization were.

use jobs::mail::{MailData, NewMail, Template};
use jobs::mirror::{erasure, mails, members};
use jobs::types::{Email, OrganizationId, Role, UserId};
use jobs::{NewJob, Prune};
use private_postgres::testing::sessions_waiting_for_a_lock;
use serde_json::{Value, json};
use simulator::Product;
use sqlx::Connection;

use crate::command::run;
use crate::test_app::{Tenant, TestApp, user};

/// An organization whose people can be told from all others.
fn created(tenant: &Tenant, name: &str) -> Value {
    json!({"type": "organization.created", "data": {"id": tenant.id, "name": format!("{name} Works"), "slug": format!("{name}-slug"),
        "owner": {"id": tenant.owner, "email": format!("{name}@people.example"), "name": format!("Owner {name}")}}})
}

fn added(tenant: &Tenant, user: &str, name: &str) -> Value {
    json!({"type": "member.added", "data": {"organization_id": tenant.id, "role": "member",
        "user": {"id": user, "email": format!("{name}@people.example"), "name": format!("Member {name}")}}})
}

/// The tables that hold a text anywhere, also inside of bytes.
async fn tables_with(app: &TestApp, needle: &str) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'polar_jobs'::regnamespace
            AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    let mut found = Vec::new();
    for table in tables {
        let there: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "SELECT EXISTS (SELECT FROM polar_jobs.{table} t WHERE strpos(lower(t::text), $1) > 0
                                                             OR strpos(t::text, encode(convert_to($1, 'UTF8'), 'hex')) > 0)"
        )))
        .bind(needle)
        .fetch_one(&app.pool)
        .await
        .unwrap();
        if there {
            found.push(table);
        }
    }
    found
}

/// Everything that may be known of an organization: people, deliveries, a plan, differences.
async fn lived(app: &TestApp, tenant: &Tenant, name: &str, member: (&str, &str)) {
    app.tell(&[created(tenant, name), added(tenant, member.0, member.1)])
        .await;
    app.work_until_idle().await;
    app.tell(&[json!({"type": "user.updated", "data": {"id": tenant.owner, "name": format!("Renamed {name}")}})]).await;
    app.simulator
        .purchase(&tenant.id, Product::Scale)
        .await
        .unwrap();
    app.work_until_idle().await;
    let path = format!("/v1/customers/external/{}", tenant.id);
    app.at_polar(
        "PATCH",
        &path,
        Some(&json!({"name": format!("{name} by hand")})),
    )
    .await;
    let path = format!("{path}/members/{}", tenant.owner);
    app.at_polar(
        "PATCH",
        &path,
        Some(&json!({"name": format!("{name} by hand")})),
    )
    .await;
    app.work_until_idle().await;
    assert_eq!(
        run(app, &["reconcile", "--organization", &tenant.id])
            .await
            .code,
        1
    );
    app.tell(&[tenant.deleted()]).await;
    app.resolve_waits().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_erasure_no_table_tells_who_the_people_were() {
    let app = TestApp::open().await;
    let (gone, living) = (Tenant::new(), Tenant::new());
    let (only_there, everywhere) = (user(), user());
    app.tell(&[created(&living, "lena"), added(&living, &everywhere, "eve")])
        .await;
    lived(&app, &gone, "gustav", (&only_there, "mona")).await;
    app.tell(&[added(&gone, &everywhere, "eve")]).await;
    app.work_until_idle().await;
    assert!(
        tables_with(&app, "gustav")
            .await
            .contains(&"stored_events".to_owned())
    );
    let amounts = "SELECT count(*) FROM polar_jobs.external_events";
    let before = app.count(amounts).await;

    let said = run(
        &app,
        &["--actor", "Ada", "organizations", "erase", &gone.id],
    )
    .await;
    assert_eq!(said.code, 0, "{}", said.err);
    for name in ["gustav", "mona"] {
        assert_eq!(
            tables_with(&app, name).await,
            Vec::<String>::new(),
            "{name}"
        );
    }
    assert_eq!(
        app.count(amounts).await,
        before,
        "what came in stays, without its words"
    );
    let lena: Option<String> =
        sqlx::query_scalar("SELECT email FROM polar_jobs.people WHERE user_id = $1::uuid")
            .bind(&living.owner)
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!(lena.as_deref(), Some("lena@people.example"));
    let recorded = "SELECT count(*) FROM polar_jobs.operator_actions WHERE actor = 'Ada' AND action = 'organizations erase' AND organization_id IS NOT NULL";
    assert_eq!(app.count(recorded).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_of_a_living_organization_stay_there() {
    let app = TestApp::open().await;
    let (gone, living) = (Tenant::new(), Tenant::new());
    let shared = user();
    app.tell(&[
        created(&gone, "gustav"),
        created(&living, "lena"),
        added(&living, &shared, "eve"),
        added(&gone, &shared, "eve"),
    ])
    .await;
    app.work_until_idle().await;
    app.tell(&[gone.deleted()]).await;
    app.resolve_waits().await;
    assert_eq!(
        run(&app, &["organizations", "erase", &gone.id]).await.code,
        0
    );
    let kept: Vec<String> = sqlx::query_scalar(
        "SELECT email FROM polar_jobs.members WHERE organization_id = $1::uuid ORDER BY 1",
    )
    .bind(&living.id)
    .fetch_all(&app.pool)
    .await
    .unwrap();
    assert_eq!(kept, ["eve@people.example", "lena@people.example"]);
    // The change that told her to the living organization is kept whole.
    let told = "SELECT count(*) FROM polar_jobs.external_events WHERE data #>> '{user,email}' = 'eve@people.example'";
    assert_eq!(app.count(told).await, 1);
    assert_eq!(
        run(&app, &["reconcile"]).await.code,
        0,
        "and so she is at Polar"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_or_unknown_organization_is_not_erased() {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    app.tell(&[created(&tenant, "lena")]).await;
    app.work_until_idle().await;
    for id in [tenant.id.clone(), user()] {
        assert_eq!(run(&app, &["organizations", "erase", &id]).await.code, 1);
    }
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.operator_actions")
            .await,
        0
    );
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.people WHERE email IS NOT NULL")
            .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_polar_delivers_about_an_erased_organization_is_stored_without_its_body() {
    let app = TestApp::open().await;
    let (gone, living) = (Tenant::new(), Tenant::new());
    app.tell(&[created(&gone, "gustav"), created(&living, "lena")])
        .await;
    app.work_until_idle().await;
    let customer = app.simulator.customer(&gone.id).unwrap().id;
    app.tell(&[gone.deleted()]).await;
    app.resolve_waits().await;
    assert_eq!(
        run(&app, &["organizations", "erase", &gone.id]).await.code,
        0
    );
    let last: i64 = sqlx::query_scalar("SELECT max(id) FROM polar_jobs.external_events")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    for about in [
        json!({"id": user(), "customer": {"id": customer, "external_id": gone.id, "name": "Owner gustav"}}),
        json!({"id": user(), "customer_id": customer, "name": "Owner gustav"}),
        json!({"id": user(), "customer": {"id": user(), "external_id": living.id}}),
    ] {
        app.deliver("benefit_grant.revoked", &about).await;
    }
    app.work_until_idle().await;
    let later: Vec<(Option<String>, bool)> = sqlx::query_as(
        "SELECT outcome, body IS NULL FROM polar_jobs.external_events WHERE id > $1 AND type = 'benefit_grant.revoked' ORDER BY id",
    )
    .bind(last).fetch_all(&app.pool).await.unwrap();
    let ignored = Some("ignored".to_owned());
    assert_eq!(later[..2], [(ignored.clone(), true), (ignored, true)]);
    assert!(!later[2].1, "the body of a living one is kept");
    assert_eq!(tables_with(&app, "gustav").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daily_prune_erases_what_was_deleted_three_weeks_ago_and_nothing_younger() {
    let app = TestApp::open().await;
    let (old, young) = (Tenant::new(), Tenant::new());
    app.tell(&[created(&old, "gustav"), created(&young, "lena")])
        .await;
    app.work_until_idle().await;
    app.tell(&[old.deleted(), young.deleted()]).await;
    app.resolve_waits().await;
    for (tenant, days) in [(&old, 22), (&young, 20)] {
        sqlx::query("UPDATE polar_jobs.organizations SET deleted_at = now() - make_interval(days => $2) WHERE id = $1::uuid")
            .bind(&tenant.id).bind(days).execute(&app.pool).await.unwrap();
    }
    prune(&app).await;
    assert_eq!(tables_with(&app, "gustav").await, Vec::<String>::new());
    assert!(
        tables_with(&app, "lena")
            .await
            .contains(&"people".to_owned())
    );
}

async fn prune(app: &TestApp) {
    app.enqueue(NewJob::of(&Prune::default())).await;
    app.work_until_idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_belonged_to_an_earlier_life_alone_is_erased_although_the_organization_lives_anew() {
    let app = TestApp::open().await;
    let (tenant, anew, other) = (Tenant::new(), user(), Tenant::new());
    let (hilde, both) = (user(), user());
    let created_by = |owner: &str, name: &str| {
        json!({"type": "organization.created", "data": {"id": tenant.id, "name": "Works", "slug": "works",
            "owner": {"id": owner, "email": format!("{name}@people.example"), "name": format!("Owner {name}")}}})
    };
    app.tell(&[
        created_by(&tenant.owner, "gustav"),
        added(&tenant, &hilde, "hilde"),
        added(&tenant, &both, "bertha"),
        created(&other, "lena"),
        added(&other, &both, "bertha"),
    ])
    .await;
    app.resolve_waits().await;
    app.simulator
        .purchase(&tenant.id, Product::Scale)
        .await
        .unwrap();
    app.resolve_waits().await;
    app.tell(&[tenant.deleted()]).await;
    app.resolve_waits().await;
    app.tell(&[created_by(&anew, "greta")]).await;
    app.resolve_waits().await;
    // Who left the present life is as anybody who leaves.
    let left = user();
    app.tell(&[added(&tenant, &left, "ludwig")]).await;
    app.resolve_waits().await;
    prune(&app).await;
    assert!(!tables_with(&app, "hilde").await.is_empty(), "not yet");
    for moved in [
        "UPDATE polar_jobs.organization_deletions SET deleted_at = deleted_at - interval '44 days', recreated_at = recreated_at - interval '44 days'",
        "UPDATE polar_jobs.organizations SET created_at = created_at - interval '44 days'",
        "UPDATE polar_jobs.memberships SET removed_at = removed_at - interval '44 days'",
        "UPDATE polar_jobs.polar_customers SET seen_at = seen_at - interval '44 days'",
    ] {
        sqlx::query(moved).execute(&app.pool).await.unwrap();
    }
    app.tell(&[tenant.removed(&left)]).await;
    app.resolve_waits().await;
    sqlx::query("UPDATE polar_jobs.memberships SET removed_at = removed_at - interval '22 days' WHERE user_id = $1::uuid")
        .bind(&left)
        .execute(&app.pool)
        .await
        .unwrap();
    prune(&app).await;
    let forgotten = "SELECT count(*) FROM polar_jobs.erased_subjects s JOIN polar_jobs.polar_customers c ON c.polar_customer_id = s.id
                      WHERE NOT EXISTS (SELECT FROM polar_jobs.organizations o WHERE o.polar_customer_id = s.id)";
    let all = "SELECT count(*) FROM polar_jobs.erased_subjects";
    assert_eq!((app.count(forgotten).await, app.count(all).await), (1, 1));
    for gone in ["gustav", "hilde"] {
        assert_eq!(tables_with(&app, gone).await, Vec::<String>::new());
    }
    for (stays, email) in [
        (&left, "ludwig@people.example"),
        (&anew, "greta@people.example"),
        (&both, "bertha@people.example"),
    ] {
        let found: Option<String> =
            sqlx::query_scalar("SELECT email FROM polar_jobs.people WHERE user_id = $1::uuid")
                .bind(stays)
                .fetch_one(&app.pool)
                .await
                .unwrap();
        assert_eq!(found.as_deref(), Some(email));
    }
    assert_eq!(run(&app, &["reconcile"]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_starts_anew_after_its_erasure_is_as_any_other() {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    app.tell(&[created(&tenant, "gustav")]).await;
    app.work_until_idle().await;
    app.tell(&[tenant.deleted()]).await;
    app.resolve_waits().await;
    assert_eq!(
        run(&app, &["organizations", "erase", &tenant.id])
            .await
            .code,
        0
    );
    app.tell(&[created(&tenant, "greta")]).await;
    app.resolve_waits().await;
    app.simulator
        .purchase(&tenant.id, Product::Scale)
        .await
        .unwrap();
    app.work_until_idle().await;
    assert_eq!(
        app.simulator.members(&tenant.id)[0].email,
        "greta@people.example"
    );
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.entitlements WHERE support_tier = 'scale'")
            .await,
        1
    );
    let bodies = "SELECT count(*) FROM polar_jobs.external_events WHERE type = 'subscription.created' AND body IS NOT NULL";
    assert_eq!(app.count(bodies).await, 1);
    assert_eq!(run(&app, &["reconcile"]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_joins_elsewhere_during_the_erasure_keeps_the_address() {
    let app = TestApp::open().await;
    let (gone, living) = (Tenant::new(), Tenant::new());
    app.tell(&[created(&gone, "gustav"), created(&living, "lena")])
        .await;
    app.work_until_idle().await;
    app.tell(&[gone.deleted()]).await;
    app.resolve_waits().await;
    let id = |text: &str| text.parse::<uuid::Uuid>().unwrap();
    let (person, event) = (UserId(id(&gone.owner)), 1_000_000);
    let email = Email::parse("gustav@people.example").unwrap();

    let mut joining = app.pool.acquire().await.unwrap();
    let mut transaction = joining.begin().await.unwrap();
    members::upsert_person(
        &mut transaction,
        person,
        Some(&email),
        Some("Gustav"),
        event,
    )
    .await
    .unwrap();
    let (pool, organization) = (app.pool.clone(), OrganizationId(id(&gone.id)));
    let erasing = tokio::spawn(async move {
        let mut transaction = pool.begin().await.unwrap();
        erasure::erase(&mut transaction, organization)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    });
    app.until("the erasure waits for the person's row", async || {
        sessions_waiting_for_a_lock(&app.pool).await > 0
    })
    .await;
    members::upsert_membership(
        &mut transaction,
        OrganizationId(id(&living.id)),
        person,
        Role::Member,
        event,
    )
    .await
    .unwrap();
    transaction.commit().await.unwrap();
    erasing.await.unwrap();
    let kept: Option<String> =
        sqlx::query_scalar("SELECT email FROM polar_jobs.people WHERE user_id = $1")
            .bind(person.0)
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!(kept.as_deref(), Some("gustav@people.example"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_an_erased_person_later_is_erased_by_the_next_prune() {
    let app = TestApp::open().await;
    let (gone, living) = (Tenant::new(), Tenant::new());
    let (removed, everywhere) = (user(), user());
    app.tell(&[
        created(&gone, "gustav"),
        added(&gone, &removed, "mona"),
        gone.removed(&removed),
        created(&living, "lena"),
        added(&living, &everywhere, "eve"),
        added(&gone, &everywhere, "eve"),
    ])
    .await;
    app.work_until_idle().await;
    app.tell(&[gone.deleted()]).await;
    app.resolve_waits().await;
    assert_eq!(
        run(&app, &["organizations", "erase", &gone.id]).await.code,
        0
    );
    sqlx::query(
        "UPDATE polar_jobs.organizations SET deleted_at = now() - interval '25 days', erased_at = now() - interval '4 days'
          WHERE erased_at IS NOT NULL",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    // The application still knows them.
    let told = [(&gone.owner, "gustav"), (&removed, "mona"), (&everywhere, "eve")].map(|(id, name)| {
        json!({"type": "user.updated", "data": {"id": id, "email": format!("{name}@new.example"), "name": format!("New {name}")}})
    });
    app.tell(&told).await;
    app.work_until_idle().await;
    prune(&app).await;
    for name in ["gustav", "mona"] {
        assert_eq!(
            tables_with(&app, name).await,
            Vec::<String>::new(),
            "{name}"
        );
    }
    assert_eq!(
        app.member(&living, &everywhere).unwrap().email,
        "eve@new.example",
        "who belongs to a living organization stays"
    );
    assert!(
        tables_with(&app, "eve@new.example")
            .await
            .contains(&"people".to_owned())
    );
}

/// One who belongs to both organizations until one of them, which lives on, is left.
async fn leaves_the_living(app: &TestApp, gone: &Tenant, living: &Tenant, person: &str) {
    app.tell(&[
        created(gone, "gustav"),
        created(living, "lena"),
        added(gone, person, "petra"),
        added(living, person, "petra"),
    ])
    .await;
    app.work_until_idle().await;
    app.tell(&[living.removed(person)]).await;
    app.work_until_idle().await;
}

/// A mail of the organization that waits to be sent.
async fn mail_to(app: &TestApp, tenant: &Tenant, name: &str) {
    let mail = NewMail {
        template: Template::SubscriptionCycled,
        recipients: vec![format!("{name}@People.example")],
        organization: Some(OrganizationId(tenant.id.parse().unwrap())),
        order: Some(uuid::Uuid::new_v4()),
        subscription: None,
        occasion: "paid".to_owned(),
        data: MailData {
            organization: "Works".to_owned(),
            ..MailData::default()
        },
    };
    let mut connection = app.pool.acquire().await.unwrap();
    mails::request(&mut connection, &mail).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_organization_keeps_nothing_of_who_left_it_and_is_erased_with_another() {
    let app = TestApp::open().await;
    let (gone, living, person) = (Tenant::new(), Tenant::new(), user());
    leaves_the_living(&app, &gone, &living, &person).await;
    // She is put back at Polar by hand, which differs, and what differs is repaired.
    let path = format!("/v1/customers/external/{}/members", living.id);
    let by_hand = json!({"email": "petra@people.example", "name": "Member petra", "role": "member", "external_id": person});
    for _ in 0..2 {
        app.at_polar("POST", &path, Some(&by_hand)).await;
        assert_eq!(run(&app, &["reconcile", "--repair"]).await.code, 0);
        app.work_until_idle().await;
    }
    for name in ["petra", "lena"] {
        mail_to(&app, &living, name).await;
    }
    assert!(
        tables_with(&app, "petra")
            .await
            .contains(&"differences".to_owned())
    );
    app.at_polar("POST", &path, Some(&by_hand)).await;
    app.tell(&[gone.deleted()]).await;
    app.resolve_waits().await;
    assert_eq!(
        run(&app, &["organizations", "erase", &gone.id]).await.code,
        0
    );
    // What differs still is told without her name.
    assert_eq!(run(&app, &["reconcile"]).await.code, 1);
    let open = "SELECT count(*) FROM polar_jobs.differences WHERE repaired_at IS NULL AND subject LIKE 'member/%'";
    assert_eq!(app.count(open).await, 1);
    for table in ["people", "differences", "mails"] {
        assert!(
            !tables_with(&app, "petra").await.contains(&table.to_owned()),
            "{table}"
        );
    }
    let kept: Vec<(Option<String>, String)> =
        sqlx::query_as("SELECT recipient, state FROM polar_jobs.mails ORDER BY 1")
            .fetch_all(&app.pool)
            .await
            .unwrap();
    let waiting = (Some("lena@People.example".to_owned()), "waiting".to_owned());
    assert_eq!(kept, [waiting, (None, "skipped".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_the_last_living_organization_long_after_another_was_erased_is_erased_too() {
    let app = TestApp::open().await;
    let (gone, living, person) = (Tenant::new(), Tenant::new(), user());
    app.tell(&[
        created(&gone, "gustav"),
        created(&living, "lena"),
        added(&gone, &person, "petra"),
        added(&living, &person, "petra"),
    ])
    .await;
    app.work_until_idle().await;
    app.tell(&[gone.deleted()]).await;
    app.resolve_waits().await;
    assert_eq!(
        run(&app, &["organizations", "erase", &gone.id]).await.code,
        0
    );
    // So long ago that the change which named her is stored no more.
    for moved in [
        "UPDATE polar_jobs.organizations SET deleted_at = now() - interval '100 days', erased_at = now() - interval '100 days'
          WHERE erased_at IS NOT NULL",
        "UPDATE polar_jobs.people SET changed_event = 0",
    ] {
        sqlx::query(moved).execute(&app.pool).await.unwrap();
    }
    app.tell(&[living.removed(&person)]).await;
    app.work_until_idle().await;
    prune(&app).await;
    assert!(
        !tables_with(&app, "petra")
            .await
            .contains(&"people".to_owned())
    );
    assert!(
        tables_with(&app, "lena")
            .await
            .contains(&"people".to_owned()),
        "who belongs to the living one stays"
    );
}
