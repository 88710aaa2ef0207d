//! The errors that a request can end with. The body names the kind of error in a word that programs compare, and in a
//! sentence for people; neither holds a secret, a name or somebody else's id.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::log::Cause;

/// The body of every refusal but those of fields.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// Which kind of error, for programs.
    error: String,
    /// The same in words, for people.
    detail: String,
}

/// The body of a refusal of fields.
#[derive(Serialize, ToSchema)]
pub(super) struct ValidationErrorBody {
    /// `RequestValidationError`.
    error: String,
    /// One entry per fault.
    detail: Vec<FieldError>,
}

/// One refused field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct FieldError {
    /// The kind of fault, such as `missing`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The path to the field, beginning with `body` or `query`.
    pub(super) loc: Vec<String>,
    /// In words.
    pub(super) msg: String,
}

impl FieldError {
    pub(super) fn new(kind: &str, loc: &[&str], msg: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            loc: loc.iter().map(|step| (*step).to_owned()).collect(),
            msg: msg.into(),
        }
    }

    /// The request is refused as a whole, not for one of its fields.
    pub(super) fn of_body(msg: impl Into<String>) -> Self {
        Self::new("value_error", &["body"], msg)
    }
}

impl From<polar::FieldFault> for FieldError {
    fn from(fault: polar::FieldFault) -> Self {
        let step = |part: polar::LocPart| match part {
            polar::LocPart::Name(name) => name,
            polar::LocPart::Index(index) => index.to_string(),
        };
        Self {
            kind: fault.kind,
            loc: fault.loc.into_iter().map(step).collect(),
            msg: fault.message,
        }
    }
}

/// Why a request is refused.
#[derive(Debug)]
pub(super) enum ApiError {
    /// One of the fixed refusals.
    Refused(Refusal),
    /// Fields of the request are wrong.
    Invalid(Vec<FieldError>),
    /// Polar refused, or did not answer.
    Polar(polar::Error),
    /// The database failed.
    Database(sqlx::Error),
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        Self::Invalid(vec![error])
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<polar::Error> for ApiError {
    fn from(error: polar::Error) -> Self {
        Self::Polar(error)
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// The fixed refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NoCallers,
    Unauthorized,
    BadOnBehalfOf,
    BadIdempotencyKey,
    OrganizationNotFound,
    NotPermitted,
    NotConfigured,
    PlanNotFound,
    PlanGone,
    NotApproved,
    NoActiveSubscription,
    AlreadySubscribed,
    SubscriptionEnded,
    SubscriptionLocked,
    SubscriptionBusy,
    CustomerNotFound,
    CustomerNotReady,
    MemberNotReady,
    OrderNotFound,
    PaymentMethodNotFound,
    PaymentMethodInUse,
    GrantNotFound,
    PaymentFailed,
    RequestInProgress,
    OtherRequest,
    TooLarge,
    BrokenBody,
    Unknown,
    TooSlow,
    Unreadable,
    Internal,
}

/// What a caller reads of a refusal.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Which kind of error, for programs.
    kind: &'static str,
    /// In words, or one entry per refused field.
    detail: Value,
    /// When to ask again, in seconds; `None` = it stays refused.
    retry_after: Option<u64>,
}

impl Answer {
    fn new(
        status: StatusCode,
        kind: &'static str,
        detail: impl Into<Value>,
        retry_after: Option<u64>,
    ) -> Self {
        Self {
            status,
            kind,
            detail: detail.into(),
            retry_after,
        }
    }

    /// Polar cannot be asked now.
    fn unavailable(detail: &str, retry_after: u64) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "PolarUnavailable", detail, Some(retry_after))
    }

    pub(super) fn body(&self) -> Value {
        json!({ "error": self.kind, "detail": self.detail })
    }
}

