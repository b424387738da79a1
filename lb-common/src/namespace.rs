// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the kernel keeps the addresses of a network namespace.

use bytemuck::{Pod, Zeroable};

/// Byte offsets in structures of the running kernel, found in its BTF by the agent and
/// given to the programs as one read-only global, 64 bytes. All 0: not known.
///
/// A socket that is not bound has no source address when it connects. A pod has one address
/// a family, and its namespace says which.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct NamespaceLayout {
    /// `struct sock_common`: `skc_net`, the pointer to the socket's namespace.
    pub socket_net: u32,
    /// `struct net`: `net_cookie`, by which a program knows that it is where it should be.
    pub net_cookie: u32,
    /// `struct net`: `dev_base_head`, the list of its devices.
    pub net_devices: u32,
    /// `struct net_device`: `dev_list`, its place in that list.
    pub device_list: u32,
    /// `struct net_device`: `flags`, IFF_*.
    pub device_flags: u32,
    /// `struct net_device`: `ip_ptr`.
    pub device_ipv4: u32,
    /// `struct net_device`: `ip6_ptr`; 0 if this kernel's IPv6 is not known.
    pub device_ipv6: u32,
    /// `struct in_device`: `ifa_list`, the first IPv4 address.
    pub ipv4_first: u32,
    /// `struct in_ifaddr`: `ifa_next`.
    pub ipv4_next: u32,
    /// `struct in_ifaddr`: `ifa_local`.
    pub ipv4_address: u32,
    /// `struct in_ifaddr`: `ifa_scope`.
    pub ipv4_scope: u32,
    /// `struct inet6_dev`: `addr_list`, the list of its addresses.
    pub ipv6_addresses: u32,
    /// `struct inet6_ifaddr`: `if_list`, its place in that list.
    pub ipv6_list: u32,
    /// `struct inet6_ifaddr`: `addr`.
    pub ipv6_address: u32,
    /// `struct inet6_ifaddr`: `flags`, IFA_F_*.
    pub ipv6_flags: u32,
    /// Always 0.
    pub _pad: u32,
}
