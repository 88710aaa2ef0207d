//! `mail preview`, and what `doctor` says of mail.

use std::process::Command;

use crate::mail_server::Behaviour;
use crate::test_app::{TestApp, polar};

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(settings: &[(&str, &str)], arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_polar-jobs"))
        .args(arguments)
        .env_clear()
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_preview_shows_a_mail_as_it_is_sent() {
    let confirmation = ["mail", "preview", "polar_self_subscription_confirmation"];
    let said = run(
        &[("APP_URL", "https://app.example.com/billing")],
        &confirmation,
    );
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(
        said.out.starts_with("Subject: You're now on Pro\n"),
        "{}",
        said.out
    );
    assert!(said.out.contains("SELF-0001") && said.out.contains("https://app.example.com/billing"));
    let html = [
        confirmation.as_slice(),
        &["--part", "html", "--without-invoice"],
    ]
    .concat();
    let said = run(&[], &html);
    assert!(said.out.starts_with("<!doctype html>") && !said.out.contains("SELF-0001"));
    let said = run(&[], &["mail", "preview", "nonsense"]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.err.contains("polar_self_startup_program_welcome"),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn doctor_warns_where_no_mail_is_sent_and_asks_the_mail_server_where_it_is() {
    let app = TestApp::without_mail(polar()).await;
    let token = "polar_oat_without_orders";
    app.simulator
        .add_token(token, &["customers:read", "webhooks:read"]);
    let said = doctor(&app, &[("POLAR_ACCESS_TOKEN", token)]).await;
    assert!(said.contains("no mail is sent"), "{said}");
    assert!(
        !said.contains("orders:read") && !said.contains("order.created"),
        "{said}"
    );
    let server = format!("127.0.0.1:{}", app.mail_server.port());
    let mail_url = format!("smtp://me:secret@{server}");
    let settings = [
        ("POLAR_ACCESS_TOKEN", token),
        ("MAIL_URL", &mail_url),
        ("MAIL_FROM", "billing@example.com"),
    ];
    let said = doctor(&app, &settings).await;
    let goes = format!("goes to the mail server {server}");
    assert!(said.contains(&goes), "{said}");
    assert!(
        said.contains("set APP_URL") && said.contains("orders:read"),
        "{said}"
    );
    assert_eq!(app.mail_server.commands().last().unwrap(), "QUIT");
    assert_eq!(app.mail_server.received().len(), 0);
    app.mail_server
        .behave(Behaviour::Answer("MAIL", "", "550 5.7.1 not yours"));
    let said = doctor(&app, &settings).await;
    let refused = "it does not take the sender: it answered 550; mails wait, billing goes on";
    assert!(said.contains(refused), "{said}");
    assert!(!said.contains("secret@"), "{said}");
}

/// What `doctor` says with these settings besides the usual ones.
async fn doctor(app: &TestApp, more: &[(&str, &str)]) -> String {
    let mut settings = app.environment();
    settings.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
    let more = more
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let settings = settings
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let settings: Vec<(String, String)> = settings.chain(more).collect();
    let run = move || {
        let settings: Vec<(&str, &str)> = settings
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        run(&settings, &["doctor"])
    };
    tokio::task::spawn_blocking(run).await.unwrap().out
}