impl Refusal {
    #[rustfmt::skip] // one line each reads as the table that it is
    fn answer(self) -> Answer {
        use StatusCode as S;
        match self {
            Self::NoCallers => Answer::new(S::SERVICE_UNAVAILABLE, "NotConfigured", "Neither APP_TOKEN nor APP_SESSION_SECRET is set.", Some(60)),
            Self::Unauthorized => Answer::new(S::UNAUTHORIZED, "Unauthorized", "Not authenticated.", None),
            Self::BadOnBehalfOf => Answer::new(S::BAD_REQUEST, "BadRequest", "On-Behalf-Of must be one user id, and only beside the application's token.", None),
            Self::BadIdempotencyKey => Answer::new(S::BAD_REQUEST, "BadRequest", "Idempotency-Key must be one text of 1 to 255 visible characters.", None),
            Self::OrganizationNotFound => Answer::new(S::NOT_FOUND, "ResourceNotFound", "Not found.", None),
            Self::NotPermitted => Answer::new(S::FORBIDDEN, "NotPermitted", "Your role in this organization does not allow it.", None),
            Self::NotConfigured => Answer::new(S::NOT_FOUND, "PolarSelfNotConfigured", "Billing is not configured.", None),
            Self::PlanNotFound => Answer::new(S::NOT_FOUND, "PolarSelfPlanNotFound", "There is no such plan.", None),
            Self::PlanGone => Answer::new(S::CONFLICT, "PolarSelfPlanGone", "The plan can no longer be chosen.", None),
            Self::NotApproved => Answer::new(S::FORBIDDEN, "PolarSelfNotApproved", "The organization is not approved.", None),
            Self::NoActiveSubscription => Answer::new(S::NOT_FOUND, "PolarSelfNoActiveSubscription", "There is no active subscription.", None),
            Self::AlreadySubscribed => Answer::new(S::CONFLICT, "PolarSelfAlreadySubscribed", "There is a subscription already: change it with PATCH.", None),
            Self::SubscriptionEnded => Answer::new(S::CONFLICT, "PolarSelfSubscriptionEnded", "The subscription has ended, is paused, or is not in force any more.", None),
            Self::SubscriptionLocked => Answer::new(S::CONFLICT, "PolarSelfSubscriptionLocked", "The subscription is being changed at Polar.", Some(5)),
            Self::SubscriptionBusy => Answer::new(S::CONFLICT, "PolarSelfSubscriptionBusy", "Another change of the subscription is under way.", Some(2)),
            Self::CustomerNotFound => Answer::new(S::NOT_FOUND, "PolarSelfCustomerNotFound", "The organization is no customer yet.", None),
            Self::CustomerNotReady => Answer::new(S::CONFLICT, "PolarSelfCustomerNotReady", "The organization is being made a customer.", Some(5)),
            Self::MemberNotReady => Answer::new(S::CONFLICT, "PolarSelfMemberNotReady", "You are being made known to Polar.", Some(5)),
            Self::OrderNotFound => Answer::new(S::NOT_FOUND, "PolarSelfOrderNotFound", "There is no such order, or no invoice yet.", None),
            Self::PaymentMethodNotFound => Answer::new(S::NOT_FOUND, "PolarSelfPaymentMethodNotFound", "There is no such payment method.", None),
            Self::PaymentMethodInUse => Answer::new(S::BAD_REQUEST, "PolarSelfPaymentMethodInUse", "A subscription needs this payment method.", None),
            Self::GrantNotFound => Answer::new(S::NOT_FOUND, "PolarSelfBenefitGrantNotFound", "There is no such benefit grant.", None),
            Self::PaymentFailed => Answer::new(S::PAYMENT_REQUIRED, "PaymentFailed", "The payment failed; the subscription is unchanged.", None),
            Self::RequestInProgress => Answer::new(S::CONFLICT, "RequestInProgress", "A request with this Idempotency-Key is under way.", Some(2)),
            Self::OtherRequest => Answer::new(S::UNPROCESSABLE_ENTITY, "IdempotencyKeyReused", "This Idempotency-Key was used with another body.", None),
            Self::TooLarge => Answer::new(S::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge", "The body is larger than 64 KiB.", None),
            Self::BrokenBody => Answer::new(S::BAD_REQUEST, "BadRequest", "The body broke off.", None),
            Self::Unknown => Answer::new(S::SERVICE_UNAVAILABLE, "PolarUnavailable", "Polar did not say whether the change was made: ask again.", Some(5)),
            Self::TooSlow => Answer::new(S::SERVICE_UNAVAILABLE, "PolarUnavailable", "Polar takes too long: ask again.", Some(5)),
            Self::Unreadable => Answer::new(S::BAD_GATEWAY, "PolarUnreadable", "Polar's answer cannot be used.", None),
            Self::Internal => Answer::new(S::INTERNAL_SERVER_ERROR, "InternalServerError", "Something failed on our side.", None),
        }
    }
}

/// When to ask again after a failure of Polar or of the database, in seconds.
const RETRY_AFTER_FAILURE: u64 = 5;
/// The same after a refused token or a missing scope: the limiter tries one again once a minute.
const RETRY_AFTER_REFUSED_TOKEN: u64 = 60;

impl ApiError {
    fn answer(&self) -> Answer {
        match self {
            Self::Refused(refusal) => refusal.answer(),
            Self::Invalid(fields) => Answer::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "RequestValidationError",
                json!(fields),
                None,
            ),
            Self::Database(_) => Answer::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "DatabaseUnavailable",
                "The database does not answer.",
                Some(RETRY_AFTER_FAILURE),
            ),
            Self::Polar(error) => answer_to_polar(error),
        }
    }

    /// The answer, where it would be the same if it were asked again. `None` also for what is on its way: the
    /// customer that is being made, the role that Polar does not know yet.
    pub(super) fn final_answer(&self) -> Option<Answer> {
        let is_on_its_way = matches!(
            self,
            Self::Refused(Refusal::CustomerNotFound) | Self::Polar(polar::Error::Forbidden { .. })
        );
        Some(self.answer()).filter(|answer| {
            answer.status.is_client_error() && answer.retry_after.is_none() && !is_on_its_way
        })
    }

    /// What operators read in the log and callers never see.
    fn cause(&self) -> Option<String> {
        match self {
            Self::Polar(error) => Some(error.to_string()),
            Self::Database(error) => Some(format!("database: {error}")),
            Self::Refused(_) | Self::Invalid(_) => None,
        }
    }
}

