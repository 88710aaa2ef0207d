//! `polar-jobs startup …`, as an operator types it.

use std::process::Command;

use simulator::Product;
use sqlx::Row;
use uuid::Uuid;

use crate::app::{ApiApp, Company};

/// What a command said.
#[derive(Debug, PartialEq)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn startup(app: &ApiApp, verb: &str, organization: &str) -> Said {
    let product = app.product(Product::Scale).to_string();
    command(
        app,
        &["--actor", "Ada", "startup", verb, organization],
        &product,
    )
    .await
}

async fn command(app: &ApiApp, arguments: &[&str], scale: &str) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polar-jobs"));
    command
        .args(arguments)
        .env_clear()
        .envs(app.environment())
        .env("POLAR_SCALE_PRODUCT_ID", scale);
    // The worker and the local Polar answer meanwhile, on this thread.
    let done = tokio::task::spawn_blocking(move || command.output());
    let done = done.await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    Said {
        code: done.status.code(),
        out: text(done.stdout),
        err: text(done.stderr),
    }
}

fn done(out: &str) -> Said {
    Said {
        code: Some(0),
        out: out.to_owned(),
        err: String::new(),
    }
}

async fn discounts_made(app: &ApiApp) -> usize {
    let writes = app.writes().into_iter();
    writes
        .filter(|write| write.path == "/v1/discounts/")
        .count()
}

#[tokio::test]
async fn an_invitation_is_given_once_shown_taken_back_and_not_taken_back_once_used() {
    let app = ApiApp::open().await;
    let company: Company = app.company().await;
    let id = company.id();
    let worker = app.work();
    assert_eq!(startup(&app, "status", id).await, done("not invited"));
    assert_eq!(startup(&app, "invite", id).await, done("invited"));
    assert_eq!(startup(&app, "invite", id).await, done("invited"));
    assert_eq!(
        discounts_made(&app).await,
        1,
        "repeated, it changes nothing"
    );
    assert_eq!(startup(&app, "status", id).await, done("invited"));
    assert_eq!(startup(&app, "revoke", id).await, done("not invited"));
    assert_eq!(startup(&app, "status", id).await, done("not invited"));
    assert_eq!(startup(&app, "invite", id).await, done("invited"));
    app.simulator.purchase(id, Product::Pro).await.unwrap();
    let path = company.at("/startup-program/claim");
    assert_eq!(app.ask(&company.owner(), "POST", &path).await.status, 200);
    assert_eq!(startup(&app, "status", id).await, done("consumed"));
    assert_eq!(startup(&app, "invite", id).await, done("consumed"));
    let used = startup(&app, "revoke", id).await;
    assert_eq!(used.code, Some(1), "{used:?}");
    assert!(used.err.contains("the invitation was used"), "{used:?}");
    worker.stop().await;
    let actions = sqlx::query(
        "SELECT actor, action FROM polar_jobs.operator_actions
          WHERE organization_id = $1::uuid ORDER BY id",
    );
    let rows = actions.bind(id).fetch_all(&app.pool).await.unwrap();
    let actions: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let expected = ["invite", "invite", "revoke", "invite", "invite", "revoke"];
    let expected = expected.map(|verb| ("Ada".to_owned(), format!("startup {verb}")));
    assert_eq!(actions, expected);
}

#[tokio::test]
async fn an_unknown_organization_and_a_program_that_is_not_configured_are_said() {
    let app = ApiApp::open().await;
    let unknown = Uuid::new_v4().to_string();
    for verb in ["invite", "revoke", "status"] {
        let said = startup(&app, verb, &unknown).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(
            said.err
                .contains(&format!("there is no organization {unknown}")),
            "{said:?}"
        );
        let off = command(&app, &["startup", verb, &unknown], "").await;
        assert_eq!(off.code, Some(1), "{off:?}");
        assert!(off.err.contains("POLAR_SCALE_PRODUCT_ID"), "{off:?}");
        let nonsense = startup(&app, verb, "acme").await;
        assert_eq!(nonsense.code, Some(1), "{nonsense:?}");
        assert!(
            nonsense.err.contains("has the name or slug"),
            "{nonsense:?}"
        );
    }
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.operator_actions")
            .await,
        0
    );
}
