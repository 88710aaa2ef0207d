//! What a role of the application may do, and what its transactions may do to others.

use chrono::{Duration, Utc};
use sqlx::{Connection, PgConnection};

use crate::ledger::Mark;
use crate::script::Script;
use crate::test_app::TestApp;

const CHANGE: &str = r#"SELECT polar_jobs.record_change('organization.deleted', '{"id": "00000000-0000-0000-0000-000000000001"}')"#;

/// A session of a role that has what the documentation tells to grant, and nothing else.
async fn application(app: &TestApp) -> PgConnection {
    let role = format!("application_{}", std::process::id());
    let grants = format!(
        "DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
         GRANT USAGE ON SCHEMA polar_jobs TO {role};
         GRANT EXECUTE ON FUNCTION polar_jobs.record_change, polar_jobs.enqueue TO {role};
         GRANT INSERT (organization_id, quantity, recorded_at, external_id) ON polar_jobs.usage TO {role};
         GRANT SELECT ON polar_jobs.jobs, polar_jobs.external_events, polar_jobs.organizations, polar_jobs.entitlements TO {role}"
    );
    let mut connection = app.connect().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(grants))
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SET ROLE {role}")))
        .execute(&mut connection)
        .await
        .unwrap();
    connection
}

/// The SQLSTATE with which a statement is refused.
async fn refused(connection: &mut PgConnection, statement: &'static str) -> String {
    let error = sqlx::raw_sql(statement)
        .execute(connection)
        .await
        .expect_err(statement);
    let code = error.as_database_error().unwrap().code();
    code.unwrap().into_owned()
}

