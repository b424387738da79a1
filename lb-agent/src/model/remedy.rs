// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What to do about an issue, and the rule that it is about: for tables and programs, which the
//! message of a [`Problem`] has in one sentence.

use super::issue::{Problem, Unlocated};

impl Problem {
    /// The rule of docs/behaviour.md; empty if there is none.
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Address { .. } => "COL-05",
            Self::Family { .. } => "COL-07",
            Self::AddressType { .. } => "FAM-05",
            Self::Special { .. } => "COL-08",
            Self::Cidr { .. } => "LB-07",
            Self::ServiceCidr { .. } => "CIP-05",
            Self::Timeout { .. } => "COL-06",
            Self::DuplicatePort => "COL-01",
            Self::TooMany { .. } => "EPS-11",
            Self::Taken { .. } => "COL-02",
            Self::HealthCheckPort { .. } => "HCN-08",
            Self::LocalPorts { .. } => "NP-08",
            Self::Unlocated { .. } => "SOC-13",
            Self::Annotation { .. } => "SVC-11",
            Self::DirectAlone => "SVC-12",
            Self::Port { .. }
            | Self::Protocol { .. }
            | Self::More { .. }
            | Self::Nameless { .. }
            | Self::Full { .. }
            | Self::FlowsTight { .. }
            | Self::FlowsFull { .. }
            | Self::FlowsKept { .. }
            | Self::NoDevice { .. }
            | Self::Away { .. }
            | Self::Unserved { .. }
            | Self::Unwritten { .. } => "",
        }
    }

    /// What mends it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Address { .. } => "write an IPv4 or IPv6 address there".to_owned(),
            Self::Family { .. } => "write an address of the object's own family there".to_owned(),
            Self::AddressType { .. } => "have addressType IPv4, IPv6 or FQDN".to_owned(),
            Self::Special { .. } => "write an address that is the same for every host".to_owned(),
            Self::Cidr { .. } | Self::ServiceCidr { .. } => {
                "write it as 192.0.2.0/24 or 2001:db8::/32".to_owned()
            }
            Self::Port { .. } => "give a port from 1 to 65535".to_owned(),
            Self::Timeout { .. } => "give a timeout from 1 to 86400 s".to_owned(),
            Self::Annotation { allowed, .. } => format!("use one of {allowed}"),
            Self::DirectAlone => {
                "add the annotation sluice.dev/algorithm: maglev, or take this one away".to_owned()
            }
            Self::Protocol { .. } => "use TCP, UDP or SCTP".to_owned(),
            Self::DuplicatePort => "remove or rename one of the two".to_owned(),
            Self::TooMany { limit, .. } => format!("split the object: {limit} fit"),
            Self::More { .. } => "mend the first ones".to_owned(),
            Self::Nameless { field } => format!("give it a {field}"),
            Self::Taken { winner, .. } => {
                format!("give this Service another address or port, or remove {winner}")
            }
            Self::HealthCheckPort { address, .. } => format!(
                "see who listens (ss -ltnp sport = :{}) and stop it, or give another healthCheckNodePort",
                address.port()
            ),
            Self::LocalPorts { reserve, .. } => {
                format!("sysctl -w net.ipv4.ip_local_reserved_ports={reserve}")
            }
            Self::Full { remedy, .. } => remedy.to_string(),
            Self::FlowsTight { .. } | Self::FlowsFull { .. } => {
                "raise --max-flows, or see who opens them: lb-agent show flows --totals".to_owned()
            }
            Self::FlowsKept { .. } => {
                "restart the node, or run lb-agent unload before the next start, which ends open flows of clients outside".to_owned()
            }
            Self::NoDevice { .. } => "correct --devices, or wait until the device is there".to_owned(),
            Self::Away { .. } => "give a device the address, or the Node another one".to_owned(),
            Self::Unserved { .. } => {
                "see lb-agent show programs and lb-agent check; it is tried again every 30 s".to_owned()
            }
            Self::Unlocated { reason, .. } => remedy_of(reason).to_owned(),
            Self::Unwritten { .. } => {
                "it is tried again; see the agent's log and lb-agent check".to_owned()
            }
        }
    }
}

const fn remedy_of(reason: &Unlocated) -> &'static str {
    match reason {
        Unlocated::Route | Unlocated::Gateway => {
            "see whether the pod runs here: ip route get ADDRESS must name its device"
        }
        Unlocated::Neighbour => "wait until the pod sends something, or ping it once",
        Unlocated::Shared { .. } => {
            "give the pod a device of its own, or take the mark from it: its sockets are then served"
        }
    }
}
