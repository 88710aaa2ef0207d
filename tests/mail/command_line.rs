//! `mail preview`, and what `doctor` says of mail.

use std::process::Command;

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
async fn doctor_warns_where_no_mail_is_sent_and_demands_orders_where_it_is() {
    let app = TestApp::without_mail(polar()).await;
    let (url, polar) = (app.url.clone(), app.simulator.url());
    let organization = app.simulator.organization_id().to_string();
    app.simulator.add_token(
        "polar_oat_without_orders",
        &["customers:read", "webhooks:read"],
    );
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("POLAR_API_URL", &polar),
        ("POLAR_ACCESS_TOKEN", "polar_oat_without_orders"),
        ("POLAR_ORGANIZATION_ID", &organization),
    ];
    let without = tokio::task::spawn_blocking({
        let settings = settings.map(|(name, value)| (name, value.to_owned()));
        move || {
            run(
                &settings
                    .each_ref()
                    .map(|(name, value)| (*name, value.as_str())),
                &["doctor"],
            )
        }
    });
    let said = without.await.unwrap();
    assert!(said.out.contains("no mail is sent"), "{}", said.out);
    assert!(
        !said.out.contains("orders:read") && !said.out.contains("order.created"),
        "{}",
        said.out
    );
    let with = tokio::task::spawn_blocking({
        let settings = settings.map(|(name, value)| (name, value.to_owned()));
        move || {
            let mut all = settings
                .each_ref()
                .map(|(name, value)| (*name, value.as_str()))
                .to_vec();
            all.push(("MAIL_URL", "smtp://mail.example:2525"));
            all.push(("MAIL_FROM", "billing@example.com"));
            run(&all, &["doctor"])
        }
    });
    let said = with.await.unwrap();
    assert!(
        said.out
            .contains("goes to the mail server mail.example:2525"),
        "{}",
        said.out
    );
    assert!(
        said.out.contains("set APP_URL") && said.out.contains("orders:read"),
        "{}",
        said.out
    );
}
