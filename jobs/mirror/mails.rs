//! Mails that were asked for, and what became of them.
//!
//! Whoever has a reason for a mail asks for it in the transaction in which the reason becomes true, and
//! enqueues the jobs that send it in the same one:
//!
//! ```ignore
//! let jobs = SendEmail::request(&mut transaction, &NewMail {
//!     template: Template::StartupWelcome,
//!     recipients: vec!["owner@example.com".to_owned()],
//!     organization: Some(organization),
//!     order: None,
//!     subscription: None,
//!     occasion: discount_id.to_string(),
//!     data: MailData { organization: "Acme".to_owned(), ..MailData::default() },
//! }).await?;
//! // In a job: Done::applied().then(jobs).within(transaction); elsewhere: queue::enqueue.
//! ```
//!
//! Asked again for the same occasion, whenever and by whomever, it returns no job and changes nothing: all recipients
//! are named at once. Somebody who has another address since does not get the same mail at both, and somebody who
//! manages the billing since is not told what happened before.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::mail::{Invoice, MailData, MailKey, NewMail, Template};
use crate::types::OrganizationId;

/// A mail as it is kept.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The text.
    pub template: String,
    /// The address; `None` once it was erased.
    pub recipient: Option<String>,
    /// The order it is about.
    pub order_id: Option<Uuid>,
    /// What became of it, in the table's word.
    pub state: String,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// What the text is filled with.
    pub data: Json<MailData>,
    /// Why it failed or was skipped.
    pub error: Option<String>,
}

impl Mail {
    /// The template, where this build has it.
    #[must_use]
    pub fn template(&self) -> Option<Template> {
        Template::parse(&self.template)
    }

    /// What became of it, where this build knows the word.
    #[must_use]
    pub fn state(&self) -> Option<MailState> {
        MailState::parse(&self.state)
    }
}

/// What became of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailState {
    /// It is still to be sent.
    Waiting,
    /// The mail server took it.
    Sent,
    /// It will not go, for a reason that is nobody's failure.
    Skipped,
    /// It was given up.
    Failed,
}

impl MailState {
    const ALL: [Self; 4] = [Self::Waiting, Self::Sent, Self::Skipped, Self::Failed];

    /// The word in `mails` and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }

    /// Reads a word.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Asks for a mail. Returns the keys of what is to be sent, one per recipient, whose jobs are to be enqueued in the same
/// transaction; none for an occasion about which it was asked for before. Two callers do not meet at one occasion: the
/// ordering keys of their jobs keep them apart. If they did, no mail would be asked for twice.
///
/// # Errors
/// If the database fails.
pub async fn request(
    connection: &mut PgConnection,
    mail: &NewMail,
) -> Result<Vec<MailKey>, sqlx::Error> {
    if is_requested(&mut *connection, mail).await? {
        return Ok(Vec::new());
    }
    // In one order, whoever asks: two that ask for the same mail wait for each other, not in a circle.
    let mut recipients = BTreeMap::new();
    for recipient in &mail.recipients {
        recipients
            .entry(mail.key_for(recipient))
            .or_insert(recipient);
    }
    let mut written = Vec::new();
    for (key, recipient) in recipients {
        let inserted = sqlx::query!(
            "INSERT INTO polar_jobs.mails
                    (key, template, recipient, organization_id, order_id, subscription_id, data)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (key) DO NOTHING",
            key.as_str(),
            mail.template.name(),
            recipient,
            mail.organization.map(|organization| organization.0),
            mail.order,
            mail.subscription,
            Json(&mail.data) as _,
        )
        .execute(&mut *connection)
        .await?;
        if inserted.rows_affected() == 1 {
            written.push(key);
        }
    }
    Ok(written)
}

/// Whether the mail was asked for before, for whomever.
async fn is_requested(connection: &mut PgConnection, mail: &NewMail) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM polar_jobs.mails
                           WHERE organization_id = $1 AND starts_with(key, $2)) AS "any!""#,
        mail.organization.map(|organization| organization.0),
        mail.key_prefix(),
    )
    .fetch_one(connection)
    .await
}

/// Whether mails about this order were asked for: all of them are, in one transaction.
///
/// # Errors
/// If the database fails.
pub async fn are_requested(pool: &PgPool, order: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM polar_jobs.mails WHERE order_id = $1) AS "any!""#,
        order,
    )
    .fetch_one(pool)
    .await
}

/// One mail.
///
/// # Errors
/// If the database fails.
pub async fn read(pool: &PgPool, key: &MailKey) -> Result<Option<Mail>, sqlx::Error> {
    sqlx::query_as!(
        Mail,
        r#"SELECT template, recipient, order_id, state, created_at, data AS "data: Json<MailData>", error
             FROM polar_jobs.mails WHERE key = $1"#,
        key.as_str(),
    )
    .fetch_optional(pool)
    .await
}

