//! What can come of a call, in kinds that lead to different actions.
//!
//! No error holds a request body, a token, a name or an address: errors are stored in the job
//! table and read by people. What Polar says in its own words is kept, shortened and masked.

use std::time::Duration;

use crate::{FieldFault, Invalid, Operation, Rejected, RejectedReason};

/// Why a call did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The call was not made; the rate limiter says when to ask again.
    #[error("the call was held back: {0}")]
    Rejected(Rejected),

    /// Status 429. No failure: wait and ask again; without a readable header, for one whole window
    /// of 60 s, which is what Polar always asks for.
    #[error("{operation}: Polar asks us to wait {} s", .retry_after.as_secs())]
    RateLimited {
        /// What was asked.
        operation: Operation,
        /// How long to wait; at least 1 s, at most 1 h.
        retry_after: Duration,
    },

    /// Status 401, whoever says it. The token is missing, unknown, expired or revoked, so every other
    /// call will fail too.
    #[error("{operation}: Polar refuses the access token{}; check POLAR_ACCESS_TOKEN", named(.error))]
    Unauthorized {
        /// What was asked.
        operation: Operation,
        /// Polar's name of the error.
        error: String,
        /// Polar's words.
        detail: Option<String>,
    },

    /// Status 403: the token lacks a scope, so every other call that needs it will fail too.
    #[error("{operation}: the access token lacks the scope {scope}")]
    MissingScope {
        /// What was asked.
        operation: Operation,
        /// The scope, as Polar names it, or as we know it where Polar does not.
        scope: String,
    },

    /// Status 403: the state of the thing does not allow it.
    #[error("{operation}: Polar does not allow it{}{}", named(.error), shown(.detail))]
    Forbidden {
        /// What was asked.
        operation: Operation,
        /// Polar's name of the error, such as `NotPermitted`.
        error: String,
        /// Polar's words.
        detail: Option<String>,
    },

    /// 404 about the thing asked for, in Polar's own words. Any other 404, which a wrong version, a
    /// wrong address or a gateway causes, must not pass as "already gone".
    #[error("{operation}: not found{}{}", named(.error), shown(.detail))]
    NotFound {
        /// What was asked.
        operation: Operation,
        /// Polar's name of the error, such as `ResourceNotFound`.
        error: String,
        /// Polar's words.
        detail: Option<String>,
    },

    /// Status 409. Its meaning depends on the call.
    #[error("{operation}: conflict{}{}", named(.error), shown(.detail))]
    Conflict {
        /// What was asked.
        operation: Operation,
        /// Polar's name of the error, such as `OrderNotEligibleForInvoice`.
        error: String,
        /// Polar's words.
        detail: Option<String>,
    },

    /// Status 422.
    #[error("{0}")]
    Invalid(Invalid),

    /// 402: a subscription change needed money that did not come.
    #[error("{operation}: payment failed{}{}", named(.error), shown(.detail))]
    PaymentFailed {
        /// What was asked.
        operation: Operation,
        /// Polar's name of the error.
        error: String,
        /// Polar's words, with the reason.
        detail: Option<String>,
    },

    /// A refusal that is not in Polar's words: it carries neither Polar's error body nor, usually,
    /// the `polar-version` header. A gateway, a proxy or a firewall on the way says nothing about
    /// the thing asked for, so this is like no answer. An API version that Polar does not know looks
    /// the same (404).
    #[error(
        "{operation}: {status} from something between us and Polar, not in Polar's words; see POLAR_API_URL and POLAR_API_VERSION"
    )]
    Intermediary {
        /// What was asked.
        operation: Operation,
        /// The status, 400..=499.
        status: u16,
    },

    /// 5xx: Polar is down, or stumbled over a race.
    #[error("{operation}: Polar answered {status}")]
    Unavailable {
        /// What was asked.
        operation: Operation,
        /// The status, 500..=599.
        status: u16,
    },

    /// No answer, or only a part of one. What we asked may have been done.
    #[error("{operation}: {cause}{}", shown(.detail))]
    Unreachable {
        /// What was asked.
        operation: Operation,
        /// How the exchange ended.
        cause: Interruption,
        /// The deepest cause, such as "Connection refused".
        detail: Option<String>,
    },

    /// A success whose body is not what the operation promises, or is larger than we accept.
    #[error("{operation}: Polar's answer cannot be read: {reason}")]
    Unreadable {
        /// What was asked.
        operation: Operation,
        /// What is wrong, without the content.
        reason: String,
    },

    /// A status that this operation never gives: a redirect (wrong slash or address), a 404 about
    /// the route, a 400, a 405, a 413.
    #[error("{operation}: unexpected answer {status}{}{}", named(.error), shown(.detail))]
    Unexpected {
        /// What was asked.
        operation: Operation,
        /// The status.
        status: u16,
        /// Polar's name of the error; empty when there was none.
        error: String,
        /// Polar's words.
        detail: Option<String>,
    },

    /// The client only reads, so nothing was sent; see [`crate::Client::read_only`].
    #[error("{operation} ({fields})")]
    NotSent {
        /// What was to be sent.
        operation: Operation,
        /// The names of the fields of its body.
        fields: String,
    },

    /// An id that no address can hold: empty, `.` or `..`. Nothing was sent.
    #[error("{operation}: an id in the path is empty or made of dots, so no address names it")]
    Unaddressable {
        /// What was to be asked.
        operation: Operation,
    },
}

