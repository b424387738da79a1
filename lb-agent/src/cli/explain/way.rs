// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a client meets our programs: at its socket, or at a device of this node.

use lb_common::translate::Scope;

use super::question::From;
use crate::{
    datapath::{
        load::{PinnedProgram, Turn},
        route::Route,
    },
    run::state::PodLine,
};

/// Where it is that a client's packets or its socket are translated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// At a socket of this node.
    Socket,
    /// At the node's end of a marked pod's interface.
    Pod {
        /// Its devices.
        devices: Vec<String>,
    },
    /// At devices that lead outside.
    Outside {
        /// The one that leads to the client, or all where it may come in by any.
        devices: Vec<String>,
    },
    /// Nowhere: no program of ours runs where its packets come in.
    Nowhere {
        /// What becomes of it, what is in the way, and what to do.
        reason: String,
    },
}

/// The programs that run at devices, and what is known of the client.
pub(super) struct Signs<'a> {
    /// Devices at which `tc_ingress` runs, by index and name.
    pub(super) served: Vec<(u32, String)>,
    /// Marked pods.
    pub(super) pods: &'a [PodLine],
    /// The kernel's way to the client's address; `None` where none was asked for.
    pub(super) route: Option<Route>,
    /// Whether the address is a backend's, and of this node.
    pub(super) backend: Option<bool>,
}

impl Way {
    /// Who dials, and where that is translated.
    pub(super) fn find(from: From, signs: &Signs<'_>) -> Self {
        let address = match from {
            From::Host | From::Pod => return Self::Socket,
            From::Outside => return signs.by_any_device(),
            From::Address(address, _) => address,
        };
        let marked = signs.pods.iter().filter(|pod| pod.addresses.contains(&address));
        let devices: Vec<_> = marked.flat_map(|pod| pod.devices.clone()).collect();
        if !devices.is_empty() {
            return Self::Pod { devices };
        }
        match &signs.route {
            None | Some(Route::Here) => Self::Socket,
            Some(Route::Missing) => Self::nowhere(format!(
                "gets no answer: this node has no route back to {address}, whichever device its packets come in by"
            )),
            Some(Route::Device { index, name, has_gateway }) => {
                if signs.is_served(*index) {
                    return Self::Outside { devices: vec![name.clone()] };
                }
                if !has_gateway && signs.backend != Some(false) {
                    // What is reached directly, and not by a device to the outside.
                    return Self::Socket;
                }
                Self::nowhere(format!(
                    "passes untouched: the way back to {address} is device {name}, where no program of ours runs; name it with --devices, or see show programs"
                ))
            }
        }
    }

    /// Which set of a Service its client gets.
    pub(super) const fn scope(&self) -> Scope {
        match self {
            Self::Socket | Self::Pod { .. } => Scope::Inside,
            Self::Outside { .. } | Self::Nowhere { .. } => Scope::Outside,
        }
    }

    /// Whether packets are translated and not a socket.
    pub(super) const fn is_by_packet(&self) -> bool {
        !matches!(self, Self::Socket)
    }

    /// The word for it in JSON.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Pod { .. } => "pod device",
            Self::Outside { .. } => "device",
            Self::Nowhere { .. } => "none",
        }
    }

    /// What is to be said of it, and the rule.
    pub(super) fn describe(&self, from: From) -> (String, &'static str) {
        match self {
            Self::Socket => {
                let found = match from {
                    From::Address(address, _) => {
                        format!("{address} is on this node: its socket is translated, no packet")
                    }
                    _ => "its socket is translated, no packet".to_owned(),
                };
                (found, "SOC-06")
            }
            Self::Pod { devices } => {
                let found =
                    format!("its packets are translated at device {}", devices.join(" and "));
                (found, "SOC-13")
            }
            Self::Outside { devices } => {
                let found = match from {
                    From::Address(..) => format!(
                        "packets of a client outside, at device {}, by which this node reaches it",
                        devices.join(" or ")
                    ),
                    _ => format!("packets of a client outside, at device {}", devices.join(" or ")),
                };
                (found, "TRP-18")
            }
            Self::Nowhere { reason } => (reason.clone(), ""),
        }
    }

    const fn nowhere(reason: String) -> Self {
        Self::Nowhere { reason }
    }
}

