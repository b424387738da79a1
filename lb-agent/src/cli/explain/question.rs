// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `explain` is asked: an address, a port, a protocol, and who dials.

use std::{
    fmt,
    net::{AddrParseError, IpAddr, SocketAddr},
    str::FromStr,
};

use lb_common::{
    addr::Addr,
    affinity::AffinityKey,
    be::Be16,
    key::{FrontendKey4, FrontendKey6},
    protocol::Protocol,
    range::Guard,
    service::{Algorithm, ServiceFlags},
    translate::{Client, Destination, Scope, ServiceView},
};

/// What is dialled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Target {
    /// Address and port; an IPv4-mapped address is IPv4 here as it is in the kernel.
    pub(super) address: SocketAddr,
    /// TCP, UDP or SCTP.
    pub(super) protocol: Protocol,
}

/// Who dials.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum From {
    /// A process in the node's own network namespace.
    Host,
    /// A process in a pod that has not bound an address.
    Pod,
    /// A client outside of the node, wherever it is.
    Outside,
    /// Who has this address: a pod, a socket that is bound to it, or a client outside. Zero: any
    /// of its ports.
    Address(IpAddr, u16),
}

/// What is wrong with the question.
#[derive(Debug, thiserror::Error)]
pub(super) enum QuestionError {
    /// Not an address with a port.
    #[error("{text:?} is not ADDR:PORT, as in 10.96.0.10:80 or [fd00::10]:80")]
    Address {
        /// The text that was given.
        text: String,
        /// What the parser said.
        #[source]
        source: AddrParseError,
    },
    /// Not a protocol of Services.
    #[error("{text:?} is not TCP, UDP or SCTP")]
    Protocol {
        /// The text that was given.
        text: String,
    },
    /// Neither a word nor an address.
    #[error(
        "{text:?} is neither \"host\" nor \"pod\" nor \"outside\" nor an address, as 192.0.2.7 or 192.0.2.7:40000"
    )]
    Who {
        /// The text that was given.
        text: String,
    },
}

/// A client as the decision sees it, with chance and clock held still.
pub(super) struct Caller {
    pub(super) from: From,
    /// Inside or outside of the cluster.
    pub(super) scope: Scope,
    /// Whether packets are translated, not a socket: a Maglev set then picks by the client.
    pub(super) by_packet: bool,
    pub(super) now_ns: u64,
}

impl Target {
    /// The frontend key.
    pub(super) fn destination(self) -> Destination {
        let port = Be16::from_host(self.address.port());
        let address = Addr::from(self.address.ip());
        match address.to_v4() {
            Some(address) => Destination::V4(FrontendKey4::new(address, port, self.protocol)),
            None => Destination::V6(FrontendKey6::new(address, port, self.protocol)),
        }
    }
}

impl FromStr for Target {
    type Err = QuestionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
        let protocol = match protocol.to_ascii_uppercase().as_str() {
            "TCP" => Protocol::TCP,
            "UDP" => Protocol::UDP,
            "SCTP" => Protocol::SCTP,
            _ => return Err(QuestionError::Protocol { text: protocol.to_owned() }),
        };
        let address: SocketAddr = address
            .parse()
            .map_err(|source| QuestionError::Address { text: address.to_owned(), source })?;
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Ok(Self { address, protocol })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.protocol)
    }
}

impl FromStr for From {
    type Err = QuestionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "host" => Ok(Self::Host),
            "pod" => Ok(Self::Pod),
            "outside" => Ok(Self::Outside),
            _ => {
                let address = text.parse().map(|address: IpAddr| (address, 0));
                let with_port = || text.parse().map(|it: SocketAddr| (it.ip(), it.port()));
                let (address, port) = address
                    .or_else(|_| with_port())
                    .map_err(|_| QuestionError::Who { text: text.to_owned() })?;
                Ok(Self::Address(address.to_canonical(), port))
            }
        }
    }
}

impl From {
    /// Its address, if that is known.
    pub(super) const fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address, _) => Some(address),
            Self::Host | Self::Pod | Self::Outside => None,
        }
    }

    /// Its port, if that is known.
    pub(super) const fn port(self) -> Option<u16> {
        match self {
            Self::Address(_, port) if port != 0 => Some(port),
            _ => None,
        }
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("a process of this node"),
            Self::Pod => f.write_str("a pod"),
            Self::Outside => f.write_str("a client outside"),
            Self::Address(address, 0) => write!(f, "{address}"),
            Self::Address(address, port) => write!(f, "{}", SocketAddr::new(*address, *port)),
        }
    }
}

impl Client for Caller {
    fn scope(&self) -> Scope {
        self.scope
    }

    fn on_host(&self) -> bool {
        self.from == From::Host
    }

    /// Namespaces have no name that a person could give here: only a bound address is
    /// looked up in AFFINITY.
    fn identity(&self) -> Addr {
        match self.from {
            From::Address(address, _) => address.into(),
            From::Host | From::Pod | From::Outside => AffinityKey::namespace(0),
        }
    }

    /// Where an address is not known it is taken for one that is admitted, and the answer says
    /// who is.
    fn comes_from(&self, _ipv6: bool, test: impl Fn(Addr) -> bool) -> bool {
        match self.from {
            From::Host => test(Guard::NODE),
            From::Pod | From::Outside => true,
            From::Address(address, _) => test(address.into()),
        }
    }

    /// By chance as if the first slot were drawn; by the client where that is what decides.
    fn entropy(&self, service: &ServiceView) -> u32 {
        match (self.is_picked(service), self.from) {
            (true, From::Address(address, port)) => {
                service.bits_of(address.into(), Be16::from_host(port))
            }
            _ => 0,
        }
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }
}

impl Caller {
    /// Whether it is known which slot this very client gets: of a Maglev set, at whose slots
    /// packets are sent by the client's address and port, or with affinity by its address.
    pub(super) fn is_picked(&self, service: &ServiceView) -> bool {
        let is_sticky = service.flags.contains(ServiceFlags::AFFINITY);
        self.by_packet
            && service.set.algorithm() == Algorithm::Maglev
            && self.from.address().is_some()
            && (is_sticky || self.from.port().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_with_and_without_protocol() {
        let target: Target = "10.96.0.10:80".parse().unwrap();
        assert_eq!(target.to_string(), "10.96.0.10:80/TCP");
        let target: Target = "[fd00::10]:53/udp".parse().unwrap();
        assert_eq!(target.to_string(), "[fd00::10]:53/UDP");
    }

    #[test]
    fn soc_09_a_mapped_address_is_ipv4() {
        let target: Target = "[::ffff:10.96.0.10]:80".parse().unwrap();
        assert!(matches!(target.destination(), Destination::V4(_)));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, part) in [
            ("10.96.0.10", "10.96.0.10:80 or"),
            ("10.96.0.10:80/ICMP", "\"ICMP\" is not TCP"),
            ("web:80", "\"web:80\" is not ADDR:PORT"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!("node".parse::<From>().unwrap_err().to_string().contains("\"node\" is neither"));
    }

    #[test]
    fn who_dials_has_a_port_or_none() {
        for (text, address, port) in [
            ("192.0.2.7", "192.0.2.7", None),
            ("192.0.2.7:40000", "192.0.2.7", Some(40_000)),
            ("::ffff:192.0.2.7", "192.0.2.7", None),
            ("2001:db8::7", "2001:db8::7", None),
            ("[2001:db8::7]:40000", "2001:db8::7", Some(40_000)),
        ] {
            let from: From = text.parse().unwrap();
            assert_eq!((from.address(), from.port()), (Some(address.parse().unwrap()), port));
        }
    }
}
