//! `polar-jobs simulator`: a local Polar in a process of its own, and acts in one from another shell.

mod act;
mod remote;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context;
use clap::Args;
use simulator::{CONTROL_ROUTES, Faults, Options, PlainOptions, PlainSimulator, Simulator};

use super::signals::Stop;
use super::{AppContext, Exit, Failure, output};

/// Where the simulator listens unless told otherwise.
const DEFAULT_PORT: u16 = 4010;

/// Without a subcommand the simulator runs here.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, after_long_help = routes())]
pub(super) struct Arguments {
    #[command(subcommand)]
    act: Option<act::Command>,
    #[command(flatten)]
    serve: Serve,
}

/// Arguments of `simulator`.
#[derive(Args)]
struct Serve {
    /// The port to listen on; 0 takes a free one
    #[arg(long, default_value_t = DEFAULT_PORT)]
    port: u16,
    /// The port of a local Plain, the support desk; without it there is none
    #[arg(long, value_name = "PORT")]
    plain_port: Option<u16>,
    /// The address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// Where signed deliveries go, such as `http://127.0.0.1:8080/integrations/polar/webhook`
    #[arg(long, value_name = "URL", value_parser = web_address)]
    webhook_url: Option<String>,
    /// Faults and how often they happen: 20% for all of them together, or single ones, such as `lost=10%,timeout=5%`
    ///
    /// A name that is none lists those there are.
    #[arg(
        long,
        value_name = "SPEC",
        default_value = "",
        hide_default_value = true
    )]
    faults: Faults,
    /// Waits and faults follow from it
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

pub(super) async fn run(arguments: Arguments, app: &AppContext) -> Result<Exit, Failure> {
    match arguments.act {
        Some(command) => act::run(command, app).await,
        None => serve(arguments.serve).await,
    }
}

/// The routes beside the API, for the help.
fn routes() -> String {
    let mut text =
        "Beside Polar's API, the running simulator answers without a token:\n".to_owned();
    for route in CONTROL_ROUTES {
        // Writing into a string cannot fail.
        let _written = write!(
            text,
            "\n  {} {}\n      {}\n",
            route.method, route.path, route.what
        );
    }
    text
}

async fn serve(arguments: Serve) -> Result<Exit, Failure> {
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
    let plain = match arguments.plain_port {
        None => None,
        Some(port) => {
            let address = SocketAddr::new(arguments.bind, port);
            let plain = PlainSimulator::start(PlainOptions::default(), address)
                .await
                .context("the local Plain cannot start")?;
            output::line(&format!("PLAIN_API_URL={}", plain.url()))?;
            output::line(&format!("PLAIN_TOKEN={}", plain.token()))?;
            output::line("PLAIN_DEFAULT_TIER_EXTERNAL_ID=free")?;
            Some(plain)
        }
    };
    output::line(&format!("Open {} for what is in it.", polar.url()))?;
    stop.requested().await;
    drop(plain);
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
