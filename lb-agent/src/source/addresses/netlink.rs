// SPDX-License-Identifier: Apache-2.0 OR MIT
//! This node's interfaces, addresses and default routes from the kernel, and when they change.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::{
    FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream::BoxStream,
};
use rtnetlink::{
    Handle, MulticastGroup, RouteMessageBuilder,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{LinkAttribute, LinkMessage},
        route::{RouteAttribute, RouteMessage, RouteType},
    },
};
use tokio::sync::mpsc;

use super::Interfaces;
use crate::{
    model::Family,
    source::{
        batch::Message,
        error::{Error, NetlinkError},
        status::{Place, Reporter},
    },
};

/// A netlink connection of the network namespace in which it was started.
pub(in crate::source) struct Watch {
    /// Carries what the others ask and get; ends when the socket does.
    connection: BoxFuture<'static, ()>,
    handle: Handle,
    events: BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
}

impl Watch {
    /// Opens the connection; the calling thread's network namespace is the one that counts.
    ///
    /// # Errors
    /// [`Error::Netlink`] if the kernel gives no socket.
    pub(in crate::source) fn start() -> Result<Self, Error> {
        let (connection, handle, events) = rtnetlink::new_multicast_connection(&GROUPS)
            .map_err(|error| Error::Netlink { source: NetlinkError::Socket(error) })?;
        let events = events.map(|(message, _)| message).boxed();
        Ok(Self { connection: connection.boxed(), handle, events })
    }

    /// Sends the interfaces, then again at each change, until the receiver ends (NP-12). One
    /// task with the connection: an agent that ends does not take its end for a fault.
    pub(in crate::source) async fn run(self, messages: mpsc::Sender<Message>, reporter: Reporter) {
        let Self { connection, handle, events } = self;
        tokio::select! {
            biased;
            () = connection => {
                let source = NetlinkError::Closed;
                reporter.failed(&Place::Addresses, Error::Netlink { source });
            }
            () = follow(&handle, events, &messages, &reporter) => {}
        }
    }
}

/// Sends the interfaces at first and at each change, until nobody listens or tells any more.
async fn follow(
    handle: &Handle,
    mut events: BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
    messages: &mpsc::Sender<Message>,
    reporter: &Reporter,
) {
    let mut sent = None;
    loop {
        match read(handle).await {
            Ok(interfaces) => {
                reporter.recovered(&Place::Addresses);
                if sent.as_ref() != Some(&interfaces) {
                    sent = Some(interfaces.clone());
                    if messages.send(Message::Interfaces(interfaces)).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let source = NetlinkError::Request(Box::new(error));
                reporter.failed(&Place::Addresses, Error::Netlink { source });
                tokio::time::sleep(RETRY).await;
                continue;
            }
        }
        // Waits for a message that may change the answer.
        loop {
            match events.next().await {
                Some(message) if matters(&message.payload) => break,
                Some(_) => {}
                None => return,
            }
        }
    }
}

/// Reads everything anew: a message may have been lost, a dump is the truth.
async fn read(handle: &Handle) -> Result<Interfaces, rtnetlink::Error> {
    let mut interfaces = Interfaces::default();
    let mut links = handle.link().get().execute().boxed();
    while let Some(message) = links.try_next().await? {
        interfaces.links.extend(name_of(&message).map(|name| (message.header.index, name)));
    }
    let mut addresses = handle.address().get().execute().boxed();
    while let Some(message) = addresses.try_next().await? {
        interfaces.addresses.extend(address_of(&message).map(|it| (message.header.index, it)));
    }
    for family in Family::ALL {
        let filter = match family {
            Family::V4 => RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            Family::V6 => RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        };
        let mut routes = handle.route().get(filter).execute().boxed();
        while let Some(message) = routes.try_next().await? {
            let found = default_route_interfaces(&message).into_iter();
            interfaces.default_routes.extend(found.map(|index| (family, index)));
        }
    }
    Ok(interfaces)
}

fn name_of(message: &LinkMessage) -> Option<Arc<str>> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str().into()),
        _ => None,
    })
}

/// The address itself: on a point-to-point interface IFA_ADDRESS is the other end.
fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let attributes = || message.attributes.iter();
    let local = attributes().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        attributes().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

/// The interfaces of a default route: one, or one of each next hop. None of another route.
fn default_route_interfaces(message: &RouteMessage) -> Vec<u32> {
    if message.header.destination_prefix_length != 0 || message.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let attributes = message.attributes.iter();
    attributes
        .flat_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => vec![*index],
            RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
            _ => Vec::new(),
        })
        .collect()
}

/// Interfaces and addresses always; routes only where they are default ones, for a node may learn thousands
/// of others; and the kernel's word that messages were lost.
fn matters(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    match payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewAddress(_)
            | RouteNetlinkMessage::DelAddress(_)
            | RouteNetlinkMessage::NewLink(_)
            | RouteNetlinkMessage::DelLink(_),
        )
        | NetlinkPayload::Overrun(_)
        | NetlinkPayload::Error(_) => true,
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        ) => !default_route_interfaces(route).is_empty(),
        _ => false,
    }
}

/// What the kernel is asked to tell.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// The wait after a request that failed.
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// The machine's own loopback: needs no root and changes nothing.
    #[tokio::test]
    async fn np_12_the_addresses_of_this_namespace_are_read() {
        let watch = Watch::start().unwrap();
        tokio::spawn(watch.connection);
        let interfaces = read(&watch.handle).await.unwrap();
        let localhost = IpAddr::from([127, 0, 0, 1]);
        assert!(interfaces.addresses.iter().any(|(_, it)| *it == localhost), "{interfaces:?}");
        assert!(interfaces.links.values().any(|name| &**name == "lo"), "{interfaces:?}");
    }
}
