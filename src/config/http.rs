//! The addresses we listen on, and who may post changes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use secrecy::SecretString;

use super::{ConfigError, Environment, secret};

/// The ingress and the metrics page.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// `BIND`: the address of the ingress.
    pub bind: IpAddr,
    /// `PORT`: its port; 0 lets the system choose.
    pub port: u16,
    /// `APP_TOKEN`: who may post changes; `None`: nobody.
    pub app_token: Option<SecretString>,
    /// `METRICS_BIND`: where a worker serves health and metrics; `None`: nowhere.
    pub metrics_bind: Option<SocketAddr>,
}

impl HttpSettings {
    /// The ingress's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port)
    }
}

pub(super) fn read(environment: &Environment) -> Result<HttpSettings, ConfigError> {
    Ok(HttpSettings {
        bind: bind(environment)?,
        port: environment.whole_number("PORT", 8080, 0..=u16::MAX)?,
        app_token: secret::token(environment, "APP_TOKEN")?,
        metrics_bind: metrics_bind(environment)?,
    })
}

fn bind(environment: &Environment) -> Result<IpAddr, ConfigError> {
    match environment.text("BIND")? {
        None => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Some(text) => parse_host(text).ok_or_else(|| {
            ConfigError::new(
                "BIND",
                "is not an IP address",
                "an IP address such as 127.0.0.1, 0.0.0.0 or ::",
            )
        }),
    }
}

fn metrics_bind(environment: &Environment) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(text) = environment.text("METRICS_BIND")? else {
        return Ok(None);
    };
    let address = text
        .rsplit_once(':')
        .and_then(|(host, port)| Some((parse_host(host)?, port.parse().ok()?)));
    match address {
        Some((host, port)) => Ok(Some(SocketAddr::new(host, port))),
        None => Err(ConfigError::new(
            "METRICS_BIND",
            "is not host:port",
            "localhost or an IP address, and a port, such as 127.0.0.1:9090",
        )),
    }
}

fn parse_host(text: &str) -> Option<IpAddr> {
    match text {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        bracketed => bracketed
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .ok(),
    }
}
