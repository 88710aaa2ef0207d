//! What a request can end with that is no success. The body says which kind of error it is in a word that
//! programs compare and in a sentence for people; neither holds a secret, a name or somebody else's id.

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

/// What a caller reads of a refusal: status, kind, words, and when to ask again, in seconds.
struct Words(StatusCode, &'static str, &'static str, Option<u64>);

impl Refusal {
    #[rustfmt::skip] // one line each reads as the table that it is
    fn words(self) -> Words {
        use StatusCode as S;
        match self {
            Self::NoCallers => Words(S::SERVICE_UNAVAILABLE, "NotConfigured", "Neither APP_TOKEN nor APP_SESSION_SECRET is set.", Some(60)),
            Self::Unauthorized => Words(S::UNAUTHORIZED, "Unauthorized", "Not authenticated.", None),
            Self::BadOnBehalfOf => Words(S::BAD_REQUEST, "BadRequest", "On-Behalf-Of must be one user id, and only beside the application's token.", None),
            Self::BadIdempotencyKey => Words(S::BAD_REQUEST, "BadRequest", "Idempotency-Key must be one text of 1 to 255 visible characters.", None),
            Self::OrganizationNotFound => Words(S::NOT_FOUND, "ResourceNotFound", "Not found.", None),
            Self::NotPermitted => Words(S::FORBIDDEN, "NotPermitted", "Your role in this organization does not allow it.", None),
            Self::NotConfigured => Words(S::NOT_FOUND, "PolarSelfNotConfigured", "Billing is not configured.", None),
            Self::PlanNotFound => Words(S::NOT_FOUND, "PolarSelfPlanNotFound", "There is no such plan.", None),
            Self::PlanGone => Words(S::CONFLICT, "PolarSelfPlanGone", "The plan can no longer be chosen.", None),
            Self::NotApproved => Words(S::FORBIDDEN, "PolarSelfNotApproved", "The organization is not approved.", None),
            Self::NoActiveSubscription => Words(S::NOT_FOUND, "PolarSelfNoActiveSubscription", "There is no active subscription.", None),
            Self::AlreadySubscribed => Words(S::CONFLICT, "PolarSelfAlreadySubscribed", "There is a subscription already: change it with PATCH.", None),
            Self::SubscriptionEnded => Words(S::CONFLICT, "PolarSelfSubscriptionEnded", "The subscription has ended, is paused, or is not in force any more.", None),
            Self::SubscriptionLocked => Words(S::CONFLICT, "PolarSelfSubscriptionLocked", "The subscription is being changed at Polar.", Some(5)),
            Self::SubscriptionBusy => Words(S::CONFLICT, "PolarSelfSubscriptionBusy", "Another change of the subscription is under way.", Some(2)),
            Self::CustomerNotFound => Words(S::NOT_FOUND, "PolarSelfCustomerNotFound", "The organization is no customer yet.", None),
            Self::CustomerNotReady => Words(S::CONFLICT, "PolarSelfCustomerNotReady", "The organization is being made a customer.", Some(5)),
            Self::MemberNotReady => Words(S::CONFLICT, "PolarSelfMemberNotReady", "You are being made known to Polar.", Some(5)),
            Self::OrderNotFound => Words(S::NOT_FOUND, "PolarSelfOrderNotFound", "There is no such order, or no invoice yet.", None),
            Self::PaymentMethodNotFound => Words(S::NOT_FOUND, "PolarSelfPaymentMethodNotFound", "There is no such payment method.", None),
            Self::PaymentMethodInUse => Words(S::BAD_REQUEST, "PolarSelfPaymentMethodInUse", "A subscription needs this payment method.", None),
            Self::GrantNotFound => Words(S::NOT_FOUND, "PolarSelfBenefitGrantNotFound", "There is no such benefit grant.", None),
            Self::PaymentFailed => Words(S::PAYMENT_REQUIRED, "PaymentFailed", "The payment failed; the subscription is unchanged.", None),
            Self::RequestInProgress => Words(S::CONFLICT, "RequestInProgress", "A request with this Idempotency-Key is under way.", Some(2)),
            Self::OtherRequest => Words(S::UNPROCESSABLE_ENTITY, "IdempotencyKeyReused", "This Idempotency-Key was used with another body.", None),
            Self::TooLarge => Words(S::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge", "The body is larger than 64 KiB.", None),
            Self::BrokenBody => Words(S::BAD_REQUEST, "BadRequest", "The body broke off.", None),
            Self::Unknown => Words(S::SERVICE_UNAVAILABLE, "PolarUnavailable", "Polar did not say whether the change was made: ask again.", Some(5)),
            Self::TooSlow => Words(S::SERVICE_UNAVAILABLE, "PolarUnavailable", "Polar takes too long: ask again.", Some(5)),
            Self::Unreadable => Words(S::BAD_GATEWAY, "PolarUnreadable", "Polar's answer cannot be used.", None),
            Self::Internal => Words(S::INTERNAL_SERVER_ERROR, "InternalServerError", "Something failed on our side.", None),
        }
    }
}

/// When it is worth asking again after a failure of Polar or of the database.
const FAILURE_SECONDS: u64 = 5;
/// The limiter tries a refused token, or a missing scope, once a minute.
const TOKEN_SECONDS: u64 = 60;

impl ApiError {
    /// Status, kind, detail and when to ask again.
    fn parts(&self) -> (StatusCode, &'static str, Value, Option<u64>) {
        match self {
            Self::Refused(refusal) => fixed(*refusal),
            Self::Invalid(fields) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "RequestValidationError",
                json!(fields),
                None,
            ),
            Self::Database(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "DatabaseUnavailable",
                "The database does not answer.".into(),
                Some(FAILURE_SECONDS),
            ),
            Self::Polar(error) => of_polar(error),
        }
    }

