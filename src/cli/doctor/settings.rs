//! What is configured, and what cannot be done without the rest.

use secrecy::ExposeSecret;

use super::super::output::counted;
use super::Finding;
use crate::config::Config;
use crate::telemetry::is_secret;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = vec![match &config.polar.billing {
        Some(_) => Finding::ok(
            "billing",
            format!(
                "on, {} calls a minute for the fleet",
                config.polar.limits.per_window
            ),
        ),
        None => Finding::warning(
            "billing",
            "off: everything is stored, nothing goes to Polar",
            "set POLAR_ACCESS_TOKEN and POLAR_ORGANIZATION_ID",
        ),
    }];
    findings.push(match config.polar.webhook_secrets.len() {
        0 => Finding::warning(
            "deliveries",
            "no secret is known, so deliveries are answered 503",
            "set POLAR_WEBHOOK_SECRET to the endpoint's secret",
        ),
        count => Finding::ok(
            "deliveries",
            format!("{} accepted", counted(count, "secret")),
        ),
    });
    findings.push(match config.http.app_token {
        Some(ref token) if !is_secret(token.expose_secret()) => Finding::warning(
            "changes",
            "APP_TOKEN is short or a common word: easily guessed, and not masked in logs",
            "set a random one of 32 characters",
        ),
        Some(_) => Finding::ok("changes", "POST /changes takes the bearer of APP_TOKEN"),
        None => Finding::warning(
            "changes",
            "POST /changes answers 503",
            "set APP_TOKEN, or use polar_jobs.record_change",
        ),
    });
    findings
}
