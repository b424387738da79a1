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
    /// A pod with this address, or a socket that is bound to it.
    Address(IpAddr),
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
    #[error("{text:?} is neither \"host\" nor \"pod\" nor an address")]
    Who {
        /// The text that was given.
        text: String,
    },
}

/// A client as the decision sees it, with chance and clock held still.
pub(super) struct Caller {
    pub(super) from: From,
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
            _ => text
                .parse()
                .map(Self::Address)
                .map_err(|_| QuestionError::Who { text: text.to_owned() }),
        }
    }
}

impl Client for Caller {
    fn scope(&self) -> Scope {
        Scope::Inside
    }

    fn on_host(&self) -> bool {
        self.from == From::Host
    }

    /// Namespaces have no name that a person could give here: only a bound address is
    /// looked up in AFFINITY.
    fn identity(&self) -> Addr {
        match self.from {
            From::Address(address) => address.into(),
            From::Host | From::Pod => AffinityKey::namespace(0),
        }
    }

    /// A pod's address is not known here: it is taken for one that is admitted, and the
    /// answer says who is.
    fn comes_from(&self, _ipv6: bool, test: impl Fn(Addr) -> bool) -> bool {
        match self.from {
            From::Host => test(Guard::NODE),
            From::Pod => true,
            From::Address(address) => test(address.into()),
        }
    }

    fn entropy(&self, _: &ServiceView) -> u32 {
        0
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
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
}
