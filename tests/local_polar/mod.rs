//! A local Polar for the tests of the product. When it goes, everything that it was asked is held against the published
//! description: no test needs to remember that.

#[path = "../../simulator/tests/common/description.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "the simulator's tests use the rest"
)]
mod description;
#[path = "../../simulator/tests/common/request.rs"]
#[allow(
    missing_docs,
    unreachable_pub,
    reason = "as the simulator's tests have it"
)]
mod request;

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use description::Description;
use polar::ClientConfig;
use request::Sent;
use simulator::records::RequestRecord;
use simulator::{Options, Simulator};

/// A simulator on a port of its own.
pub(crate) struct LocalPolar {
    simulator: Simulator,
    provoked: AtomicUsize,
}

impl LocalPolar {
    pub(crate) async fn start(options: Options) -> Self {
        let started = Simulator::start(options, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Self {
            simulator: started.await.unwrap(),
            provoked: AtomicUsize::new(0),
        }
    }

    /// For tests of how a refusal is handled: exactly this many requests are wrong on purpose.
    #[allow(dead_code, reason = "not every test provokes one")]
    pub(crate) fn provoked(&self, requests: usize) {
        self.provoked.store(requests, Ordering::Relaxed);
    }
}

/// What a client of a local Polar needs to know, or of somebody who answers in its place.
#[allow(dead_code, reason = "not every test program makes a client")]
pub(crate) fn client_config(
    base_url: String,
    access_token: &str,
    timeout: Duration,
) -> ClientConfig {
    ClientConfig {
        base_url,
        access_token: access_token.into(),
        version: polar::API_VERSION.to_owned(),
        timeout,
        user_agent: "polar-jobs tests".to_owned(),
    }
}

impl Deref for LocalPolar {
    type Target = Simulator;

    fn deref(&self) -> &Simulator {
        &self.simulator
    }
}

impl Drop for LocalPolar {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let wrong = wrong_ones(&self.simulator.requests());
            assert_eq!(
                wrong.len(),
                self.provoked.load(Ordering::Relaxed),
                "requests that are not as Polar describes them:\n{}",
                wrong.join("\n")
            );
        }
    }
}

fn wrong_ones(requests: &[RequestRecord]) -> Vec<String> {
    static DESCRIPTION: LazyLock<Mutex<Description>> =
        LazyLock::new(|| Mutex::new(Description::closed()));
    let mut description = DESCRIPTION.lock().unwrap_or_else(PoisonError::into_inner);
    let check = |request: &RequestRecord| {
        let sent = Sent {
            method: &request.method,
            target: &format!("{}?{}", request.path, request.query),
            version: request.version.as_deref(),
            authorization: request.authorization.as_deref(),
            content_type: request.content_type.as_deref(),
            body: &request.body,
        };
        let objections = sent.objections(&mut description);
        (!objections.is_empty()).then(|| objections.join("; "))
    };
    requests.iter().filter_map(check).collect()
}
