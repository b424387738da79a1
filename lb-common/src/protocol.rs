// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Transport protocols by their IANA numbers.

use core::fmt;

use bytemuck::{Pod, Zeroable};

/// A transport protocol number (IANA "Assigned Internet Protocol Numbers").
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(C)]
pub struct Protocol {
    /// The number.
    pub number: u8,
}

impl Protocol {
    /// TCP.
    pub const TCP: Self = Self::from_number(6);
    /// UDP.
    pub const UDP: Self = Self::from_number(17);
    /// SCTP.
    pub const SCTP: Self = Self::from_number(132);
    /// ICMP over IPv4.
    pub const ICMP: Self = Self::from_number(1);
    /// ICMP over IPv6.
    pub const ICMPV6: Self = Self::from_number(58);
    /// No protocol of a Service; in IPv6 the number of an option header (RFC 8200).
    pub const NONE: Self = Self::from_number(0);

    /// From the number in an IP header.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        Self { number }
    }

    /// The protocol's row in the NODEPORTS map; `None` for one that Services do not have.
    #[inline(always)]
    pub const fn node_port_row(self) -> Option<u32> {
        match self {
            Self::TCP => Some(0),
            Self::UDP => Some(1),
            Self::SCTP => Some(2),
            Self { .. } => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TCP => f.pad("TCP"),
            Self::UDP => f.pad("UDP"),
            Self::SCTP => f.pad("SCTP"),
            Self { number } => number.fmt(f),
        }
    }
}
