//! The mails of the demo scenario: who was told what, and whether the files are there, invoices included.

use std::path::{Path, PathBuf};

use jobs::mail::Template;
use sqlx::PgPool;
use uuid::Uuid;

use super::fixtures::Company;
use super::outcome::Outcome;

/// A mail that was sent.
struct Sent {
    message_id: String,
    has_invoice: bool,
}

/// Who was told what, and the files of it where mail goes to files.
pub(super) async fn outcomes(
    pool: &PgPool,
    company: &Company,
    directory: Option<&Path>,
) -> Result<Vec<Outcome>, sqlx::Error> {
    let name = company.name;
    let mut outcomes = vec![Outcome::new(
        format!("{name}: mails"),
        company.expected.mails,
        told(pool, company.id).await?,
    )];
    let Some(directory) = directory else {
        return Ok(outcomes);
    };
    let sent = sent(pool, company.id).await?;
    if !sent.is_empty() {
        let found = sent.iter().filter(|mail| is_there(directory, mail)).count();
        let what = format!("{name}: mails in files, with their invoices");
        outcomes.push(Outcome::new(what, sent.len(), found));
    }
    Ok(outcomes)
}

async fn told(pool: &PgPool, organization: Uuid) -> Result<String, sqlx::Error> {
    let told = sqlx::query_scalar!(
        r#"SELECT coalesce(string_agg(name || ' ' || count || unsent, ', ' ORDER BY name), 'none') AS "told!"
             FROM (SELECT replace(template, 'polar_self_subscription_', '') AS name, count(*) AS count,
                          CASE WHEN bool_and(state = 'sent') THEN '' ELSE ' (not all sent)' END AS unsent
                     FROM polar_jobs.mails WHERE organization_id = $1 GROUP BY template) AS templates"#,
        organization,
    );
    told.fetch_one(pool).await
}

async fn sent(pool: &PgPool, organization: Uuid) -> Result<Vec<Sent>, sqlx::Error> {
    sqlx::query_as!(
        Sent,
        r#"SELECT message_id AS "message_id!", order_id IS NOT NULL AS "has_invoice!"
             FROM polar_jobs.mails WHERE organization_id = $1 AND state = 'sent'"#,
        organization,
    )
    .fetch_all(pool)
    .await
}

/// Files are named like the message ids, without the sender's domain.
fn is_there(directory: &Path, mail: &Sent) -> bool {
    let id = mail.message_id.trim_start_matches('<');
    let name = id.split('@').next().unwrap_or(id);
    let path: PathBuf = directory.join(format!("{name}.eml"));
    std::fs::read_to_string(path)
        .is_ok_and(|text| text.contains("application/pdf") == mail.has_invoice)
}

/// Whether everybody who manages an organization's billing was sent a mail.
pub(super) async fn is_sent(
    pool: &PgPool,
    organization: Uuid,
    template: Template,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT coalesce(bool_and(state = 'sent'), false) AS "sent!" FROM polar_jobs.mails
            WHERE organization_id = $1 AND template = $2"#,
        organization,
        template.name(),
    )
    .fetch_one(pool)
    .await
}
