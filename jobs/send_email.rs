//! Hands one mail to the mail server.
//!
//! At least once: between the server's acceptance and our commit a process may die or an answer be lost, and
//! then the same message goes again with the same `Message-ID`. No more often than that: a mail that is `sent`
//! is never sent again, and its ordering key keeps two attempts from running at once.

use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::contract::{Context, Done, Error, Job, NewJob, Queue, Retry, priority};
use crate::mail::{
    Connection, Draft, MailKey, Mailer, Message, NewMail, SendError, Template, render,
};
use crate::mirror::clock;
use crate::mirror::mails::{self, Mail, MailState};
use crate::types::OrganizationId;

/// One mail, by its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendEmail {
    /// The key in `mails`.
    pub mail: MailKey,
    /// Whose matter it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<OrganizationId>,
}

impl SendEmail {
    /// Asks for a mail. Returns the jobs that send it, to be enqueued in the same transaction; see [`mails::request`].
    pub(crate) async fn request(
        connection: &mut PgConnection,
        mail: &NewMail,
    ) -> Result<Vec<NewJob>, sqlx::Error> {
        let keys = mails::request(connection, mail).await?;
        let jobs = keys.into_iter().map(|key| Self {
            mail: key,
            organization_id: mail.organization,
        });
        Ok(jobs.map(|job| NewJob::of(&job)).collect())
    }
}

/// While releases overlap, a newer one may have asked for a mail whose template this one lacks. How long such a mail
/// waits for a worker of the newer release, and how long between two looks.
const OVERLAP: TimeDelta = TimeDelta::days(1);
const OVERLAP_LOOK: Duration = Duration::from_secs(60);

impl Job for SendEmail {
    const KIND: &'static str = "send_email";
    const QUEUE: Queue = Queue::Mail;
    const PRIORITY: i16 = priority::MAIL;
    /// A server that refuses a mail for now is asked again for two to four days, as mail servers do among themselves.
    const RETRY: Retry = Retry::attempts(100);
    /// Longer than the timeouts of a connection and a mail together.
    const TIMEOUT: Duration = Duration::from_secs(700);

    fn unique_key(&self) -> Option<String> {
        Some(self.mail.to_string())
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let key = &self.mail;
        let Some(mail) = mails::read(&context.pool, key).await? else {
            return Err(Error::discard("there is no mail with this key"));
        };
        match mail.state() {
            Some(MailState::Sent) => return Ok(Done::ignored("it was sent before")),
            // The failure was written, and the process died before the job ended. An operator who retries the
            // job retries the mail: by then the job has its own failures.
            Some(MailState::Failed) if context.job.failures == 0 => {
                return Err(Error::discard(mail.error.unwrap_or_default()));
            }
            Some(MailState::Waiting | MailState::Skipped | MailState::Failed) | None => {}
        }
        let Some(mailer) = &context.mail else {
            return skip(context, key, "MAIL_URL is not set").await;
        };
        let Some(recipient) = &mail.recipient else {
            return skip(context, key, "the recipient was erased").await;
        };
        let Some(template) = mail.template() else {
            return without_template(context, key, &mail).await;
        };
        // Before the attempt is counted: a server that cannot be reached was not asked about this mail.
        let connection = mailer.connect().await?;
        let sending = Sending {
            context,
            key,
            mail: &mail,
            template,
            recipient,
            mailer,
        };
        let sent = sending.attempt(connection).await;
        end(context, key, sent).await
    }
}

/// A mail that can be sent.
struct Sending<'a> {
    context: &'a Context,
    key: &'a MailKey,
    mail: &'a Mail,
    template: Template,
    recipient: &'a str,
    mailer: &'a Mailer,
}

impl Sending<'_> {
    async fn attempt(&self, connection: Connection<'_>) -> Result<(), Failure> {
        let (pool, key, config) = (&self.context.pool, self.key, self.mailer.config());
        let invoice = match self.mail.order_id {
            Some(order) => mails::invoice(pool, order).await?,
            None => None,
        };
        let number = invoice.as_ref().map(|invoice| invoice.number.as_str());
        let text = render(self.template, &self.mail.data, number, &config.links)
            .map_err(|error| Error::discard(format!("the template cannot be filled: {error}")))?;
        let message_id = key.message_id(self.mailer.domain());
        let message_id = mails::begin_attempt(pool, key, &message_id).await?;
        let draft = Draft {
            key,
            message_id: &message_id,
            recipient: self.recipient,
            date: self.mail.created_at,
            text,
            invoice,
        };
        let Some(message) = Message::compose(config, draft) else {
            let reason = "the recipient's address is none that mail can be sent to".to_owned();
            return Err(Failure::Send(SendError::Refused(reason)));
        };
        connection.send(key, &message).await.map_err(Failure::Send)
    }
}

/// Why an attempt did not end well.
enum Failure {
    Send(SendError),
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Error(error.into())
    }
}

async fn without_template(context: &Context, key: &MailKey, mail: &Mail) -> Result<Done, Error> {
    let reason = format!("this release has no template {}", mail.template);
    if clock::now(&context.pool).await? - mail.created_at < OVERLAP {
        return Err(Error::not_yet(reason, OVERLAP_LOOK));
    }
    let refused = SendError::Refused(reason);
    end(context, key, Err(Failure::Send(refused))).await
}

/// Writes down what became of the mail.
async fn end(context: &Context, key: &MailKey, sent: Result<(), Failure>) -> Result<Done, Error> {
    let error = match sent {
        Ok(()) => {
            count(MailState::Sent);
            let mut transaction = context.begin().await?;
            mails::sent(&mut transaction, key).await?;
            return Ok(Done::applied().within(transaction));
        }
        Err(Failure::Send(SendError::Refused(reason))) => Error::discard(reason),
        Err(Failure::Send(SendError::Temporary(reason))) => Error::Retry(reason),
        Err(Failure::Error(error)) => error,
    };
    if context.job.ends_with(&error) {
        count(MailState::Failed);
        // Written at once, because a job that fails writes nothing.
        let mut connection = context.pool.acquire().await?;
        mails::failed(&mut connection, key, &error.to_string()).await?;
    }
    Err(error)
}

async fn skip(context: &Context, key: &MailKey, reason: &'static str) -> Result<Done, Error> {
    count(MailState::Skipped);
    let mut transaction = context.begin().await?;
    mails::skipped(&mut transaction, key, reason).await?;
    Ok(Done::ignored(reason).within(transaction))
}

fn count(state: MailState) {
    metrics::counter!("polar_jobs_mails_total", "state" => state.name()).increment(1);
}
