//! Why: others act at Polar too, by hand or from another program, and always at the worst moment. An armed intervention
//! happens exactly between two steps of one request, so that a race is lost or won on purpose.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::call::Call;
use crate::control;
use crate::gate::{Point, RequestMatch};
use crate::routes::{self, Found};
use crate::shared::Shared;

/// What somebody else does: a call of the API, with all rights, or of the control surface.
#[derive(Debug, Clone)]
pub struct Intervention {
    method: String,
    target: String,
    body: Value,
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

    fn take(&self, method: &str, path: &str, point: Point) -> Vec<(Intervention, Armed)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.extract_if(.., |(matching, _, _)| matching.takes(method, path, point));
        taken.map(|(_, what, armed)| (what, armed)).collect()
    }
}

/// Lets everything happen that was armed for this point of this request.
pub(crate) async fn intervene(shared: &Arc<Shared>, method: &str, path: &str, point: Point) {
    for (intervention, armed) in shared.interventions.take(method, path, point) {
        let status = perform(shared, &intervention).await;
        *armed.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }
}

async fn perform(shared: &Arc<Shared>, intervention: &Intervention) -> u16 {
    let Intervention {
        method,
        target,
        body,
    } = intervention;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if let Some(path) = path.strip_prefix("/simulator/") {
        let path: Vec<&str> = path.split('/').collect();
        let outcome = control::act(shared, method, &path, body).await;
        return outcome.map_or_else(|(status, _)| status.as_u16(), |_| 200);
    }
    let Found::Route(route, params) = routes::find(method, path) else {
        return 404;
    };
    let mut store = shared.lock();
    let query = format!("http://polar/?{query}");
    let query = reqwest::Url::parse(&query)
        .map_or(Vec::new(), |url| url.query_pairs().into_owned().collect());
    let call = Call {
        params,
        query,
        body: body.clone(),
        arrival: store.revision,
        base_url: "http://polar".to_owned(),
    };
    let outcome = (route.handler)(&mut store, &call);
    outcome.map_or_else(|refusal| refusal.status, |reply| reply.status)
}
