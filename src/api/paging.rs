//! Lists by the page.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, FieldError};
use super::state::ApiState;

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// Counted from 1.
    #[param(minimum = 1, default = 1, required = false)]
    pub(super) page: u32,
    /// Items per page.
    #[param(minimum = 1, maximum = 100, default = 10, required = false)]
    pub(super) limit: u32,
}

/// Where a page is in its list.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(super) struct Pagination {
    /// Items in all.
    pub(super) total_count: u64,
    /// The number of the last page; 0 for an empty list.
    pub(super) max_page: u32,
}

impl Pagination {
    /// Of a list that is shown whole.
    pub(super) fn whole(items: usize) -> Self {
        Self {
            total_count: items as u64,
            max_page: u32::from(items > 0),
        }
    }
}

impl FromRequestParts<Arc<ApiState>> for Paging {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        _: &Arc<ApiState>,
    ) -> Result<Self, Self::Rejection> {
        let query = parts.uri.query().unwrap_or_default();
        let (mut paging, mut faults) = (Self { page: 1, limit: 10 }, Vec::new());
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "page" => paging.page = number(name, value, u32::MAX, &mut faults),
                "limit" => paging.limit = number(name, value, 100, &mut faults),
                _ => {}
            }
        }
        if faults.is_empty() {
            Ok(paging)
        } else {
            Err(ApiError::Invalid(faults))
        }
    }
}

fn number(name: &str, value: &str, most: u32, faults: &mut Vec<FieldError>) -> u32 {
    let read = value
        .parse()
        .ok()
        .filter(|number| (1..=most).contains(number));
    read.unwrap_or_else(|| {
        let msg = format!("must be a whole number from 1 to {most}");
        faults.push(FieldError::new("int_parsing", &["query", name], msg));
        1
    })
}
