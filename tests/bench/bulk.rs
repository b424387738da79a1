// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Objects by the ten thousand. Services have no selector and slices are our own, so that
//! no controller has anything to do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use k8s_openapi::{
    api::{
        core::v1::Service,
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use lab::objects::{self, NAMESPACE, Port};

use crate::probe::PORT;

/// A Service with its ClusterIP, and where its endpoints are.
#[derive(Clone, Debug)]
pub(crate) struct Exposed {
    /// Its name.
    pub(crate) name: String,
    /// Its ClusterIP.
    pub(crate) ip: Ipv4Addr,
    /// Its endpoints, on their node.
    pub(crate) endpoints: Vec<Ipv4Addr>,
    /// The node that they are on.
    pub(crate) node: String,
    /// Whether it has UDP besides TCP.
    pub(crate) udp: bool,
}

impl Exposed {
    /// One of the many: number `index`, with two endpoints among the addresses of the pod
    /// that has 65 536.
    pub(crate) fn one_of_many(index: u32, node: &str) -> Self {
        let endpoints = [2 * index, 2 * index + 1].map(|host| offset(MANY_PODS, host));
        Self {
            name: format!("many-{index:05}"),
            ip: offset(MANY_SERVICES, index),
            endpoints: endpoints.to_vec(),
            node: node.to_owned(),
            // TCP alone, as most Services are.
            udp: false,
        }
    }

    /// What clients dial.
    pub(crate) fn frontend(&self) -> SocketAddr {
        (self.ip, PORT).into()
    }

    /// The Service.
    pub(crate) fn service(&self) -> Service {
        objects::service(&self.name, &[IpAddr::V4(self.ip)], &self.ports())
    }

    /// Its slice.
    pub(crate) fn slice(&self) -> EndpointSlice {
        let endpoints = self.endpoints.iter().map(|ip| Endpoint {
            addresses: vec![ip.to_string()],
            conditions: Some(EndpointConditions {
                ready: Some(true),
                serving: Some(true),
                terminating: Some(false),
            }),
            node_name: Some(self.node.clone()),
            ..Endpoint::default()
        });
        let labels = [
            ("kubernetes.io/service-name", self.name.as_str()),
            ("endpointslice.kubernetes.io/managed-by", "bench"),
        ];
        EndpointSlice {
            metadata: ObjectMeta {
                name: Some(format!("{}-ipv4", self.name)),
                namespace: Some(NAMESPACE.to_owned()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..ObjectMeta::default()
            },
            address_type: "IPv4".to_owned(),
            endpoints: Some(endpoints.collect()),
            ports: Some(
                self.ports()
                    .iter()
                    .map(|port| EndpointPort {
                        name: Some(port.name.to_owned()),
                        protocol: Some(port.protocol.to_owned()),
                        port: Some(port.target.into()),
                        app_protocol: None,
                    })
                    .collect(),
            ),
        }
    }

    /// Its ports.
    fn ports(&self) -> Vec<Port> {
        let both = Port::both(PORT, PORT);
        both.into_iter().filter(|port| self.udp || port.protocol == "TCP").collect()
    }
}

/// The address `number` places after `base`.
fn offset(base: Ipv4Addr, number: u32) -> Ipv4Addr {
    (u32::from(base) + number).into()
}

/// First ClusterIP of the many Services.
const MANY_SERVICES: Ipv4Addr = Ipv4Addr::new(10, 96, 64, 0);
/// First address of the pod that stands for all of their endpoints.
pub(crate) const MANY_PODS: Ipv4Addr = Ipv4Addr::new(10, 250, 0, 0);
