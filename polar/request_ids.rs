//! The ids under which Polar knows our calls, for whoever asks its support about one.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::HeaderMap;

/// The header that carries one, where something on Polar's side sets it.
const HEADER: &str = "x-request-id";
/// Longer ones are none.
const LONGEST: usize = 128;

/// Collects them from the calls of the clients that were given it; clones share what is collected.
#[derive(Clone, Debug, Default)]
pub struct RequestIds(Arc<Mutex<Vec<String>>>);

impl RequestIds {
    pub(crate) fn collect(&self, headers: &HeaderMap) {
        let id = headers.get(HEADER).and_then(|id| id.to_str().ok());
        if let Some(id) = id.filter(|id| id.len() <= LONGEST) {
            let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            ids.push(id.to_owned());
        }
    }

    /// All of them, separated by blanks; `None` where there are none.
    #[must_use]
    pub fn joined(&self) -> Option<String> {
        let ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!ids.is_empty()).then(|| ids.join(" "))
    }
}
