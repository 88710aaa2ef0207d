//! The address that a person calls from, by which Polar guesses country and tax. A header is believed only where a
//! trusted proxy wrote it; anybody else could write anything there.

use std::net::IpAddr;

use axum::http::HeaderMap;
use ipnet::IpNet;

use super::caller::Caller;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub IpAddr);

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallerAddress {
    pub(super) address: IpAddr,
    /// Whether a trusted proxy forwarded it; otherwise it is the other end of the connection.
    pub(super) is_forwarded: bool,
}

impl CallerAddress {
    /// The address of the person for whom this is called. That of the application's server is not theirs, so it counts
    /// only where it was forwarded.
    pub(super) fn of_person(self, caller: Caller) -> Option<IpAddr> {
        (self.is_forwarded || caller.is_browser()).then_some(self.address)
    }
}

/// The caller's public address. Proxies append the address that they were called from, so the list is
/// read from its end: the first address that is no trusted proxy is the caller's. `None` where all are proxies, and for
/// a private address.
pub(super) fn caller_address(
    peer: Option<IpAddr>,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> Option<CallerAddress> {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer?.to_canonical();
    let is_forwarded = is_trusted(&peer);
    let address = if is_forwarded {
        forwarded_for(headers, is_trusted)?
    } else {
        peer
    };
    is_public(address).then_some(CallerAddress {
        address,
        is_forwarded,
    })
}

/// The last address of the list that is no trusted proxy; `None` where something after it is no address.
fn forwarded_for(headers: &HeaderMap, is_trusted: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let lists: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    for word in lists.iter().rev().flat_map(|list| list.rsplit(',')) {
        let address = word.trim().parse::<IpAddr>().ok()?.to_canonical();
        if !is_trusted(&address) {
            return Some(address);
        }
    }
    None
}

/// A private address says nothing about a place.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let shared = first == 100 && (64..128).contains(&second);
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || shared)
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobs::types::UserId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_a_trusted_proxy_says_where_a_caller_is_and_no_private_address_is_passed_on() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "203.0.113.80/32"]
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        for (peer, forwarded, caller) in [
            ("203.0.113.9", &[][..], Some("203.0.113.9")),
            ("203.0.113.9", &["198.51.100.1"], Some("203.0.113.9")),
            ("10.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            ("::ffff:10.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.1"], Some("198.51.100.1")),
            (
                "10.0.0.1",
                &["6.6.6.6", "198.51.100.1, 10.2.2.2"],
                Some("198.51.100.1"),
            ),
            ("10.0.0.1", &["198.51.100.1, nonsense"], None),
            ("10.0.0.1", &["192.168.1.4"], None),
            ("10.0.0.1", &[], None),
            ("127.0.0.1", &["198.51.100.1"], None),
            ("10.0.0.1", &["2001:db8::1"], Some("2001:db8::1")),
            ("10.0.0.1", &["203.0.113.80"], None),
        ] {
            let mut headers = HeaderMap::new();
            for list in forwarded {
                headers.append(FORWARDED_FOR, list.parse().unwrap());
            }
            let found = caller_address(Some(peer.parse().unwrap()), &headers, &trusted);
            let wanted: Option<IpAddr> = caller.map(|caller| caller.parse().unwrap());
            let address = found.map(|found| found.address);
            assert_eq!(address, wanted, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn the_address_of_the_applications_server_is_no_persons() {
        let address: IpAddr = "203.0.113.9".parse().unwrap();
        let person = UserId(Uuid::new_v4());
        for (is_forwarded, caller, expected) in [
            (false, Caller::Application, None),
            (false, Caller::Represented(person), None),
            (false, Caller::Person(person), Some(address)),
            (true, Caller::Represented(person), Some(address)),
        ] {
            let from = CallerAddress {
                address,
                is_forwarded,
            };
            assert_eq!(from.of_person(caller), expected);
        }
    }
}
