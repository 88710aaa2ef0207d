//! What may stand in a variable, and that nothing of it is ever shown.

#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

use proptest::prelude::*;
use secrecy::ExposeSecret;

use jobs::mail::{Security, Transport};

use super::*;
use crate::queue::connect::Pooler;

const ORGANIZATION: &str = "1dbfc517-0bbf-4301-9ba8-555ca42b9737";

/// Every variable that is read.
const VARIABLES: [&str; 36] = [
    "DATABASE_URL",
    "DATABASE_POOLER",
    "PORT",
    "BIND",
    "APP_WEBHOOK_URL",
    "APP_WEBHOOK_SECRET",
    "POLAR_ACCESS_TOKEN",
    "POLAR_ORGANIZATION_ID",
    "POLAR_WEBHOOK_SECRET",
    "POLAR_API_URL",
    "POLAR_API_VERSION",
    "POLAR_RATE_LIMIT",
    "POLAR_CALLS_IN_FLIGHT",
    "POLAR_SCALE_PRODUCT_ID",
    "APP_TOKEN",
    "METRICS_BIND",
    "APP_URL",
    "APP_SESSION_SECRET",
    "APP_ORIGINS",
    "TRUSTED_PROXIES",
    "PLAIN_TOKEN",
    "PLAIN_API_URL",
    "PLAIN_DEFAULT_TIER_EXTERNAL_ID",
    "PLATFORM_FEE_BASIS_POINTS",
    "PLATFORM_FEE_FIXED",
    "PLATFORM_SUBSCRIPTION_FEE_BASIS_POINTS",
    "PLATFORM_FEE_BASIS_POINTS_EARLY_ACCESS",
    "PLATFORM_FEE_FIXED_EARLY_ACCESS",
    "PLATFORM_SUBSCRIPTION_FEE_BASIS_POINTS_EARLY_ACCESS",
    "MAIL_URL",
    "MAIL_FROM",
    "MAIL_REPLY_TO",
    "DATABASE_CONNECTIONS",
    "WORKER_SLOTS",
    "LOG_FORMAT",
    "RUST_LOG",
];

fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::read(&variables.iter().copied().collect())
}

fn exposed(secrets: &[SecretString]) -> Vec<&str> {
    secrets.iter().map(ExposeSecret::expose_secret).collect()
}

#[test]
fn an_empty_environment_has_the_defaults_of_the_contract() {
    let config = read(&[]).unwrap();
    assert!(config.database.is_none() && config.polar.billing.is_none() && config.mail.is_none());
    assert!(
        config.plain.is_none()
            && config.http.app_token.is_none()
            && config.http.metrics_bind.is_none()
    );
    assert_eq!(config.http.address().to_string(), "127.0.0.1:8080");
    assert_eq!(config.polar.api_url.as_str(), "https://api.polar.sh/");
    assert_eq!(
        (
            config.polar.api_version.as_str(),
            config.polar.limits.per_window.get(),
            config.polar.limits.in_flight.get(),
            config.worker_slots
        ),
        ("2026-04", 400, 16, 50)
    );
    let fees = |fees: Fees| {
        (
            fees.basis_points,
            fees.fixed,
            fees.subscription_basis_points,
        )
    };
    assert_eq!(
        (fees(config.platform_fees), fees(config.early_fees)),
        ((500, 50, 0), (400, 40, 50))
    );
    assert!(config.log.filter.starts_with("info"));
    assert_eq!(config.database().unwrap_err().variable, "DATABASE_URL");
}

#[test]
fn an_empty_value_is_none() {
    let variables: Vec<_> = VARIABLES.iter().map(|variable| (*variable, " ")).collect();
    assert!(read(&variables).unwrap().database.is_none());
}

#[test]
fn webhook_secrets_are_split_at_blanks_and_commas() {
    let config = read(&[("POLAR_WEBHOOK_SECRET", " polar_whs_a, whsec_b==\n,c ")]).unwrap();
    assert_eq!(
        exposed(&config.polar.webhook_secrets),
        ["polar_whs_a", "whsec_b==", "c"]
    );
}

#[test]
fn half_a_billing_configuration_is_refused() {
    assert_eq!(
        read(&[("POLAR_ACCESS_TOKEN", "t")]).unwrap_err().variable,
        "POLAR_ORGANIZATION_ID"
    );
    assert_eq!(
        read(&[("POLAR_ORGANIZATION_ID", ORGANIZATION)])
            .unwrap_err()
            .variable,
        "POLAR_ACCESS_TOKEN"
    );
    let both = read(&[
        ("POLAR_ACCESS_TOKEN", "t"),
        ("POLAR_ORGANIZATION_ID", ORGANIZATION),
    ])
    .unwrap();
    assert_eq!(both.self_organization().unwrap().to_string(), ORGANIZATION);
}

