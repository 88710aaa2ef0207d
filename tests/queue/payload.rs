//! A payload is kept as text, and shown as what it says.

use serde_json::json;

use crate::script::Script;
use crate::test_app::TestApp;
use polar_jobs::queue::enqueue;

/// Whatever JSON text escapes: control characters, quotes, and a backslash before what would be an escape.
const ESCAPED: &str = "\u{1}\u{1f} \\u0000 \\ud800 \" / é 𝄞";

#[tokio::test]
async fn a_payload_that_the_table_could_not_show_is_refused_whichever_way_it_comes() {
    let app = TestApp::new().await;
    let nul = || Script::note("a \0 in it");
    let rows = [
        vec![nul().row()],
        vec![nul().row(), Script::note("good").row()],
        vec![nul().unique("u").row()],
        vec![nul().ordered("o").row(), Script::note("good").row()],
        vec![nul().unique("u").row(), nul().unique("u").row()],
    ];
    let mut connection = app.connect().await;
    for jobs in rows {
        let stored = match &jobs[..] {
            [one] => enqueue::insert(&mut connection, one).await,
            many => enqueue::insert_all(&mut connection, many).await.map(drop),
        };
        let refused = stored.unwrap_err();
        let code = refused.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("22P05"), "{jobs:?}: {refused}");
    }
    for by_hand in [
        r#"INSERT INTO polar_jobs.live_jobs (kind, payload) VALUES ('trial', '{"label": "\u0000"}')"#,
        r#"INSERT INTO polar_jobs.live_jobs (kind, payload) VALUES ('trial', '{"label": "\ud800"}')"#,
    ] {
        let refused = sqlx::query(by_hand).execute(&mut connection).await;
        assert!(refused.is_err(), "{by_hand}");
    }
    assert_eq!(app.number("SELECT count(*) FROM polar_jobs.jobs").await, 0);
}

#[tokio::test]
async fn a_payload_is_shown_as_it_came_waiting_merged_and_finished() {
    let app = TestApp::new().await;
    let keyless = app.add(Script::note(ESCAPED).row()).await;
    let batch = [Script::note(ESCAPED).row(), Script::note("other").row()];
    let batched = app.add_all(&batch).await[0].unwrap();
    let keyed = app.add(Script::note("former").unique("u").row()).await;
    assert_eq!(
        app.offer(Script::note(ESCAPED).unique("u").row()).await,
        None
    );
    let ids = [keyless, batched, keyed];
    for id in ids {
        assert_eq!(app.job(id).await.payload["label"], json!(ESCAPED));
    }
    let worker = app.work(4).await;
    for id in ids {
        app.until_state(id, "completed").await;
        assert_eq!(app.job(id).await.payload["label"], json!(ESCAPED));
    }
    worker.stop().await;
}

#[tokio::test]
async fn an_operator_corrects_the_payload_of_a_waiting_job() {
    let app = TestApp::new().await;
    let id = app.add(Script::note("wrong").row()).await;
    let correct = format!(
        r#"UPDATE polar_jobs.jobs SET payload = payload || '{{"label": "right"}}' WHERE id = {id}"#
    );
    assert_eq!(app.execute(&correct).await, 1);
    let worker = app.work(4).await;
    app.until_state(id, "completed").await;
    assert_eq!(app.job(id).await.payload["label"], "right");
    worker.stop().await;
}