    /// Status and body, where they are worth keeping: a refusal that stays one when it is asked again. Not what is
    /// on its way: the customer that is being made, the role that Polar does not know yet.
    pub(super) fn kept(&self) -> Option<(StatusCode, String)> {
        let (status, kind, detail, retry_after) = self.parts();
        let is_on_its_way = matches!(
            self,
            Self::Refused(Refusal::CustomerNotFound) | Self::Polar(polar::Error::Forbidden { .. })
        );
        let is_final = status.is_client_error() && retry_after.is_none() && !is_on_its_way;
        is_final.then(|| {
            let body = json!({ "error": kind, "detail": detail });
            (status, body.to_string())
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

fn fixed(refusal: Refusal) -> (StatusCode, &'static str, Value, Option<u64>) {
    let Words(status, kind, detail, retry_after) = refusal.words();
    (status, kind, detail.into(), retry_after)
}

fn unavailable(detail: &str, seconds: u64) -> (StatusCode, &'static str, Value, Option<u64>) {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    (status, "PolarUnavailable", detail.into(), Some(seconds))
}

/// What a caller hears of an error of Polar for which a route has no words of its own.
fn of_polar(error: &polar::Error) -> (StatusCode, &'static str, Value, Option<u64>) {
    match error {
        polar::Error::Rejected(rejected) => {
            unavailable("Polar is busy.", seconds(rejected.retry_after))
        }
        polar::Error::RateLimited { retry_after, .. } => {
            unavailable("Polar is busy.", seconds(*retry_after))
        }
        polar::Error::Unauthorized { .. } | polar::Error::MissingScope { .. } => {
            unavailable("Polar cannot be asked at the moment.", TOKEN_SECONDS)
        }
        polar::Error::Unavailable { .. }
        | polar::Error::Unreachable { .. }
        | polar::Error::Intermediary { .. } => {
            unavailable("Polar does not answer.", FAILURE_SECONDS)
        }
        polar::Error::PaymentFailed { .. } => fixed(Refusal::PaymentFailed),
        polar::Error::Forbidden { error, .. } if is_ended(error) => {
            fixed(Refusal::SubscriptionEnded)
        }
        polar::Error::Forbidden { .. } => fixed(Refusal::NotPermitted),
        polar::Error::Conflict { .. } => fixed(Refusal::SubscriptionLocked),
        polar::Error::NotFound { .. } | polar::Error::Unaddressable { .. } => {
            fixed(Refusal::OrganizationNotFound)
        }
        polar::Error::Invalid(_)
        | polar::Error::NotSent { .. }
        | polar::Error::Unreadable { .. }
        | polar::Error::Unexpected { .. } => fixed(Refusal::Unreadable),
    }
}

/// Polar's names for a subscription that takes no change any more.
fn is_ended(error: &str) -> bool {
    matches!(
        error,
        "AlreadyCanceledSubscription" | "InactiveSubscription"
    )
}

fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, kind, detail, retry_after) = self.parts();
        let body = Json(json!({ "error": kind, "detail": detail }));
        let mut response = (status, body).into_response();
        if let Some(seconds) = retry_after {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(cause) = self.cause() {
            response.extensions_mut().insert(Cause(cause));
        }
        response
    }
}
