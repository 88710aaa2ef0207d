//! Calls the application: with a message of its own that it enqueued, or with the news that what an organization may do, or
//! what it pays, has changed.
//!
//! News name what changed and whose it is; what holds now is read here, after the commit of the change. So a message that
//! is repeated or late tells nothing that is outdated.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::app_webhook::{Message, NotTaken};
use crate::contract::{Context, Done, Error, Job, Queue};
use crate::mirror::{application, clock};
use crate::types::OrganizationId;

/// Failures of news for which there is no answer that count: about half an hour of them.
const COUNTED_FAILURES: u32 = 10;
/// So long after the first failure they count again: news behind which others of the organization wait must not do so
/// for ever.
const COUNTED_AGAIN_AFTER: TimeDelta = TimeDelta::days(4);
/// How long such news wait after that.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// How soon a worker without the setting looks again whether others have it.
const SETTING_LOOK: Duration = Duration::from_secs(60);

/// The payload is the application's: `path`, where the message goes below `APP_WEBHOOK_URL`, and `body`, or all other
/// fields as the body. The triggers of the tables write `notice`, `organization_id` and `change` instead.
///
/// Fields are kept as they were written: the application may mean numbers by them that only it can hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallApp(BTreeMap<String, Box<RawValue>>);

/// What the application is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Notice {
    #[serde(rename = "entitlements.changed")]
    EntitlementsChanged,
    #[serde(rename = "fees.changed")]
    FeesChanged,
}

impl Notice {
    fn name(self) -> &'static str {
        match self {
            Self::EntitlementsChanged => "entitlements.changed",
            Self::FeesChanged => "fees.changed",
        }
    }
}

impl Job for CallApp {
    const KIND: &'static str = "call_app";
    const QUEUE: Queue = Queue::App;
    /// More than the application may take to answer.
    const TIMEOUT: Duration = Duration::from_secs(20);

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let notice = self.notice()?;
        let Some(app) = &context.settings.app_webhook else {
            if application::is_told(&context.pool).await? {
                return Err(Error::Unavailable {
                    reason: "this worker has no APP_WEBHOOK_URL; waits for one that has".to_owned(),
                    after: SETTING_LOOK,
                });
            }
            return match notice {
                Some(_) => Ok(Done::ignored("APP_WEBHOOK_URL is not set: nobody is told")),
                None => Err(Error::discard(
                    "APP_WEBHOOK_URL is not set; set it and retry",
                )),
            };
        };
        let id = self.message_id(context.job.id);
        let message = match notice {
            None => self.message(id)?,
            Some((notice, organization)) => match news(context, notice, organization, id).await? {
                Some(message) => message,
                None => return Ok(Done::ignored("the organization does not live")),
            },
        };
        match app.post(&message).await {
            Ok(()) => Ok(Done::applied()),
            // Nobody would tell it again, so it outlives a weekend, and is seen to be late.
            Err(NotTaken::Unanswered(reason))
                if notice.is_some()
                    && context.job.failures >= COUNTED_FAILURES
                    && !fails_for_long(context).await? =>
            {
                Err(Error::Unavailable {
                    reason,
                    after: LONGEST_WAIT,
                })
            }
            Err(why) => Err(why.into()),
        }
    }
}

/// Whether the first failure of this job is older than news may wait.
async fn fails_for_long(context: &Context) -> Result<bool, sqlx::Error> {
    let since = application::failing_since(&context.pool, context.job.id).await?;
    let now = clock::now(&context.pool).await?;
    Ok(since.is_some_and(|since| now - since > COUNTED_AGAIN_AFTER))
}

impl CallApp {
    /// What the application is to be told of, and about whom; `None` = the message is its own.
    fn notice(&self) -> Result<Option<(Notice, OrganizationId)>, Error> {
        let Some(notice) = self.0.get("notice") else {
            return Ok(None);
        };
        let read = || {
            let notice = serde_json::from_str(notice.get()).ok()?;
            let organization = serde_json::from_str(self.0.get("organization_id")?.get()).ok()?;
            Some((notice, organization))
        };
        read().map(Some).ok_or_else(|| {
            Error::discard("the payload's notice is none of ours; a message of your own has no field of that name")
        })
    }

