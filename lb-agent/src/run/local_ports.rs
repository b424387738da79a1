// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ports that the kernel of this network namespace gives to programs, read now and then:
//! no event tells of a sysctl.

use std::{fs, ops::RangeInclusive, path::Path, time::Duration};

use tokio::{sync::watch, time};

use crate::{
    datapath::probe::{Requirement, State},
    model::local_ports::LocalPorts,
};

/// What the sysctls say now; nothing where they cannot be read.
pub(super) fn read() -> LocalPorts {
    let read = |name| fs::read_to_string(Path::new(SYSCTLS).join(name)).unwrap_or_default();
    LocalPorts::parse(&read("ip_local_port_range"), &read("ip_local_reserved_ports"))
}

/// Sends them when they change, until nobody wants them.
pub(super) async fn follow(ports: watch::Sender<LocalPorts>) {
    loop {
        tokio::select! {
            () = ports.closed() => return,
            () = time::sleep(PERIOD) => {}
        }
        let now = read();
        ports.send_if_modified(|known| {
            *known != now && {
                *known = now;
                true
            }
        });
    }
}

/// NP-08: whether programs may be given the ports that NodePorts come from by default. Which
/// ones Services have is known to a running agent alone.
pub fn requirement() -> Requirement {
    requirement_of(&read())
}

fn requirement_of(ports: &LocalPorts) -> Requirement {
    let (state, found, lost, mend) = match ports.problem(NODE_PORTS) {
        None => {
            let found = "no program is given a NodePort by chance".to_owned();
            (State::Ok, found, "", String::new())
        }
        Some(problem) => (
            State::Degraded,
            format!("net.ipv4.ip_local_port_range: {problem}"),
            "unless NodePorts come from other ports than by default",
            String::new(),
        ),
    };
    Requirement { name: "local ports", state, found, lost, mend }
}

/// Where NodePorts come from, unless the API server has another `--service-node-port-range`.
const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;
const SYSCTLS: &str = "/proc/sys/net/ipv4";
/// How often they are read.
const PERIOD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn np_08_the_ports_that_node_ports_come_from_are_not_for_programs() {
        for (range, reserved, state) in [
            ("32768 60999", "", State::Ok),
            ("30000 60999", "30000-32767", State::Ok),
            ("30000 60999", "30000-32000", State::Degraded),
            ("1024 65535", "", State::Degraded),
        ] {
            let row = requirement_of(&LocalPorts::parse(range, reserved));
            assert_eq!(row.state, state, "{range} {reserved}: {row}");
        }
        let line = requirement_of(&LocalPorts::parse("1024 65535", "8080")).to_string();
        for part in ["1024-65535", "sysctl -w net.ipv4.ip_local_reserved_ports=8080,30000-32767"] {
            assert!(line.contains(part), "{line}");
        }
    }
}
