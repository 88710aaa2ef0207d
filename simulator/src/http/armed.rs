//! Others change things at Polar too, by hand or from another program, and always at the worst moment. What they do is armed
//! for one point of one request, so that a race is lost or won on purpose.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::http::hold::{Point, RequestMatch};

/// What somebody else does: a call of the API, with all rights, or of the control surface.
#[derive(Debug, Clone)]
pub struct Intervention {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: Value,
}

impl Intervention {
    /// A request with this method, path with query, and body (null for none).
    #[must_use]
    pub fn call(method: &str, target: &str, body: Value) -> Self {
        Self {
            method: method.to_uppercase(),
            target: target.to_owned(),
            body,
        }
    }
}

/// An intervention that happens once, or did.
#[derive(Debug, Clone)]
pub struct Armed(Arc<Mutex<Option<u16>>>);

impl Armed {
    /// The status it was answered with; `None` while no request has met it.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is armed, in the order it was.
#[derive(Debug, Default)]
pub(crate) struct Interventions(Mutex<Vec<(RequestMatch, Intervention, Armed)>>);

impl Interventions {
    /// Arms one for the next request that matches.
    pub(crate) fn arm(&self, matching: RequestMatch, intervention: Intervention) -> Armed {
        let armed = Armed(Arc::default());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((matching, intervention, armed.clone()));
        armed
    }

    /// How many have not happened yet.
    pub(crate) fn waiting(&self) -> usize {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.len()
    }

    pub(crate) fn take(
        &self,
        method: &str,
        path: &str,
        point: Point,
    ) -> Vec<(Intervention, Armed)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.extract_if(.., |(matching, _, _)| matching.takes(method, path, point));
        taken.map(|(_, what, armed)| (what, armed)).collect()
    }
}

impl Armed {
    /// Notes that it happened and how it was answered.
    pub(crate) fn happened(&self, status: u16) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }
}
