// SPDX-License-Identifier: Apache-2.0 OR MIT
//! COUNTERS: one table of reasons for the kernel programs, the metrics and the documents.

/// Declares [`Counter`] with its names and explanations from one list.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a program did what it did; the number is the index into COUNTERS.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Counter {
            /// Every counter, in the order of the map.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in metrics and on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// One sentence for people.
            pub const fn help(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)+
                }
            }
        }
    };
}

counters! {
    /// Neither TCP, UDP nor SCTP, nor an ICMP error, so no Service is looked up.
    PassProtocol = "pass_protocol",
    /// The socket's network namespace asked to be left alone.
    PassBypass = "pass_bypass",
    /// The destination is no frontend.
    PassNoFrontend = "pass_no_frontend",
    /// The port is a NodePort, but the address is not one of this node's NodePort addresses.
    PassNodePortElsewhere = "pass_node_port_elsewhere",
    /// The frontend's map element was recycled under the reader three times in a row.
    PassRecycled = "pass_recycled",
    /// The Service has no endpoint that may serve; the client is refused.
    RefusedNoEndpoints = "refused_no_endpoints",
    /// The traffic policy is Local and this node has no endpoint; the client gets no answer.
    DroppedNoLocalEndpoints = "dropped_no_local_endpoints",
    /// The client is outside of every one of the Service's loadBalancerSourceRanges; it gets no answer.
    DroppedSourceRange = "dropped_source_range",
    /// The address is a ClusterIP, but not with this port and protocol; the client is refused.
    RefusedUnknownPort = "refused_unknown_port",
    /// The address is in a ServiceCIDR, but no Service has it; the client gets no answer.
    DroppedFreeAddress = "dropped_free_address",
    /// A map entry names another one that is not there; the client is refused.
    RefusedInconsistent = "refused_inconsistent",
    /// A backend was picked from the set.
    Translated = "translated",
    /// The client's affinity pin named the backend.
    TranslatedAffinity = "translated_affinity",
    /// A datagram went where the socket's earlier ones to the same frontend went.
    TranslatedSticky = "translated_sticky",
    /// An MPTCP subflow was translated; its parent socket keeps no state.
    TranslatedSubflow = "translated_subflow",
    /// The socket's place in SOCKETS was taken, so SOCKETS_OVER holds its record.
    StateOverflow = "state_overflow",
    /// Neither SOCKETS nor SOCKETS_OVER had room: translated, but replies show the pod's address.
    StateLost = "state_lost",
    /// AFFINITY took no pin: the client's next connection may go elsewhere.
    AffinityLost = "affinity_lost",
    /// getpeername was answered with the frontend's address.
    ReversedPeer = "reversed_peer",
    /// A datagram's source was shown as the frontend's address.
    ReversedSource = "reversed_source",
    /// A peer or source address was no translated backend and stayed as it was.
    ReversePassed = "reverse_passed",
    /// A socket that had been translated was closed.
    Released = "released",
    /// A packet that is neither IPv4 nor IPv6, or not for this node, or of a VLAN with a device of its own, was left alone.
    PassNotIp = "pass_not_ip",
    /// A packet whose headers are cut short or contradict each other was left to the stack.
    PassMalformed = "pass_malformed",
    /// A fragment was left to the stack: its first one has not been seen, or it is SCTP's.
    PassFragment = "pass_fragment",
    /// A TCP segment, SCTP packet or later fragment that opens nothing and belongs to no flow was left to the stack.
    PassNoFlow = "pass_no_flow",
    /// A packet left the node that is no reply of a local backend to a flow.
    PassNoReply = "pass_no_reply",
    /// A packet of a flow went to its backend.
    FlowForward = "flow_forward",
    /// A packet of a flow went back to its client.
    FlowReply = "flow_reply",
    /// A flow had lost the half of its other direction, which was made anew.
    FlowRebuilt = "flow_rebuilt",
    /// A flow began anew: its backend had gone, it was over, or its client took the port again.
    FlowRestarted = "flow_restarted",
    /// FLOWS is full: the packet that would have begun a flow was dropped.
    DroppedFlowsFull = "dropped_flows_full",
    /// Two packets began one flow at once: the later one was dropped.
    DroppedRace = "dropped_race",
    /// No source port was free for a flow to this backend: the packet that would have begun it was dropped.
    DroppedNoPort = "dropped_no_port",
    /// The node has no address of the family that a flow could leave with: the packet was dropped.
    DroppedNoAddress = "dropped_no_address",
    /// There is no route to a flow's backend or client that the program can take: the packet was dropped.
    DroppedNoRoute = "dropped_no_route",
    /// A packet could not be rewritten and was dropped.
    DroppedRewrite = "dropped_rewrite",
    /// A packet of a flow was at the end of its TTL or hop limit; its sender was told.
    TtlExpired = "ttl_expired",
    /// A packet of a flow was larger than the next link takes; its sender was told.
    TooBig = "too_big",
    /// A refused client was sent a TCP reset.
    AnsweredReset = "answered_reset",
    /// A refused client was sent an ICMP error.
    AnsweredUnreachable = "answered_unreachable",
    /// A client should have been told, and could not be: the packet was dropped.
    AnswerFailed = "answer_failed",
    /// A flow of a client outside began.
    FlowBegun = "flow_begun",
    /// An ICMP error about a packet of a flow was translated and went on.
    IcmpTranslated = "icmp_translated",
    /// An ICMP error about no flow was left to the stack.
    PassIcmp = "pass_icmp",
    /// An ICMP error was left to the stack: the packet that it quotes is cut short, a later fragment, or not its receiver's.
    PassIcmpMalformed = "pass_icmp_malformed",
    /// A fragment that came before its first one was taken in once more.
    FragmentWaited = "fragment_waited",
    /// An ICMP error or a later fragment could not go on, and no sender is told of those: it was dropped.
    DroppedUnanswered = "dropped_unanswered",
    /// More senders were to be told than an ICMP limit allows: the packet was dropped without an answer.
    AnswerSuppressed = "answer_suppressed",
    /// Events that a monitor would have been told were left out: too many at once, or it does not read them.
    EventsLost = "events_lost",
    /// A TCP segment of no flow began one: its client's backend is known from a Maglev table.
    FlowTakenOver = "flow_taken_over",
    /// The agent took a UDP socket's peer away: it had gone, or was a frontend that was never translated.
    Destroyed = "destroyed",
    /// A packet of a flow went on unchanged to the node of its backend.
    FlowDirect = "flow_direct",
    /// A flow that was to go on unchanged got a source of this node: its backend's node is no neighbour at the device that the packet came in by.
    FlowNotDirect = "flow_not_direct",
    /// FLOWS is full: a flow that goes on unchanged is not remembered, and follows its Maglev table.
    FlowUnremembered = "flow_unremembered",
    /// The way of a packet that was to go on unchanged leads back where it came from, as while two nodes' tables differ: it was dropped.
    DroppedBounced = "dropped_bounced",
}

impl Counter {
    /// Number of counters: the size of COUNTERS.
    pub const COUNT: u32 = Self::DroppedBounced as u32 + 1;

    /// The index into COUNTERS.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_map_and_names_are_unique() {
        assert_eq!(Counter::ALL.len(), Counter::COUNT as usize);
        for (position, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(counter.index() as usize, position);
            assert!(Counter::ALL[..position].iter().all(|other| other.name() != counter.name()));
            assert!(counter.help().ends_with('.'), "{}", counter.name());
        }
    }
}