#[tokio::test]
async fn a_role_of_the_application_records_and_enqueues_and_can_forge_nothing() {
    let app = TestApp::new().await;
    let mut application = application(&app).await;
    for statement in [
        CHANGE,
        r#"SELECT polar_jobs.enqueue('trial', '{"label": "theirs"}', unique_key => 'u', ordering_key => 'o')"#,
        "INSERT INTO polar_jobs.usage (organization_id, quantity) VALUES (gen_random_uuid(), 1)",
        "SELECT state, payload FROM polar_jobs.jobs",
        "SELECT data, outcome, note FROM polar_jobs.external_events",
        "SELECT * FROM polar_jobs.entitlements",
    ] {
        if let Err(error) = sqlx::raw_sql(statement).execute(&mut application).await {
            panic!("{statement}: {error}");
        }
    }
    for statement in [
        "UPDATE polar_jobs.jobs SET run_at = now()",
        "DELETE FROM polar_jobs.live_jobs",
        "INSERT INTO polar_jobs.live_jobs (kind) VALUES ('x')",
        "INSERT INTO polar_jobs.event_ends (event_id, job_id, rank) VALUES (1, 1, 2)",
        "UPDATE polar_jobs.stored_events SET outcome = 'applied'",
        "SELECT polar_jobs.end_jobs(ARRAY[1], 'completed', 'applied', '', NULL)",
        "SELECT polar_jobs.insert_jobs('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
        "SELECT polar_jobs.requeue_jobs_of(1)",
        "INSERT INTO polar_jobs.usage (organization_id, quantity, written_by) VALUES (gen_random_uuid(), 1, 1)",
    ] {
        assert_eq!(
            refused(&mut application, statement).await,
            "42501",
            "{statement}"
        );
    }
    let worker = app.work(4).await;
    app.ledger.reached(Mark::Ended, "theirs", 1).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_role_of_the_application_takes_no_key_that_belongs_to_another_kind() {
    let app = TestApp::new().await;
    app.execute("INSERT INTO polar_jobs.kinds (kind, queue, priority, max_attempts) VALUES ('trial', 'default', 0, 20), ('tick', 'default', 0, 20)")
        .await;
    let mut application = application(&app).await;
    for statement in [
        "SELECT polar_jobs.enqueue('nonsense', unique_key => 'tick')",
        "SELECT polar_jobs.enqueue('trial', unique_key => 'tick/organization/1')",
        "SELECT polar_jobs.enqueue('trial', unique_key => 'mine', ordering_key => 'tick')",
        "SELECT polar_jobs.enqueue('trial', ordering_key => 'tick/organization/1')",
        "SELECT polar_jobs.enqueue('nonsense', unique_key => 'trial', ordering_key => 'trial')",
    ] {
        let error = sqlx::raw_sql(statement)
            .execute(&mut application)
            .await
            .expect_err(statement);
        let error = error
            .into_database_error()
            .unwrap()
            .downcast::<sqlx::postgres::PgDatabaseError>();
        assert_eq!(error.code(), "22023", "{statement}");
        assert!(error.message().contains("belongs to jobs of"), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
    for statement in [
        "SELECT polar_jobs.enqueue('tick', unique_key => 'tick')",
        "SELECT polar_jobs.enqueue('tick', unique_key => 'tick/1', ordering_key => 'tick/1')",
        "SELECT polar_jobs.enqueue('trial', unique_key => 'ticket/1', ordering_key => 'tick2')",
        "SELECT polar_jobs.enqueue('nonsense', unique_key => 'nonsense', ordering_key => '/tick')",
    ] {
        if let Err(error) = sqlx::raw_sql(statement).execute(&mut application).await {
            panic!("{statement}: {error}");
        }
    }
}

#[tokio::test]
async fn an_open_transaction_holds_up_no_end_and_no_other_key() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    let head = app
        .add(Script::hold("head").ordered("key").unique("key").row())
        .await;
    app.ledger.reached(Mark::Started, "head", 1).await;
    let mut application = app.connect().await;
    let mut open = application.begin().await.unwrap();
    let news = Script::note("news").ordered("key").unique("key");
    let theirs = news.enqueue(&mut open).await.unwrap();
    // Our own news about the same key are stored at once, and the head ends.
    let ours = app
        .add(Script::note("ours").ordered("key").unique("key").row())
        .await;
    app.ledger.open("head");
    app.until_state(head, "completed").await;
    app.until_state(ours, "completed").await;
    open.commit().await.unwrap();
    app.until_state(theirs, "completed").await;
    let notes = "SELECT count(*) FROM polar_jobs.key_releases";
    app.until_number(notes, 0).await;
    worker.stop().await;
}

#[tokio::test]
async fn ten_thousand_changes_in_one_transaction_cost_linear_time() {
    let app = TestApp::new().await;
    let mut seconds = Vec::new();
    for many in [2_000, 8_000] {
        let mut connection = app.connect().await;
        let mut open = connection.begin().await.unwrap();
        let begun = std::time::Instant::now();
        // Half of them about one organization.
        let record = format!(
            "SELECT count(polar_jobs.record_change('organization.deleted', jsonb_build_object('id',
                    CASE WHEN n % 2 = 0 THEN gen_random_uuid() ELSE '00000000-0000-0000-0000-000000000001' END)))
               FROM generate_series(1, {many}) n"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(record))
            .execute(&mut *open)
            .await
            .unwrap();
        open.commit().await.unwrap();
        seconds.push(begun.elapsed().as_secs_f64());
    }
    // Four times as many take four times as long; quadratic would be sixteen.
    assert!(seconds[1] < 10.0 * seconds[0], "{seconds:?}");
}

#[tokio::test]
async fn only_four_columns_of_a_waiting_job_can_be_updated() {
    let app = TestApp::new().await;
    let waiting = app
        .add(Script::note("n").row().at(Utc::now() + Duration::hours(1)))
        .await;
    let mut connection = app.connect().await;
    for statement in [
        "UPDATE polar_jobs.jobs SET state = 'completed'",
        "UPDATE polar_jobs.jobs SET attempt = 7",
        "UPDATE polar_jobs.jobs SET ordering_key = 'x', run_at = now()",
    ] {
        assert_eq!(
            refused(&mut connection, statement).await,
            "55000",
            "{statement}"
        );
    }
    assert_eq!(
        refused(
            &mut connection,
            "UPDATE polar_jobs.jobs SET run_at = 'infinity'"
        )
        .await,
        "22023"
    );
    assert_eq!(
        refused(
            &mut connection,
            "SELECT polar_jobs.enqueue('trial', run_at => 'infinity')"
        )
        .await,
        "22023"
    );
    let update = r#"UPDATE polar_jobs.jobs SET run_at = now(), priority = -1, max_attempts = 3, payload = '{"label": "new"}'"#;
    assert_eq!(app.execute(update).await, 1);
    let worker = app.work(1).await;
    app.until_state(waiting, "completed").await;
    assert_eq!(app.ledger.labels(Mark::Started), ["new"]);
    let finished = "UPDATE polar_jobs.jobs SET priority = 3";
    assert_eq!(refused(&mut connection, finished).await, "55000");
    worker.stop().await;
}
