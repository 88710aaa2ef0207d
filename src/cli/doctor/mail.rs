//! Mail: whether any is sent, and whether the mail server takes it from us.

use super::Finding;
use crate::config::Config;

const ABOUT: &str = "mail";

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let Some(mailer) = config.mailer() else {
        return vec![Finding::warning(
            ABOUT,
            "no mail is sent: what should be is skipped",
            "set MAIL_URL, MAIL_FROM and APP_URL",
        )];
    };
    let mut findings = vec![match mailer.check().await {
        Ok(()) => Finding::ok(ABOUT, format!("goes to {}", mailer.transport())),
        Err(reason) => Finding::error(
            ABOUT,
            format!(
                "{}: {reason}; mails wait, billing goes on",
                mailer.transport()
            ),
            "see whether MAIL_URL and MAIL_FROM are what the server expects; mails go by themselves then",
        ),
    }];
    if config.app.url.is_none() {
        findings.push(Finding::warning(
            ABOUT,
            "mails have no link to the billing settings",
            "set APP_URL",
        ));
    }
    findings
}
