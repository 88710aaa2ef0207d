//! Everything about a simulated Polar that its user may choose, with values that work as they are.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::faults::Faults;

/// How a [`Simulator`](crate::Simulator) starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// Waits and faults follow from it; ids do not, they are new in every run.
    pub seed: u64,
    /// Which faults happen how often.
    pub faults: Faults,
    /// The organization access token that calls must carry.
    pub access_token: String,
    /// The organization that owns plans and customers.
    pub organization_id: Uuid,
    /// What deliveries are signed with, prefix included.
    pub webhook_secret: String,
    /// Where deliveries go; `None` registers no endpoint.
    pub webhook_url: Option<String>,
    /// Calls per minute and organization before 429.
    pub rate_limit_per_minute: u32,
    /// More calls at once than this make Polar stand still for half a minute: it then fails or is slow; `None` for never.
    pub stall_above: Option<usize>,
    /// Where the simulated clock stands still until moved; `None` follows the machine's clock.
    pub now: Option<DateTime<Utc>>,
    /// Whether the plans of [`Product`](crate::Product) are there from the start.
    pub catalogue: bool,
    /// How long an invoice takes to be made.
    pub invoice_delay: Duration,
    /// How long each step of a customer's deletion takes to follow: first the grants end, then the subscriptions.
    pub deletion_delay: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            faults: Faults::default(),
            access_token: "polar_oat_simulator".into(),
            organization_id: Uuid::from_u128(0x5e1f_0000_0000_4000_8000_0000_0000_0001),
            webhook_secret: "whsec_SimulatorSimulatorSimulatorSimulator0000000".into(),
            webhook_url: None,
            rate_limit_per_minute: 500,
            stall_above: None,
            now: None,
            catalogue: true,
            invoice_delay: Duration::from_millis(500),
            deletion_delay: Duration::from_millis(20),
        }
    }
}
