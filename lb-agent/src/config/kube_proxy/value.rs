// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a field may hold: kube-proxy's types and what its validation demands of them.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use serde_json::Value;

use crate::config::{BindAddress, BindAddressError};

/// What a field may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `kubeproxy.config.k8s.io/v1alpha1`.
    Version,
    /// `KubeProxyConfiguration`.
    Name,
    /// Any text.
    Text,
    /// A list of texts.
    Texts,
    /// `true` or `false`.
    Bool,
    /// A number from 0 on.
    Count,
    /// A bit of a mark: 0 to 31.
    Bit,
    /// -1000 to 1000.
    Score,
    /// A number with a fraction.
    Float,
    /// A time as Go writes it, `1h30m`; not below 0.
    Duration,
    /// The same, or a number of nanoseconds.
    Flush,
    /// Names and booleans.
    Gates,
    /// An IP address.
    Address,
    /// An address with or without a port; 10256 and 10249 are the ports by default.
    Healthz,
    /// The same of the metrics server.
    Metrics,
    /// One of the modes of Linux.
    Mode,
    /// `text` or `json`.
    Format,
    /// A way to detect local traffic.
    Local,
    /// CIDRs with commas between them.
    Cidrs,
    /// A list of CIDRs, or `primary` alone (CFG-05).
    Places,
    /// Anything.
    Any,
}

/// A value is none of its kind.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{value} is not {wanted}")]
pub struct KindError {
    value: Value,
    wanted: &'static str,
}

impl Kind {
    /// By its name in the table.
    pub(super) fn parse(name: &str) -> Option<Self> {
        KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// The value that a flag's text stands for.
    pub fn of_flag(self, text: &str) -> Value {
        match self {
            Self::Bool => text.parse::<bool>().map_or_else(|_| text.into(), Value::from),
            Self::Count | Self::Bit | Self::Score => {
                text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
            }
            Self::Float => text.parse::<f64>().map_or_else(|_| text.into(), Value::from),
            Self::Texts | Self::Places => text.split(',').map(str::trim).collect(),
            Self::Gates => text
                .split(',')
                .map(|gate| {
                    let (name, value) = gate.split_once('=').unwrap_or((gate, ""));
                    (name.to_owned(), Self::Bool.of_flag(value))
                })
                .collect(),
            _ => text.into(),
        }
    }

    /// Whether a value is one of the kind.
    ///
    /// # Errors
    /// What it would have to be.
    pub fn check(self, value: &Value) -> Result<(), KindError> {
        let good = match self {
            Self::Any => true,
            Self::Bool => value.is_boolean(),
            Self::Count => number(value, 0, i32::MAX.into()),
            Self::Bit => number(value, 0, 31),
            Self::Score => number(value, -1000, 1000),
            Self::Float => value.as_f64().is_some_and(|number| number >= 0.0),
            Self::Flush if value.is_u64() => true,
            Self::Texts => texts(value).is_some(),
            Self::Places => texts(value).is_some_and(|places| are_places(&places)),
            Self::Gates => {
                value.as_object().is_some_and(|gates| gates.values().all(Value::is_boolean))
            }
            _ => value.as_str().is_some_and(|text| self.admits(text)),
        };
        if good { Ok(()) } else { Err(KindError { value: value.clone(), wanted: self.wanted() }) }
    }

    /// Whether a text is one of the kind.
    fn admits(self, text: &str) -> bool {
        match self {
            Self::Version => text == "kubeproxy.config.k8s.io/v1alpha1",
            Self::Name => text == "KubeProxyConfiguration",
            Self::Mode => ["", "iptables", "ipvs", "nftables"].contains(&text),
            Self::Format => ["text", "json"].contains(&text),
            Self::Local => {
                let modes =
                    ["", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"];
                modes.contains(&text)
            }
            Self::Duration | Self::Flush => duration(text).is_some(),
            Self::Address => text.is_empty() || text.parse::<IpAddr>().is_ok(),
            Self::Healthz => bind_address(text, HEALTHZ_PORT).is_ok(),
            Self::Metrics => bind_address(text, METRICS_PORT).is_ok(),
            Self::Cidrs => {
                text.is_empty() || text.split(',').all(|part| part.trim().parse::<IpNet>().is_ok())
            }
            _ => true,
        }
    }

    /// What it would have to be.
    const fn wanted(self) -> &'static str {
        match self {
            Self::Version => "kubeproxy.config.k8s.io/v1alpha1",
            Self::Name => "KubeProxyConfiguration",
            Self::Text => "a text",
            Self::Texts => "a list of texts",
            Self::Bool => "true or false",
            Self::Count => "a number from 0 on",
            Self::Bit => "a number from 0 to 31",
            Self::Score => "a number from -1000 to 1000",
            Self::Float => "a number",
            Self::Duration | Self::Flush => "a time such as 30s or 1h30m",
            Self::Gates => "names with true or false",
            Self::Address => "an IP address",
            Self::Healthz | Self::Metrics => "ADDR:PORT",
            Self::Mode => "iptables, nftables, ipvs or empty",
            Self::Format => "text or json",
            Self::Local => "ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix or empty",
            Self::Cidrs => "CIDRs with commas between them",
            Self::Places => "a list of CIDRs, or of the word \"primary\" alone (CFG-05)",
            Self::Any => "anything",
        }
    }
}

/// A time as Go writes it: numbers with units, `1h30m`, `1.5s`, `300ms`, or `0`. `None` if it
/// is none, or below 0.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut sum = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let (number, tail) = rest.split_at(end);
        let units = tail.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(units);
        let (_, secs) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * secs).ok()?;
        sum = sum.checked_add(part)?;
        rest = tail;
    }
    Some(sum)
}

