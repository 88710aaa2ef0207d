//! Where a person calls from, which Polar guesses country and tax by. A header says so only where a
//! proxy of ours wrote it; anybody else could write anything there.

use std::net::IpAddr;

use axum::http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub IpAddr);

/// The caller's public address. Proxies append the address that they were called from, so the list is
/// read from its end: the first address that is no trusted proxy is the caller's.
pub(super) fn caller_address(
    peer: Option<IpAddr>,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> Option<IpAddr> {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut caller = peer?.to_canonical();
    if is_trusted(&caller) {
        let lists: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let forwarded = lists.iter().rev().flat_map(|list| list.rsplit(','));
        for word in forwarded {
            caller = word.trim().parse::<IpAddr>().ok()?.to_canonical();
            if !is_trusted(&caller) {
                break;
            }
        }
    }
    is_public(caller).then_some(caller)
}

/// An address within a network of its own says nothing about a place.
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

    use super::*;

    #[test]
    fn only_a_trusted_proxy_says_where_a_caller_is_and_no_private_address_is_told() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
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
        ] {
            let mut headers = HeaderMap::new();
            for list in forwarded {
                headers.append(FORWARDED_FOR, list.parse().unwrap());
            }
            let found = caller_address(Some(peer.parse().unwrap()), &headers, &trusted);
            let wanted: Option<IpAddr> = caller.map(|caller| caller.parse().unwrap());
            assert_eq!(found, wanted, "{peer} {forwarded:?}");
        }
    }
}