#[test]
fn a_wrong_value_is_explained_in_one_line_that_names_its_variable() {
    let wrong = [
        ("DATABASE_URL", "mysql://u:p@h/d"),
        ("DATABASE_URL", "postgres://u:p@h:notaport/d"),
        ("DATABASE_URL", "postgres://u:p@h/d?sslmode=perhaps"),
        ("DATABASE_POOLER", "session"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("BIND", "example.com"),
        ("POLAR_ACCESS_TOKEN", "two words"),
        ("POLAR_ORGANIZATION_ID", "acme"),
        ("POLAR_API_URL", "ftp://api.polar.sh"),
        ("POLAR_API_VERSION", "2026 04"),
        ("POLAR_RATE_LIMIT", "0"),
        ("POLAR_CALLS_IN_FLIGHT", "0"),
        ("METRICS_BIND", "9090"),
        ("PLAIN_API_URL", "plain"),
        ("PLATFORM_FEE_BASIS_POINTS", "10001"),
        ("PLATFORM_FEE_FIXED", "-1"),
        ("MAIL_URL", "mailto:someone"),
        ("MAIL_FROM", "nobody"),
        ("DATABASE_CONNECTIONS", "3"),
        ("WORKER_SLOTS", "0"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "polar_jobs=loud"),
    ];
    for (variable, value) in wrong {
        let line = read(&[(variable, value)]).unwrap_err().to_string();
        assert!(line.starts_with(&format!("{variable} ")), "{line}");
        assert!(
            line.contains("; allowed: ") && !line.contains('\n'),
            "{line}"
        );
    }
}

#[test]
fn a_database_keeps_its_password_to_itself() {
    let url = "postgres://app:p%40ss-hunter2@db.example:6432/shop?sslmode=disable";
    let config = read(&[("DATABASE_URL", url), ("DATABASE_POOLER", "transaction")]).unwrap();
    let database = config.database().unwrap();
    assert_eq!(
        (database.to_string().as_str(), database.pooler()),
        ("db.example:6432/shop", Pooler::Transaction)
    );
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(
        exposed(&config.secrets()),
        ["p%40ss-hunter2", "p@ss-hunter2"]
    );
}

#[test]
fn a_password_is_decoded_to_its_end_whatever_is_in_it() {
    let config = read(&[
        (
            "DATABASE_URL",
            "postgres://app:a&b+c%26%40=d@db.example/shop",
        ),
        ("MAIL_URL", "smtps://m&e:a&b+c%26%40=d@mail.example"),
        ("MAIL_FROM", "billing@acme.example"),
    ])
    .unwrap();
    let (raw, decoded) = ("a&b+c%26%40%3Dd", "a&b+c&@=d");
    assert_eq!(exposed(&config.secrets()), [raw, decoded, raw, decoded]);
    let Transport::Smtp(server) = config.mail.unwrap().transport else {
        panic!("no mail server");
    };
    let (user, password) = server.credentials.unwrap();
    assert_eq!((user.as_str(), password.expose_secret()), ("m&e", decoded));
}

#[test]
fn another_database_on_the_same_server_keeps_every_other_setting() {
    let url = "postgres://app:pw@localhost/shop?host=/run/postgresql&sslmode=disable&dbname=shop";
    let other = DatabaseUrl::parse(url, Pooler::None)
        .unwrap()
        .with_database("scratch");
    assert_eq!(other.to_string(), "/run/postgresql/scratch");
    assert_eq!(
        other.expose(),
        "postgres://app:pw@localhost/scratch?host=%2Frun%2Fpostgresql&sslmode=disable"
    );
    assert_eq!(
        DatabaseUrl::parse(other.expose(), Pooler::None)
            .unwrap()
            .to_string(),
        "/run/postgresql/scratch"
    );
}

#[test]
fn mail_goes_to_a_server_or_a_directory() {
    for (url, directory) in [
        ("file:./var/mail", "./var/mail"),
        ("file:///var/mail", "/var/mail"),
        ("file:/m", "/m"),
    ] {
        let mail = read(&[("MAIL_URL", url)]).unwrap().mail.unwrap();
        assert!(
            matches!(mail.transport, Transport::Directory(found) if found.as_os_str() == directory),
            "{url}"
        );
    }
    let config = read(&[
        ("MAIL_URL", "smtps://me:hunter2@mail.example:465"),
        ("MAIL_FROM", "Acme <billing@acme.example>"),
    ])
    .unwrap();
    assert_eq!(exposed(&config.secrets()), ["hunter2", "hunter2"]);
    let unsent = read(&[("MAIL_URL", "smtp://mail.example")]).unwrap_err();
    assert_eq!(unsent.variable, "MAIL_FROM");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_password_goes_to_a_mail_server_over_an_encrypted_connection_only() {
    for (url, security, port) in [
        ("smtps://mail.example", Security::Tls, 465),
        ("smtp://mail.example", Security::Opportunistic, 25),
        ("smtp://me:pw@mail.example", Security::StartTls, 587),
        ("smtp://me:pw@mail.example:2525", Security::StartTls, 2525),
        ("smtp://me:pw@localhost", Security::Opportunistic, 587),
    ] {
        let config = read(&[("MAIL_URL", url), ("MAIL_FROM", "a@example.com")]).unwrap();
        let Transport::Smtp(server) = config.mail.unwrap().transport else {
            panic!("{url} is a server")
        };
        assert_eq!((server.security, server.port), (security, port), "{url}");
    }
}

proptest! {
    #[test]
    fn no_value_makes_it_panic_or_is_repeated(position in 0..VARIABLES.len(), garbage in "\\PC{0,30}") {
        let value = format!("Zq7{garbage}Zq8");
        if let Err(wrong) = read(&[(VARIABLES[position], &value)]) {
            prop_assert!(!wrong.to_string().contains("Zq7"), "{wrong}");
        }
    }

    #[test]
    fn no_database_url_gives_its_password_away(password in "[a-zA-Z0-9%@:/?#]{0,12}", host in "[a-z0-9.:\\[\\]]{0,12}", rest in "\\PC{0,20}") {
        let url = format!("postgres://user:Zq7{password}@{host}/{rest}");
        match read(&[("DATABASE_URL", &url)]) {
            Ok(config) => {
                let shown = format!("{config:?}");
                prop_assert!(!shown.contains("Zq7"));
            }
            Err(wrong) => prop_assert!(!wrong.to_string().contains("Zq7"), "{wrong}"),
        }
    }
}

#[test]
fn the_application_is_told_only_with_an_address_and_a_secret_of_standard_webhooks() {
    const URL: (&str, &str) = ("APP_WEBHOOK_URL", "https://app.example/hooks");
    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let variable = |settings: &[(&str, &str)]| read(settings).unwrap_err().variable;
    assert!(read(&[]).unwrap().app_webhook.is_none());
    assert_eq!(variable(&[URL]), "APP_WEBHOOK_SECRET");
    assert_eq!(variable(&[("APP_WEBHOOK_SECRET", KEY)]), "APP_WEBHOOK_URL");
    assert_eq!(
        variable(&[URL, ("APP_WEBHOOK_SECRET", "a guess")]),
        "APP_WEBHOOK_SECRET"
    );
    let both = format!("{KEY}, {KEY}");
    let told = read(&[URL, ("APP_WEBHOOK_SECRET", &both)]).unwrap();
    assert_eq!(told.app_webhook.as_ref().unwrap().keys.len(), 2);
    let masked = told.secrets();
    assert!(masked.iter().any(|secret| secret.expose_secret() == KEY));
}

#[test]
fn the_application_is_a_url_a_long_key_origins_and_networks() {
    let app = read(&[
        ("APP_URL", "https://app.example.com"),
        ("APP_SESSION_SECRET", "0123456789abcdef0123456789abcdef"),
        (
            "APP_ORIGINS",
            "https://App.example.com http://localhost:3000",
        ),
        ("TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.7 2001:db8::/32"),
    ])
    .unwrap()
    .app;
    assert_eq!(
        app.origins,
        ["https://app.example.com", "http://localhost:3000"]
    );
    assert_eq!(app.trusted_proxies.len(), 3);
    for (variable, value) in [
        ("APP_URL", "ftp://app.example.com"),
        ("APP_SESSION_SECRET", "short"),
        ("APP_ORIGINS", "https://app.example.com/path"),
        ("APP_ORIGINS", "*"),
        ("TRUSTED_PROXIES", "10.0.0.0/40"),
        ("TRUSTED_PROXIES", "everybody"),
    ] {
        assert_eq!(read(&[(variable, value)]).unwrap_err().variable, variable);
    }
}
