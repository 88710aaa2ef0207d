//! Others change things at Polar too, by hand or from another program, and always at the worst moment. An armed intervention
//! happens exactly between two steps of one request, so that a race is lost or won on purpose.

use std::sync::Arc;

use crate::http::armed::Intervention;
use crate::http::control;
use crate::http::hold::Point;
use crate::http::routes::{self, Found};
use crate::http::shared::Shared;
use crate::resources::call::Call;

/// Lets everything happen that was armed for this point of this request.
pub(crate) async fn intervene(shared: &Arc<Shared>, method: &str, path: &str, point: Point) {
    for (intervention, armed) in shared.interventions.take(method, path, point) {
        let status = perform(shared, &intervention).await;
        armed.happened(status);
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
        let outcome = control::obey(shared, method, &path, body).await;
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
        member: None,
        base_url: "http://polar".to_owned(),
    };
    let outcome = (route.handler)(&mut store, &call);
    outcome.map_or_else(|refusal| refusal.status, |reply| reply.status)
}