/// Counts an attempt, before it is made, and returns the `Message-ID` that all attempts have.
///
/// # Errors
/// If the database fails.
pub async fn begin_attempt(
    pool: &PgPool,
    key: &MailKey,
    message_id: &str,
) -> Result<String, sqlx::Error> {
    sqlx::query_scalar!(
        r#"UPDATE polar_jobs.mails SET attempts = attempts + 1, message_id = coalesce(message_id, $2)
            WHERE key = $1 RETURNING message_id AS "message_id!""#,
        key.as_str(),
        message_id,
    )
    .fetch_one(pool)
    .await
}

/// The mail was taken.
///
/// # Errors
/// If the database fails.
pub async fn sent(connection: &mut PgConnection, key: &MailKey) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.mails SET state = 'sent', sent_at = clock_timestamp(), error = NULL WHERE key = $1",
        key.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The mail will not go for a reason that is nobody's failure. One that was sent stays so.
///
/// # Errors
/// If the database fails.
pub async fn skipped(
    connection: &mut PgConnection,
    key: &MailKey,
    reason: &str,
) -> Result<(), sqlx::Error> {
    end(connection, key, MailState::Skipped, reason).await
}

/// The mail was given up.
///
/// # Errors
/// If the database fails.
pub async fn failed(
    connection: &mut PgConnection,
    key: &MailKey,
    reason: &str,
) -> Result<(), sqlx::Error> {
    end(connection, key, MailState::Failed, reason).await
}

async fn end(
    connection: &mut PgConnection,
    key: &MailKey,
    state: MailState,
    reason: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.mails SET state = $2, error = $3 WHERE key = $1 AND state <> 'sent'",
        key.as_str(),
        state.name(),
        reason,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps the invoice that mails of an order carry; the first one that was kept stays.
///
/// # Errors
/// If the database fails.
pub async fn keep_invoice(
    connection: &mut PgConnection,
    order: Uuid,
    invoice: &Invoice,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.mail_invoices (order_id, number, content) VALUES ($1, $2, $3)
         ON CONFLICT (order_id) DO NOTHING",
        order,
        invoice.number,
        invoice.content,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns the invoice that mails of an order carry.
///
/// # Errors
/// If the database fails.
pub async fn invoice(pool: &PgPool, order: Uuid) -> Result<Option<Invoice>, sqlx::Error> {
    sqlx::query_as!(
        Invoice,
        "SELECT number, content FROM polar_jobs.mail_invoices WHERE order_id = $1",
        order,
    )
    .fetch_optional(pool)
    .await
}

/// Takes the addresses and names of an organization's mails away, of all or of those asked for before `until`; those
/// that wait are skipped.
///
/// # Errors
/// If the database fails.
pub async fn erase(
    connection: &mut PgConnection,
    organization: OrganizationId,
    until: Option<DateTime<Utc>>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH erased AS (
             UPDATE polar_jobs.mails
                SET recipient = NULL, data = '{\"plan\": \"\", \"organization\": \"\"}',
                    state = CASE WHEN state = 'waiting' THEN 'skipped' ELSE state END,
                    error = CASE WHEN state = 'waiting' THEN 'the recipient was erased' ELSE error END
              WHERE organization_id = $1 AND ($2::timestamptz IS NULL OR created_at < $2) RETURNING order_id)
         DELETE FROM polar_jobs.mail_invoices WHERE order_id IN (SELECT order_id FROM erased)",
        organization.0,
        until,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Says of mails that wait although their job has ended, by an operator or in the middle of an attempt, that they will
/// not go. An operator who retries the job has them sent. Returns how many.
///
/// # Errors
/// If the database fails.
pub async fn skip_abandoned(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let skipped = sqlx::query!(
        "UPDATE polar_jobs.mails m SET state = 'skipped', error = 'its job was ended before it was sent'
          WHERE m.state = 'waiting'
            AND NOT polar_jobs.has_unfinished_job(m.key)",
    )
    .execute(pool)
    .await?;
    Ok(skipped.rows_affected())
}

/// Deletes invoices that no mail needs any more, and old ones. Returns how many.
///
/// # Errors
/// If the database fails.
pub async fn prune_invoices(pool: &PgPool, before: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let pruned = sqlx::query!(
        "DELETE FROM polar_jobs.mail_invoices i
          WHERE fetched_at < $1
             OR NOT EXISTS (SELECT FROM polar_jobs.mails m
                             WHERE m.order_id = i.order_id AND m.state IN ('waiting', 'failed'))",
        before,
    )
    .execute(pool)
    .await?;
    Ok(pruned.rows_affected())
}
