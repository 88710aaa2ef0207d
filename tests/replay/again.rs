//! For real.

use simulator::{Faults, Product};

use crate::commands::renamed;
use crate::test_app::{Tenant, TestApp, user};

#[tokio::test(flavor = "multi_thread")]
async fn an_old_change_never_turns_back_time() {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    app.tell(&[
        tenant.created(),
        renamed(&tenant, "Middle"),
        tenant.added(&ada, "ada@example.com", "member"),
        renamed(&tenant, "Newest"),
        tenant.removed(&ada),
    ])
    .await;
    app.resolve_waits().await;
    let said = app
        .command(&["events", "replay", "--organization", &tenant.id, "--yes"])
        .await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    app.resolve_waits().await;
    assert_eq!(app.name(&tenant).await, "Newest");
    assert_eq!(app.member(&tenant, &ada), None);
    let customer = app.simulator.customer(&tenant.id).unwrap();
    assert_eq!(customer.name.as_deref(), Some("Newest"));
    for event in app.events("organization.updated").await {
        assert_eq!(
            app.outcome(&event).await.as_deref(),
            Some("applied"),
            "what was applied stays so"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_failed_is_handled_when_it_is_replayed() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    app.simulator.set_faults(Faults {
        error_before: 1.0,
        ..Faults::default()
    });
    let customer = app.simulator.customer(&tenant.id).unwrap().id;
    let grant = serde_json::json!({"id": user(), "customer_id": customer,
        "customer": {"id": customer, "external_id": tenant.id}, "benefit": {"metadata": {"type": "support"}}});
    app.deliver("benefit_grant.created", &grant).await;
    sqlx::query("UPDATE polar_jobs.live_jobs SET max_attempts = 1 WHERE worker IS NULL")
        .execute(&app.pool)
        .await
        .unwrap();
    app.drain().await;
    app.simulator.set_faults(Faults::default());
    let event = app.events("benefit_grant.created").await.pop().unwrap();
    assert_eq!(app.outcome(&event).await.as_deref(), Some("failed"));
    assert_eq!(
        app.command(&["events", "replay", &event]).await.code,
        Some(0)
    );
    assert_eq!(app.outcome(&event).await, None, "it waits again");
    app.resolve_waits().await;
    assert_eq!(app.outcome(&event).await.as_deref(), Some("applied"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_asks_first_and_means_what_its_filters_say() {
    let (app, one, other) = (TestApp::open().await, Tenant::new(), Tenant::new());
    app.tell(&[one.created(), other.created(), renamed(&one, "One")])
        .await;
    app.simulator
        .deliveries_finished(crate::test_app::DEADLINE)
        .await;
    app.resolve_waits().await;
    app.simulator.purchase(&one.id, Product::Pro).await.unwrap();
    app.resolve_waits().await;
    let jobs = async || app.count("SELECT count(*) FROM polar_jobs.jobs").await;
    let before = jobs().await;
    let asked = app
        .command(&["events", "replay", "--type", "organization.created"])
        .await;
    assert_eq!(asked.code, Some(2));
    assert!(
        asked.err.contains("would run 2 events again; add --yes"),
        "{}",
        asked.err
    );
    let everything = app.command(&["events", "replay", "--yes"]).await;
    assert_eq!(everything.code, Some(2), "a filter is needed");
    let nothing = app
        .command(&[
            "events",
            "replay",
            "--until",
            "2020-01-01T00:00:00Z",
            "--yes",
        ])
        .await;
    assert_eq!(
        (nothing.code, nothing.out.trim()),
        (Some(0), "0 events replayed")
    );
    assert_eq!(jobs().await, before);
    let arguments = [
        "--actor",
        "olga",
        "events",
        "replay",
        "--type",
        "organization.created",
        "--organization",
        &one.id,
        "--since",
        "2020-01-01T00:00:00Z",
        "--yes",
    ];
    let said = app.command(&arguments).await;
    assert_eq!(
        (said.code, said.out.trim()),
        (Some(0), "1 event replayed"),
        "{}",
        said.err
    );
    assert_eq!(jobs().await, before + 1);
    let event = &app.events("organization.created").await[0];
    let written: (String, String, String) =
        sqlx::query_as("SELECT actor, action, target FROM polar_jobs.operator_actions")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    let expected = (
        "olga".to_owned(),
        "events replay".to_owned(),
        format!("event/{event}"),
    );
    assert_eq!(written, expected);
    assert_eq!(
        app.command(&["events", "replay", "9999999"]).await.code,
        Some(1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_a_replay_is_under_way_is_no_part_of_it() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    // Each batch that is run again meets a change that has just come.
    sqlx::raw_sql(
        "CREATE FUNCTION public.change_meanwhile() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM polar_jobs.record_change('organization.updated', jsonb_build_object('id', gen_random_uuid(), 'name', 'x'));
             RETURN NULL; END $$;
         CREATE TRIGGER change_meanwhile AFTER INSERT ON polar_jobs.operator_actions FOR EACH ROW EXECUTE FUNCTION public.change_meanwhile();",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    let replay = app.command(&["events", "replay", "--since", "1d", "--yes"]);
    let said = tokio::time::timeout(crate::test_app::DEADLINE, replay)
        .await
        .expect("a replay that ends");
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(app.events("organization.updated").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_read_what_became_of_each_event_as_json() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.deliver("product.created", &serde_json::json!({"id": user()}))
        .await;
    app.resolve_waits().await;
    let created = &app.events("organization.created").await[0];
    let product = &app.events("product.created").await[0];
    let replay = async |arguments: &[&str]| {
        let arguments = [&["events", "replay", "--format", "json"], arguments].concat();
        let said = app.command(&arguments).await;
        let read: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        (said.code, read)
    };
    let (created, product): (i64, i64) = (created.parse().unwrap(), product.parse().unwrap());
    let mut both = [
        serde_json::json!({"event": created, "replayed": true, "reason": null}),
        serde_json::json!({"event": product, "replayed": false, "reason": "an event product.created starts nothing"}),
    ];
    both.sort_by_key(|row| row["event"].as_i64());
    let (created, product) = (created.to_string(), product.to_string());
    assert_eq!(
        replay(&[&created, &product]).await,
        (Some(1), serde_json::json!(both))
    );
    assert_eq!(
        replay(&["--until", "2020-01-01"]).await,
        (Some(0), serde_json::json!([]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_starts_nothing_or_was_erased_is_named_and_left_alone() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.deliver("product.created", &serde_json::json!({"id": user()}))
        .await;
    app.resolve_waits().await;
    sqlx::query(
        "UPDATE polar_jobs.stored_events SET change = NULL WHERE type = 'organization.created'",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    app.deliver("product.created", &serde_json::json!({"id": user()}))
        .await;
    let range = ["events", "replay", "--type", "product.created", "--yes"];
    let said = app.command(&range).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    let first = &app.events("product.created").await[0];
    let together = format!(
        "2 events, of which {first} is the first: not replayed, an event product.created starts nothing\n0 events replayed\n"
    );
    assert_eq!(said.out, together);
    for (event_type, reason) in [
        ("product.created", "starts nothing"),
        ("organization.created", "its content was erased"),
    ] {
        let event = &app.events(event_type).await[0];
        let said = app.command(&["events", "replay", event]).await;
        assert_eq!(said.code, Some(1));
        assert!(said.out.contains(reason), "{}", said.out);
    }
}
