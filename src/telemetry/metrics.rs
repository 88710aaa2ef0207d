//! Numbers for Prometheus. Every name begins with `polar_jobs_`.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::catalogue;

/// Seconds, from a claim's millisecond to a job that waits on a slow Polar.
const SECONDS: [f64; 12] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 300.0,
];

/// How often old observations are folded away.
const UPKEEP: Duration = Duration::from_secs(5);

/// The page that Prometheus reads.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Starts recording for the whole process.
    ///
    /// # Errors
    /// When a recorder is installed already.
    pub fn install() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .build_recorder();
        let handle = recorder.handle();
        ::metrics::set_global_recorder(recorder).map_err(BuildError::FailedToSetGlobalRecorder)?;
        catalogue::describe();
        Ok(Self(handle))
    }

    /// The page as text.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// The handle, for whoever serves the page.
    #[must_use]
    pub fn handle(&self) -> PrometheusHandle {
        self.0.clone()
    }

    /// Keeps memory bounded while nobody reads the page; runs until dropped.
    pub async fn keep(self) {
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tick.tick().await;
            self.0.run_upkeep();
        }
    }
}