impl Signs<'_> {
    fn is_served(&self, index: u32) -> bool {
        self.served.iter().any(|(device, _)| *device == index)
    }

    /// For a client of whom no more is known than that it is outside.
    fn by_any_device(&self) -> Way {
        let of_pods = |name: &String| self.pods.iter().any(|pod| pod.devices.contains(name));
        let names = self.served.iter().map(|(_, name)| name);
        let devices: Vec<_> = names.filter(|name| !of_pods(name)).cloned().collect();
        if devices.is_empty() {
            let reason = "passes untouched: no program of ours runs at a device that leads outside; name one with --devices, or see show programs";
            return Way::nowhere(reason.to_owned());
        }
        Way::Outside { devices }
    }
}

/// The devices at which packets that come in are translated.
pub(super) fn served(programs: Vec<PinnedProgram>) -> Vec<(u32, String)> {
    let ours = programs.into_iter().filter(|it| it.is_ours && it.name == INGRESS);
    let turns = ours.filter(|it| it.way.is_some()).filter_map(|it| it.device);
    turns.map(|Turn { index, device, .. }| (index, device)).collect()
}

/// The program that meets what comes in.
const INGRESS: &str = "tc_ingress";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trp_18_who_a_client_is_follows_from_the_way_back_to_it() {
        let pods = [PodLine {
            pod: "default/unseen".to_owned(),
            mark: "label".to_owned(),
            addresses: vec!["10.244.1.7".parse().unwrap()],
            devices: vec!["veth7".to_owned()],
            namespace: None,
        }];
        let by = |index: u32, name: &str, has_gateway| {
            Some(Route::Device { index, name: name.to_owned(), has_gateway })
        };
        let outside = Way::Outside { devices: vec!["eth0".to_owned()] };
        for (from, route, backend, way) in [
            ("host", None, None, Way::Socket),
            ("pod", None, None, Way::Socket),
            ("outside", None, None, outside.clone()),
            ("192.168.50.11", Some(Route::Here), None, Way::Socket),
            (
                "10.244.1.7",
                by(7, "veth7", false),
                None,
                Way::Pod { devices: vec!["veth7".to_owned()] },
            ),
            ("10.244.1.10", by(5, "veth5", false), Some(true), Way::Socket),
            ("10.244.2.10", by(2, "eth0", true), Some(false), outside.clone()),
            ("203.0.113.9", by(2, "eth0", false), None, outside),
        ] {
            let served = vec![(2, "eth0".to_owned()), (7, "veth7".to_owned())];
            let signs = Signs { served, pods: &pods, route, backend };
            assert_eq!(Way::find(from.parse().unwrap(), &signs), way, "{from}");
        }
    }

    #[test]
    fn a_device_without_our_programs_is_named() {
        let ask = |from: &str, route, backend| {
            let signs = Signs { served: Vec::new(), pods: &[], route, backend };
            let way = Way::find(from.parse().unwrap(), &signs);
            assert_eq!((way.name(), way.is_by_packet()), ("none", true));
            way.describe(From::Outside).0
        };
        let by = |has_gateway| {
            Some(Route::Device { index: 3, name: "flannel.1".to_owned(), has_gateway })
        };
        assert!(ask("203.0.113.9", by(true), None).contains("device flannel.1, where no program"));
        assert!(ask("10.244.2.10", by(false), Some(false)).contains("device flannel.1"));
        assert!(ask("203.0.113.9", Some(Route::Missing), None).contains("no route back"));
        assert!(ask("outside", None, None).contains("--devices"));
    }
}