/// An address to listen on; a port that is missing is added (CFG-04).
///
/// # Errors
/// A text that is no address.
pub fn bind_address(text: &str, port: u16) -> Result<BindAddress, BindAddressError> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(BindAddress(Some((address, port).into()))),
        Err(_) => text.parse(),
    }
}

fn number(value: &Value, least: i64, most: i64) -> bool {
    value.as_i64().is_some_and(|number| (least..=most).contains(&number))
}

pub(super) fn texts(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}

/// CFG-05.
fn are_places(places: &[&str]) -> bool {
    places == ["primary"] || places.iter().all(|place| place.parse::<IpNet>().is_ok())
}

const KINDS: [(&str, Kind); 21] = [
    ("version", Kind::Version),
    ("kind", Kind::Name),
    ("text", Kind::Text),
    ("texts", Kind::Texts),
    ("bool", Kind::Bool),
    ("count", Kind::Count),
    ("bit", Kind::Bit),
    ("score", Kind::Score),
    ("float", Kind::Float),
    ("duration", Kind::Duration),
    ("flush", Kind::Flush),
    ("gates", Kind::Gates),
    ("address", Kind::Address),
    ("healthz", Kind::Healthz),
    ("metrics", Kind::Metrics),
    ("mode", Kind::Mode),
    ("format", Kind::Format),
    ("local", Kind::Local),
    ("cidrs", Kind::Cidrs),
    ("places", Kind::Places),
    ("any", Kind::Any),
];

/// Go's units, in seconds.
const UNITS: [(&str, f64); 7] = [
    ("h", 3600.0),
    ("m", 60.0),
    ("s", 1.0),
    ("ms", 1e-3),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ns", 1e-9),
];

/// The port of the health server.
pub const HEALTHZ_PORT: u16 = 10256;
/// The port of the metrics server.
pub const METRICS_PORT: u16 = 10249;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        let secs = |text| duration(text).map(|it| it.as_secs_f64());
        assert_eq!(secs("1h30m"), Some(5400.0));
        assert_eq!(secs("1.5s"), Some(1.5));
        assert_eq!(secs("300ms"), Some(0.3));
        assert_eq!(secs("0"), Some(0.0));
        for none in ["", "5", "-1s", "1d", "s", "1..2s"] {
            assert_eq!(secs(none), None, "{none}");
        }
    }

    /// CFG-05 and the rest of kube-proxy's validation: what each kind takes and refuses.
    #[test]
    fn cfg_05_each_kind_takes_what_kube_proxys_validation_takes() {
        for (kind, good, bad) in [
            (Kind::Bool, json!([true]), json!(["true", 1])),
            (Kind::Count, json!([0, 131_072]), json!([-1, "1", 1.5])),
            (Kind::Bit, json!([0, 31]), json!([32, -1])),
            (Kind::Score, json!([-1000, 1000]), json!([-1001])),
            (Kind::Float, json!([5, 0.5]), json!(["5", -1])),
            (Kind::Duration, json!(["30s", "0s"]), json!([30, "-1s", "soon"])),
            (Kind::Flush, json!(["5s", 5_000_000_000_u64]), json!([-1])),
            (Kind::Gates, json!([{}, {"A": true}]), json!([{"A": "true"}, []])),
            (Kind::Address, json!(["", "::", "192.0.2.1"]), json!(["192.0.2.1:80", "x"])),
            (Kind::Healthz, json!(["0.0.0.0", "[::]:1", "::"]), json!(["x", "1.2.3.4:x"])),
            (Kind::Mode, json!(["", "ipvs"]), json!(["kernelspace", "IPVS"])),
            (Kind::Format, json!(["text", "json"]), json!(["xml"])),
            (Kind::Local, json!(["", "NodeCIDR"]), json!(["nodecidr"])),
            (Kind::Cidrs, json!(["", "10.0.0.0/8,fd00::/8"]), json!(["10.0.0.0/33"])),
            (Kind::Texts, json!([[], ["a"]]), json!(["a", [1]])),
            (
                Kind::Places,
                json!([[], ["primary"], ["192.0.2.0/24", "::/0"]]),
                json!([["primary", "192.0.2.0/24"], ["all"], "primary", ["192.0.2.1"]]),
            ),
        ] {
            for value in good.as_array().unwrap() {
                assert_eq!(kind.check(value), Ok(()), "{kind:?}");
            }
            for value in bad.as_array().unwrap() {
                assert!(kind.check(value).is_err(), "{kind:?} {value}");
            }
        }
    }
}
