// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which way the kernel sends what is for an address.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use rtnetlink::{
    RouteMessageBuilder,
    packet_core::NLM_F_ACK,
    packet_route::{
        RouteNetlinkMessage,
        route::{RouteAttribute, RouteMessage, RouteType},
    },
    sys::protocols::NETLINK_ROUTE,
};

use super::{netlink::Netlink, syscall};

/// A way out of the caller's network namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Route {
    /// It does not lead out: the address is one of this namespace.
    Here,
    /// By a device.
    Device {
        /// Its index.
        index: u32,
        /// Its name, or its index if it has gone meanwhile.
        name: String,
        /// Whether another host is in between.
        has_gateway: bool,
    },
    /// There is none.
    Missing,
}

impl Route {
    /// The way to an address.
    ///
    /// # Errors
    /// The kernel's, but for those that say that there is no way.
    pub fn to(address: IpAddr) -> io::Result<Self> {
        let message = match address {
            IpAddr::V4(v4) => {
                RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(v4, 32).build()
            }
            IpAddr::V6(v6) => {
                RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(v6, 128).build()
            }
        };
        let mut found = None;
        let mut netlink = Netlink::open(NETLINK_ROUTE)?;
        let asked = netlink.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_ACK, |answer| {
            if let RouteNetlinkMessage::NewRoute(route) = answer {
                found = Some(Self::of(&route));
            }
        });
        match asked {
            Ok(()) => Ok(found.unwrap_or(Self::Missing)),
            Err(error) if is_no_way(&error) => Ok(Self::Missing),
            Err(error) => Err(error),
        }
    }

    fn of(route: &RouteMessage) -> Self {
        let (mut device, mut has_gateway) = (None, false);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => device = Some(*index),
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => has_gateway = true,
                _ => {}
            }
        }
        match (route.header.kind, device) {
            (RouteType::Local, _) => Self::Here,
            (RouteType::Unicast, Some(index)) => {
                let name = syscall::device_name(index).unwrap_or_else(|_| index.to_string());
                Self::Device { index, name, has_gateway }
            }
            _ => Self::Missing,
        }
    }
}

/// What the kernel answers where a route is missing, or says that there is to be none.
fn is_no_way(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
    )
}