/// How an exchange ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Interruption {
    /// No complete answer within the client's timeout.
    #[error("Polar did not answer in time")]
    Timeout,
    /// No connection: name look-up, refusal, TLS.
    #[error("Polar cannot be reached")]
    Connection,
    /// The connection broke after the request was under way.
    #[error("the connection to Polar broke")]
    Broken,
}

impl Error {
    /// What was asked, where a call was made.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        match self {
            Self::Rejected(_) => None,
            Self::Invalid(invalid) => Some(invalid.operation),
            Self::RateLimited { operation, .. }
            | Self::Unauthorized { operation, .. }
            | Self::MissingScope { operation, .. }
            | Self::Forbidden { operation, .. }
            | Self::NotFound { operation, .. }
            | Self::Conflict { operation, .. }
            | Self::PaymentFailed { operation, .. }
            | Self::Intermediary { operation, .. }
            | Self::Unavailable { operation, .. }
            | Self::Unreachable { operation, .. }
            | Self::Unreadable { operation, .. }
            | Self::Unexpected { operation, .. }
            | Self::NotSent { operation, .. }
            | Self::Unaddressable { operation } => Some(*operation),
        }
    }

    /// It is about the access token, not about what was asked: refused, or without a scope that this needs.
    #[must_use]
    pub fn is_about_token(&self) -> bool {
        matches!(self, Self::Unauthorized { .. } | Self::MissingScope { .. })
    }

    /// The token lacks a scope that this needs, whether Polar says so or the limiter remembers.
    #[must_use]
    pub fn lacks_scope(&self) -> bool {
        match self {
            Self::MissingScope { .. } => true,
            Self::Rejected(rejected) => {
                matches!(rejected.reason, RejectedReason::MissingScope(_))
            }
            _ => false,
        }
    }

    /// Polar says that the thing asked for does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Polar is down as far as this call can tell: a 5xx, a timeout, no connection, or an answer of
    /// something in between.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Unreachable { .. } | Self::Intermediary { .. }
        )
    }

    /// The body was larger than Polar, or something on the way to it, takes: send less at once.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(
            self,
            Self::Unexpected { status: 413, .. } | Self::Intermediary { status: 413, .. }
        )
    }

    /// We seem to talk to the wrong address or route: a redirect, or a 404 or 405 about the route.
    /// Says nothing about the thing asked for, and is repaired by configuration.
    #[must_use]
    pub fn is_misdirected(&self) -> bool {
        matches!(
            self,
            Self::Unexpected {
                status: 300..=399 | 404 | 405,
                ..
            }
        )
    }

    /// The refused fields, if this is a 422.
    #[must_use]
    pub fn invalid(&self) -> Option<&Invalid> {
        match self {
            Self::Invalid(invalid) => Some(invalid),
            _ => None,
        }
    }

    /// The faults of a 422 whose path ends with one of these fields; empty otherwise.
    #[must_use]
    pub fn faults_at(&self, fields: &[&str]) -> Vec<&FieldFault> {
        self.invalid().map_or_else(Vec::new, |invalid| {
            invalid
                .faults
                .iter()
                .filter(|fault| fields.iter().any(|f| fault.is_at(f)))
                .collect()
        })
    }

    /// The order is a draft or void: there will be no invoice while it is.
    #[must_use]
    pub fn is_order_without_invoice(&self) -> bool {
        matches!(self, Self::Conflict { error, .. } if error == "OrderNotEligibleForInvoice")
    }

    /// Billing name or address is missing: there will be no invoice.
    #[must_use]
    pub fn lacks_billing_details(&self) -> bool {
        self.invalid()
            .is_some_and(|invalid| invalid.error == "MissingInvoiceBillingDetails")
    }

    /// See [`Invalid::is_duplicate_external_id`].
    #[must_use]
    pub fn is_duplicate_external_id(&self) -> bool {
        self.invalid()
            .is_some_and(Invalid::is_duplicate_external_id)
    }

    /// See [`Invalid::is_duplicate_email`].
    #[must_use]
    pub fn is_duplicate_email(&self) -> bool {
        self.invalid().is_some_and(Invalid::is_duplicate_email)
    }

    /// See [`Invalid::is_undeliverable_email`].
    #[must_use]
    pub fn is_undeliverable_email(&self) -> bool {
        self.invalid().is_some_and(Invalid::is_undeliverable_email)
    }

    /// See [`Invalid::is_sole_owner`].
    #[must_use]
    pub fn is_sole_owner(&self) -> bool {
        self.invalid().is_some_and(Invalid::is_sole_owner)
    }

    /// See [`Invalid::refused_indexes`]; empty for other errors. Positions are those of the slice
    /// given to [`crate::Events::ingest`].
    #[must_use]
    pub fn refused_indexes(&self) -> Vec<usize> {
        self.invalid()
            .map(Invalid::refused_indexes)
            .unwrap_or_default()
    }
}

/// Turns "not found" into `None`, for the many calls where absence is an answer.
pub trait OrAbsent<T> {
    /// `Ok(None)` if the thing does not exist.
    ///
    /// # Errors
    /// Every other error, unchanged.
    fn or_absent(self) -> Result<Option<T>, Error>;
}

impl<T> OrAbsent<T> for Result<T, Error> {
    fn or_absent(self) -> Result<Option<T>, Error> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn shown(detail: &Option<String>) -> String {
    detail
        .as_ref()
        .map(|detail| format!(": {detail}"))
        .unwrap_or_default()
}

fn named(error: &str) -> String {
    if error.is_empty() {
        String::new()
    } else {
        format!(" ({error})")
    }
}
