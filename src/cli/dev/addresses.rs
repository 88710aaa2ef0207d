//! Where the servers of `dev` listen: where they did in the run before on the same data directory, so that workers and
//! shells that know those addresses go on with the new run. A worker that asks an address where nobody listens any more
//! would find that Polar is down, and stop the calls of all others.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use reqwest::Url;

use super::settings_file;
use crate::config::Environment;

/// The addresses of the run before.
pub(super) struct Addresses {
    before: Environment,
}

impl Addresses {
    /// Reads them, before this run writes its own; none where there was no run before.
    pub(super) fn of_run_before(data: &Path) -> Self {
        let before = Environment::of_file(&settings_file::path(data));
        Self {
            before: before.unwrap_or_default(),
        }
    }

    /// Starts a server where this setting led to in the run before, or on a free port where that cannot be had.
    pub(super) async fn start<T, E>(
        &self,
        setting: &'static str,
        start: impl AsyncFn(SocketAddr) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(address) = self.of(setting)
            && let Ok(started) = start(address).await
        {
            return Ok(started);
        }
        start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    fn of(&self, setting: &'static str) -> Option<SocketAddr> {
        let url = Url::parse(self.before.text(setting).ok()??).ok()?;
        let here = url.host_str() == Some("127.0.0.1");
        let port = url.port().filter(|_| here)?;
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }
}