/// The answer to an error of Polar that its route does not name itself.
fn answer_to_polar(error: &polar::Error) -> Answer {
    match error {
        polar::Error::Rejected(rejected) => {
            Answer::unavailable("Polar is busy.", whole_seconds(rejected.retry_after))
        }
        polar::Error::RateLimited { retry_after, .. } => {
            Answer::unavailable("Polar is busy.", whole_seconds(*retry_after))
        }
        polar::Error::Unauthorized { .. } | polar::Error::MissingScope { .. } => {
            let detail = "Polar cannot be asked at the moment.";
            Answer::unavailable(detail, RETRY_AFTER_REFUSED_TOKEN)
        }
        polar::Error::Unavailable { .. }
        | polar::Error::Unreachable { .. }
        | polar::Error::Intermediary { .. } => {
            Answer::unavailable("Polar does not answer.", RETRY_AFTER_FAILURE)
        }
        polar::Error::PaymentFailed { .. } => Refusal::PaymentFailed.answer(),
        polar::Error::Forbidden { error, .. } if is_ended(error) => {
            Refusal::SubscriptionEnded.answer()
        }
        polar::Error::Forbidden { .. } => Refusal::NotPermitted.answer(),
        polar::Error::Conflict { .. } => Refusal::SubscriptionLocked.answer(),
        polar::Error::NotFound { .. } | polar::Error::Unaddressable { .. } => {
            Refusal::OrganizationNotFound.answer()
        }
        polar::Error::Invalid(_)
        | polar::Error::NotSent { .. }
        | polar::Error::Unreadable { .. }
        | polar::Error::Unexpected { .. } => Refusal::Unreadable.answer(),
    }
}

/// Polar's names for a subscription that takes no change any more.
fn is_ended(error: &str) -> bool {
    matches!(
        error,
        "AlreadyCanceledSubscription" | "InactiveSubscription"
    )
}

/// Rounded up, so that nobody comes too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let answer = self.answer();
        let mut response = (answer.status, Json(answer.body())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = answer.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if answer.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(cause) = self.cause() {
            response.extensions_mut().insert(Cause(cause));
        }
        response
    }
}
