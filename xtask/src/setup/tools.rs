// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The small programs that the lab and the benchmarks run.

use crate::{
    command,
    setup::{Requirement, apt},
};

/// Namespaces, links and routes of the lab.
pub(crate) static IP: Requirement = Requirement {
    name: "ip",
    purpose: "network namespaces of the lab",
    find: || on_path("ip"),
    install: || apt::install(&["iproute2"]),
    by_hand: "apt-get update && apt-get install -y iproute2",
};

/// What kube-proxy's nftables mode runs.
pub(crate) static NFT: Requirement = Requirement {
    name: "nft",
    purpose: "kube-proxy as the baseline",
    find: || on_path("nft"),
    install: || apt::install(&["nftables"]),
    by_hand: "apt-get update && apt-get install -y nftables",
};

/// What kube-proxy's iptables mode runs.
pub(crate) static IPTABLES: Requirement = Requirement {
    name: "iptables",
    purpose: "kube-proxy as the baseline",
    find: || on_path("iptables"),
    install: || apt::install(&["iptables"]),
    by_hand: "apt-get update && apt-get install -y iptables",
};

/// Settings of network devices that `ip` does not know.
pub(crate) static ETHTOOL: Requirement = Requirement {
    name: "ethtool",
    purpose: "offloads of the lab's devices",
    find: || on_path("ethtool"),
    install: || apt::install(&["ethtool"]),
    by_hand: "apt-get update && apt-get install -y ethtool",
};

/// A second pair of eyes on our maps.
pub(crate) static BPFTOOL: Requirement = Requirement {
    name: "bpftool",
    purpose: "dumps of our maps by another program than ours",
    find: || on_path("bpftool"),
    install: || apt::install(&["bpftool"]),
    by_hand: "apt-get update && apt-get install -y bpftool",
};

/// An ordinary client.
pub(crate) static CURL: Requirement = Requirement {
    name: "curl",
    purpose: "requests by another program than ours",
    find: || on_path("curl"),
    install: || apt::install(&["curl"]),
    by_hand: "apt-get update && apt-get install -y curl",
};

/// Certificates that the API server's was not signed with.
pub(crate) static OPENSSL: Requirement = Requirement {
    name: "openssl",
    purpose: "certificates of strangers",
    find: || on_path("openssl"),
    install: || apt::install(&["openssl"]),
    by_hand: "apt-get update && apt-get install -y openssl",
};

/// What the agent asks of the kernel.
pub(crate) static STRACE: Requirement = Requirement {
    name: "strace",
    purpose: "system calls of the agent",
    find: || on_path("strace"),
    install: || apt::install(&["strace"]),
    by_hand: "apt-get update && apt-get install -y strace",
};

/// Other kernels, in an emulated machine.
pub(crate) static QEMU: Requirement = Requirement {
    name: "qemu",
    purpose: "guests with other kernels",
    find: || on_path("qemu-system-x86_64"),
    install: || apt::install(&["qemu-system-x86"]),
    by_hand: "apt-get update && apt-get install -y qemu-system-x86",
};

fn on_path(program: &str) -> Result<String, String> {
    match command::find(program) {
        Some(path) => Ok(path.display().to_string()),
        None => Err("not on this machine".to_owned()),
    }
}
