//! `polar-jobs simulator`

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context;
use clap::Args;
use simulator::{Faults, Options, Simulator};

use super::signals::Stop;
use super::{Exit, Failure, output};

/// Arguments of `simulator`.
#[derive(Args)]
pub(super) struct Arguments {
    /// The port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 4010)]
    port: u16,
    /// The address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// Where signed deliveries go, such as `http://127.0.0.1:8080/integrations/polar/webhook`
    #[arg(long, value_name = "URL", value_parser = web_address)]
    webhook_url: Option<String>,
    /// Faults and how often they happen, such as 20%
    #[arg(
        long,
        value_name = "SPEC",
        default_value = "",
        hide_default_value = true
    )]
    faults: Faults,
    /// Ids, waits and faults follow from it
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

pub(super) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let stop = Stop::on_signals()?;
    let options = Options {
        seed: arguments.seed,
        faults: arguments.faults,
        webhook_url: arguments.webhook_url,
        ..Options::default()
    };
    let address = SocketAddr::new(arguments.bind, arguments.port);
    let polar = Simulator::start(options, address)
        .await
        .context("the simulator cannot start")?;
    output::line("A local Polar answers. These settings lead to it:")?;
    output::line(&format!("POLAR_API_URL={}", polar.url()))?;
    output::line(&format!("POLAR_ACCESS_TOKEN={}", polar.access_token()))?;
    output::line(&format!(
        "POLAR_ORGANIZATION_ID={}",
        polar.organization_id()
    ))?;
    output::line(&format!("POLAR_WEBHOOK_SECRET={}", polar.webhook_secret()))?;
    stop.requested().await;
    Ok(Exit::Done)
}

/// An address that deliveries can go to; without its scheme each would fail in silence.
fn web_address(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(text.to_owned())
        }
        _ => Err("it must begin with http:// or https:// and name a host".to_owned()),
    }
}