    /// The same at every attempt with the same payload. News that were merged into this job while it waited, perhaps after
    /// a first attempt whose answer was lost, make it another message.
    fn message_id(&self, job: i64) -> String {
        let digest = Sha256::digest(self.text().as_bytes());
        let short: String = digest[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("job_{job}_{short}")
    }

    /// The application's own message.
    fn message(mut self, id: String) -> Result<Message, Error> {
        let path = self.0.remove("path");
        let path = path.map_or(Ok(None), |path| serde_json::from_str(path.get()));
        let path: Option<String> =
            path.map_err(|_| Error::discard("the payload's path is no text"))?;
        let path = segments(&path.unwrap_or_default())?;
        let body = match self.0.remove("body") {
            Some(body) => body.get().to_owned(),
            None => self.text(),
        };
        Ok(Message { id, path, body })
    }

    fn text(&self) -> String {
        serde_json::to_string(&self.0).expect("texts and JSON are written as JSON")
    }
}

/// The parts of a path. One that leaves the application's address is refused rather than bent.
fn segments(path: &str) -> Result<Vec<String>, Error> {
    let path = path.trim_start_matches('/');
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    if parts.iter().any(|part| part == "." || part == "..") {
        return Err(Error::discard(
            "the payload's path leads out of APP_WEBHOOK_URL",
        ));
    }
    Ok(parts)
}

/// What holds now; `None` = the organization does not live.
async fn news(
    context: &Context,
    notice: Notice,
    organization: OrganizationId,
    id: String,
) -> Result<Option<Message>, sqlx::Error> {
    let values = match notice {
        Notice::EntitlementsChanged => {
            application::entitlements(&context.pool, organization).await?
        }
        Notice::FeesChanged => application::fees(&context.pool, organization).await?,
    };
    Ok(values.map(|data| Message {
        id,
        path: Vec::new(),
        body: json!({
            "type": notice.name(),
            "timestamp": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            "data": data,
        })
        .to_string(),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::Value;

    use super::*;

    fn call(payload: Value) -> CallApp {
        serde_json::from_str(&payload.to_string()).unwrap()
    }

    #[test]
    fn a_body_is_passed_on_as_it_was_written() {
        let body =
            r#"{"wei":123456789012345678901234567890,"share":1.000000000000000001,"far":1e400}"#;
        for payload in [
            format!(r#"{{"path":"x","body":{body}}}"#),
            format!(r#"{{"body":{body}}}"#),
        ] {
            let call: CallApp = serde_json::from_str(&payload).unwrap();
            assert_eq!(call.message(String::new()).unwrap().body, body);
        }
        let own: CallApp =
            serde_json::from_str(r#"{"wei":123456789012345678901234567890}"#).unwrap();
        let sent = own.message(String::new()).unwrap().body;
        assert_eq!(sent, r#"{"wei":123456789012345678901234567890}"#);
    }

    #[test]
    fn a_message_of_the_applications_own_is_its_body_or_all_but_the_path() {
        for (payload, path, body) in [
            (json!({"a": 1}), &[][..], json!({"a": 1})),
            (
                json!({"path": "/x/y", "a": 1}),
                &["x", "y"],
                json!({"a": 1}),
            ),
            (
                json!({"path": "x", "body": [1], "a": 1}),
                &["x"],
                json!([1]),
            ),
        ] {
            let message = call(payload).message(String::new()).unwrap();
            assert_eq!(message.path, path);
            assert_eq!(message.body, body.to_string());
        }
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        for path in ["../admin", "a/../../b", "/./a"] {
            assert!(segments(path).is_err(), "{path}");
        }
    }

    #[test]
    fn the_id_of_a_message_changes_with_the_payload_alone() {
        let first = call(json!({"notice": "fees.changed", "change": 1}));
        assert_eq!(first.message_id(7), first.message_id(7));
        assert_ne!(first.message_id(7), first.message_id(8));
        let merged = call(json!({"notice": "fees.changed", "change": 2}));
        assert_ne!(first.message_id(7), merged.message_id(7));
    }

    #[test]
    fn a_notice_that_is_none_of_ours_is_refused() {
        let refused = call(json!({"notice": "something.else"})).notice();
        assert!(refused.is_err());
        assert_eq!(call(json!({"note": "x"})).notice().unwrap(), None);
    }
}
