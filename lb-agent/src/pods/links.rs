// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The node's devices, and which one leads to an address.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use futures_util::TryStreamExt as _;
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
        neighbour::{
            NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
        },
        route::{RouteAttribute, RouteMessage, RouteType},
    },
};

use crate::model::issue::Unlocated;

/// Every device of this network namespace.
pub(super) struct Links(BTreeMap<u32, Link>);

/// A device.
struct Link {
    name: Arc<str>,
    kind: Option<InfoKind>,
    /// The namespace of its other end, as this namespace numbers others.
    namespace: Option<i32>,
}

/// Reads all devices.
pub(super) async fn read(handle: &Handle) -> Result<Links, rtnetlink::Error> {
    let messages = handle.link().get().execute();
    let links = messages.try_filter_map(|message| async move { Ok(link_of(&message)) });
    Ok(Links(links.try_collect().await?))
}

impl Links {
    /// Whether the device is there.
    pub(super) fn has(&self, device: u32) -> bool {
        self.0.contains_key(&device)
    }

    /// The number of the namespace that a device's other end is in.
    pub(super) fn namespace(&self, device: u32) -> Option<i32> {
        self.0.get(&device)?.namespace
    }

    /// The device through which a pod with this address, and nobody else, sends and receives.
    pub(super) async fn locate(
        &self,
        handle: &Handle,
        address: IpAddr,
    ) -> Result<(u32, Arc<str>), Unlocated> {
        let mut device = route(handle, address).await?;
        if self.0.get(&device).is_some_and(|link| link.kind == Some(InfoKind::Bridge)) {
            device = port(handle, device, address).await?;
        }
        let link = self.0.get(&device).ok_or(Unlocated::Route)?;
        match link.kind {
            Some(InfoKind::Veth | InfoKind::Netkit | InfoKind::Tun) => {
                Ok((device, link.name.clone()))
            }
            _ => Err(Unlocated::Shared { device: link.name.to_string() }),
        }
    }
}

fn link_of(message: &LinkMessage) -> Option<(u32, Link)> {
    let (mut name, mut kind, mut namespace) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(Arc::from(text.as_str())),
            LinkAttribute::LinkNetNsId(id) => namespace = Some(*id),
            LinkAttribute::LinkInfo(of) => {
                kind = of.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.clone()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some((message.header.index, Link { name: name?, kind, namespace }))
}

/// The device of the node's own route to an address, if no other host is in between.
async fn route(handle: &Handle, address: IpAddr) -> Result<u32, Unlocated> {
    let query = match address {
        IpAddr::V4(v4) => {
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().destination_prefix(v4, 32).build()
        }
        IpAddr::V6(v6) => {
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().destination_prefix(v6, 128).build()
        }
    };
    let routes = handle.route().get(query).execute();
    let mut routes = std::pin::pin!(routes);
    let route = routes.try_next().await.ok().flatten().ok_or(Unlocated::Route)?;
    device_of(&route)
}

fn device_of(route: &RouteMessage) -> Result<u32, Unlocated> {
    if route.header.kind != RouteType::Unicast {
        return Err(Unlocated::Route);
    }
    let mut device = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => return Err(Unlocated::Gateway),
            _ => {}
        }
    }
    device.ok_or(Unlocated::Route)
}

/// The port of a bridge behind which an address is: by its neighbour's entry, and the bridge's
/// table of stations. Asks for the neighbour if it is not known.
async fn port(handle: &Handle, bridge: u32, address: IpAddr) -> Result<u32, Unlocated> {
    let neighbours = neighbours(handle, AddressFamily::Unspec).await;
    let station = neighbours.iter().find_map(|neighbour| {
        let is_it = neighbour.header.ifindex == bridge && destination(neighbour) == Some(address);
        station(neighbour).filter(|_| is_it)
    });
    let Some(station) = station else {
        let ask = handle.neighbours().add(bridge, address);
        let ask = ask.state(NeighbourState::None).flags(NeighbourFlags::Use).execute();
        // The next look tells whether it helped.
        if let Err(error) = ask.await {
            tracing::debug!(%address, %error, "no neighbour to ask for");
        }
        return Err(Unlocated::Neighbour);
    };
    let stations = handle.neighbours().get().set_address_family(AddressFamily::Bridge).execute();
    let stations: Vec<_> = stations.try_collect().await.unwrap_or_default();
    let port = stations.iter().find(|entry| {
        let of_bridge = |it: &NeighbourAttribute| *it == NeighbourAttribute::Controller(bridge);
        let is_learned = entry.header.state != NeighbourState::Permanent;
        is_learned
            && entry.attributes.iter().any(of_bridge)
            && self::station(entry) == Some(station)
    });
    port.map(|entry| entry.header.ifindex).ok_or(Unlocated::Neighbour)
}

async fn neighbours(handle: &Handle, family: AddressFamily) -> Vec<NeighbourMessage> {
    let entries = handle.neighbours().get().set_address_family(family).execute();
    entries.try_collect().await.unwrap_or_default()
}

fn destination(neighbour: &NeighbourMessage) -> Option<IpAddr> {
    neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some((*v4).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    })
}

fn station(neighbour: &NeighbourMessage) -> Option<&[u8]> {
    neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(address) => Some(address.as_slice()),
        _ => None,
    })
}
