// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Addresses and CIDRs as lenient as Kubernetes reads stored objects (FAM-07).

use std::net::IpAddr;

use ipnet::IpNet;

use super::Complaints;
use crate::model::{Family, issue::Problem};

/// An address in its canonical form: leading zeros are decimal, an IPv4-mapped IPv6 address
/// is the IPv4 address. `None` if the text is no address.
pub(super) fn parse_address(text: &str) -> Option<IpAddr> {
    let address = text.parse().ok().or_else(|| without_leading_zeros(text).parse().ok())?;
    Some(IpAddr::to_canonical(&address))
}

/// A CIDR, masked to its network. The prefix length may have leading zeros.
pub(super) fn parse_cidr(text: &str) -> Option<IpNet> {
    let (address, prefix) = text.split_once('/')?;
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let prefix = without_leading_zeros(prefix).parse().ok()?;
    let raw: IpAddr = address.parse().or_else(|_| without_leading_zeros(address).parse()).ok()?;
    let (address, prefix) = match (raw.to_canonical(), raw) {
        // A mapped address with at least the mapping's 96 bits fixed is an IPv4 network.
        (mapped @ IpAddr::V4(_), IpAddr::V6(_)) if prefix >= MAPPED_BITS => {
            (mapped, prefix - MAPPED_BITS)
        }
        _ => (raw, prefix),
    };
    IpNet::new(address, prefix).ok().map(|net| net.trunc())
}

/// The addresses of a list of texts, each once; what is none of them becomes an issue.
/// Empty texts are skipped silently (XIP-03).
pub(super) fn addresses<'a>(
    texts: impl Iterator<Item = (String, &'a str)>,
    forbidden: fn(IpAddr) -> bool,
    complaints: &mut Complaints,
) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for (field, text) in texts.filter(|(_, text)| !text.is_empty()) {
        match parse_address(text) {
            None => complaints.add(field, Problem::Address { value: text.to_owned() }),
            Some(address) if forbidden(address) => {
                complaints.add(field, Problem::Special { value: text.to_owned() });
            }
            Some(address) if found.contains(&address) => {}
            Some(address) => found.push(address),
        }
    }
    found
}

/// Loopback or unspecified: every pod has its own, so no Service may take it over.
pub(super) fn is_own(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_loopback()
}

/// What the API refuses in new objects: also link-local addresses (COL-08, EPS-15).
pub(super) fn is_special(address: IpAddr) -> bool {
    is_own(address)
        || match address {
            IpAddr::V4(v4) => v4.is_link_local() || (v4.octets()[..3] == [224, 0, 0]),
            IpAddr::V6(v6) => v6.is_unicast_link_local() || (v6.segments()[0] & 0xff0f == 0xff02),
        }
}

/// The family that `ipFamilies` or `addressType` names.
pub(super) fn family(text: &str) -> Option<Family> {
    match text {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    }
}

/// The text with the leading zeros of each run of hex digits taken away.
fn without_leading_zeros(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut leading = true;
    let mut rest = text.chars().peekable();
    while let Some(at) = rest.next() {
        let digit_follows = rest.peek().is_some_and(char::is_ascii_hexdigit);
        if !(leading && at == '0' && digit_follows) {
            leading = !at.is_ascii_hexdigit();
            out.push(at);
        }
    }
    out
}

/// The bits of `::ffff:0:0/96`.
const MAPPED_BITS: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fam_07_addresses_are_read_leniently_and_made_canonical() {
        let cases = [
            ("10.96.0.1", Some("10.96.0.1")),
            ("010.096.000.001", Some("10.96.0.1")),
            ("0000010.0.0.08", Some("10.0.0.8")),
            ("0.0.0.0", Some("0.0.0.0")),
            ("FD00:00:0000:0::01", Some("fd00::1")),
            ("fd00::0000001", Some("fd00::1")),
            ("::ffff:010.0.0.1", Some("10.0.0.1")),
            ("10.0.0.256", None),
            ("10.0.0", None),
            ("0x0a.0.0.1", None),
            (" 10.0.0.1", None),
            ("fe80::1%eth0", None),
            ("", None),
            ("web.example", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_address(text), expected.map(|it| it.parse().unwrap()), "{text:?}");
        }
    }

    #[test]
    fn fam_07_cidrs_are_masked_and_their_prefix_may_have_leading_zeros() {
        let cases = [
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("010.001.002.003/016", Some("10.1.0.0/16")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("::/00", Some("::/0")),
            ("fd00::1/64", Some("fd00::/64")),
            ("::ffff:10.1.2.3/104", Some("10.0.0.0/8")),
            ("10.0.0.0/33", None),
            ("10.0.0.0/-1", None),
            ("10.0.0.0/+8", None),
            ("10.0.0.0/", None),
            ("10.0.0.0", None),
            ("fd00::/129", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_cidr(text), expected.map(|it| it.parse().unwrap()), "{text:?}");
        }
    }
}
