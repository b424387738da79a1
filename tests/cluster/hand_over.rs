// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A live node goes from the real kube-proxy to Sluice and back, as docs/operations.md says.

use std::{net::SocketAddr, path::Path, time::Duration};

use lab::{
    Lab,
    agent::{Agent, AgentSpec},
    cluster::{Cluster, User},
    driver::Driver,
    kube_proxy::{KubeProxy, ProxyMode},
    need_lab,
    node::Node,
    served::cluster_ips,
    wait,
    wire::{AskSpec, Family, HoldSpec, LoadSpec, Task},
};

/// A client outside and a pod, over TCP and UDP of both families, see no failed request and no
/// broken connection while Sluice starts beside kube-proxy, kube-proxy ends, and its rules are
/// removed. Flows that kube-proxy began keep their translation, which is conntrack's (CT-07);
/// new ones are Sluice's. On the way back no new request fails either.
#[test]
fn ct_07_a_live_node_is_handed_over_from_kube_proxy_and_back() {
    need_lab!();
    let lab = Lab::start().unwrap();
    let cluster = Cluster::start(&lab).unwrap();
    for pod in lab.pods() {
        cluster.run_pod(&pod, &[("pod", &pod.name)]).unwrap();
    }
    for (number, port, pod) in SERVICES {
        cluster.kubectl_apply(&node_port_service(number, port, pod)).unwrap();
    }
    for mode in [ProxyMode::Nftables, ProxyMode::Iptables] {
        there_and_back(&lab, &cluster, mode);
    }
}

/// With one mode of kube-proxy.
fn there_and_back(lab: &Lab, cluster: &Cluster, mode: ProxyMode) {
    let node = lab.node("node-1").unwrap();
    let admin = cluster.kubeconfig(User::Admin);
    let proxy = KubeProxy::start(node, &admin, mode, LIMIT).unwrap();
    let clients = [Client::outside(lab), Client::inside(lab)];
    clients.iter().for_each(Client::await_answers);
    let loads = clients.each_ref().map(Client::load);
    let theirs = clients.each_ref().map(|client| client.hold(client.asks()));

    // kube-proxy has the ports of health and metrics: the agent gets them when it ends.
    let mut agent = Agent::spawn(node, &AgentSpec::kubeconfig(&admin)).unwrap();
    await_served(&agent);
    let ours = clients.each_ref().map(|client| client.hold(client.asks()));
    let flows = agent.verb(&["show", "flows"]).unwrap().stdout;
    assert!(SERVICES.iter().all(|(_, port, _)| flows.contains(&port.to_string())), "{flows}");

    for line in KEEP_TRANSLATING {
        node.output("nft", [line]).unwrap();
    }
    proxy.clean_up().unwrap();
    agent.wait_ready(LIMIT).unwrap();
    let rules = node.output("nft", ["list", "ruleset"]).unwrap();
    assert!(!rules.contains("KUBE-SVC") && !rules.contains("kube-proxy"), "{rules}");
    let held = theirs.iter().zip(&ours).map(|(theirs, ours)| [&theirs[..], ours].concat());
    for ((client, loads), holds) in clients.iter().zip(loads).zip(held) {
        client.finish(loads, holds, 0, &format!("from kube-proxy {}", mode.name()));
    }
    node.output("nft", [STOP_TRANSLATING]).unwrap();

    agent.stop().unwrap();
    back(node, &admin, mode, &agent, &clients);
}

/// kube-proxy starts, then what Sluice left in the kernel is unloaded.
fn back(node: &Node, admin: &Path, mode: ProxyMode, agent: &Agent, clients: &[Client; 2]) {
    let loads: Vec<_> = clients.iter().map(Client::load).collect();
    // What programs translate packet by packet ends with them, also in the middle of a request.
    let holds = [Vec::new(), clients[1].hold(clients[1].asks())];
    let proxy = KubeProxy::start(node, admin, mode, LIMIT).unwrap();
    // It is healthy before its first rules are there, and IPv4's come before IPv6's.
    let has = |rules: String| {
        ["ip ", "ip6 "].into_iter().all(|family| {
            let tables: Vec<_> =
                rules.split("table ").filter(|table| table.starts_with(family)).collect();
            let named = |port: u16| tables.iter().any(|table| table.contains(&port.to_string()));
            SERVICES.iter().all(|(_, port, _)| named(*port))
        })
    };
    let rules = || node.output("nft", ["list", "ruleset"]).is_ok_and(has);
    wait::until(LIMIT, "kube-proxy's rules", rules).unwrap();
    assert_eq!(agent.verb(&["unload"]).unwrap().code, Some(0));
    for ((client, loads), holds) in clients.iter().zip(loads).zip(holds) {
        let in_flight = if client.is_outside { WORKERS.into() } else { 0 };
        client.finish(loads, holds, in_flight, &format!("back to kube-proxy {}", mode.name()));
    }
    proxy.clean_up().unwrap();
}

/// Waits until the agent's programs serve both Services.
fn await_served(agent: &Agent) {
    let served = wait::for_value(LIMIT, "the agent to serve both", || {
        let rows = agent.services()?;
        let rows: Vec<_> = rows.iter().filter(|row| row.service.contains("/web-")).collect();
        // Two families, two protocols, a ClusterIP and a NodePort each.
        anyhow::ensure!(rows.len() == 8 * SERVICES.len(), "{rows:?}");
        anyhow::ensure!(rows.iter().all(|row| row.inside == 1), "{rows:?}");
        anyhow::ensure!(agent.programs()?.iter().any(|row| row.device.is_some()), "no device");
        Ok(())
    });
    served.unwrap_or_else(|error| panic!("{error:#}; the agent says:\n{}", agent.log()));
}

/// Who dials, and what.
struct Client {
    driver: Driver,
    is_outside: bool,
    to: Vec<SocketAddr>,
}

impl Client {
    /// Someone outside, who dials NodePorts.
    fn outside(lab: &Lab) -> Self {
        let node = lab.node("node-1").unwrap();
        let at = |(_, port, _)| Family::BOTH.map(|family| node.at(family, port));
        let to = SERVICES.into_iter().flat_map(at).collect();
        Self { driver: lab.client().driver().unwrap(), is_outside: true, to }
    }

    /// A pod of the node, which dials ClusterIPs.
    fn inside(lab: &Lab) -> Self {
        let at = |(number, _, _)| cluster_ips(number).map(|ip| SocketAddr::new(ip, 80));
        let to = SERVICES.into_iter().flat_map(at).collect();
        Self { driver: lab.pod("pod-1-1").unwrap().driver().unwrap(), is_outside: false, to }
    }

    fn asks(&self) -> Vec<AskSpec> {
        self.to.iter().flat_map(|to| [AskSpec::tcp(*to), AskSpec::udp(*to)]).collect()
    }

    /// Waits until every address answers.
    fn await_answers(&self) {
        for ask in self.asks() {
            let answer = || Ok(self.driver.ask(ask.clone())?);
            wait::for_value(LIMIT, &format!("{} to answer", ask.to), answer).unwrap();
        }
    }

    /// New connections, and datagrams from new sockets, until it is finished.
    fn load(&self) -> Vec<Task> {
        let paced = |ask| LoadSpec { workers: WORKERS, ..LoadSpec::paced(ask, 25, 120_000) };
        self.asks().into_iter().map(|ask| self.driver.load(paced(ask)).unwrap()).collect()
    }

    /// Connections and connected datagram sockets that live on.
    fn hold(&self, asks: Vec<AskSpec>) -> Vec<Task> {
        let few = |ask| HoldSpec { ask, connections: 2, every_ms: 50 };
        let holds: Vec<_> =
            asks.into_iter().map(|ask| self.driver.hold(few(ask)).unwrap()).collect();
        for hold in &holds {
            let report = self.driver.hold_report(*hold).unwrap();
            assert!(report.breaks.is_empty() && report.open == 2, "{report:?}");
        }
        holds
    }

    /// Lets all of it run on for a while; then nothing was broken, and no more requests of a
    /// load than these have failed.
    fn finish(&self, loads: Vec<Task>, holds: Vec<Task>, may_fail: u64, what: &str) {
        let reports = |load: &Task| self.driver.load_report(*load).unwrap();
        let begun: Vec<_> = loads.iter().map(|load| reports(load).ok).collect();
        let exchanged = |hold: &Task| self.driver.hold_report(*hold).unwrap().exchanges;
        let talked: Vec<_> = holds.iter().map(exchanged).collect();
        let on = |now: u64, before: u64| now > before + 20;
        wait::until(LIMIT, "traffic to go on", || {
            loads.iter().zip(&begun).all(|(load, before)| on(reports(load).ok, *before))
                && holds.iter().zip(&talked).all(|(hold, before)| {
                    let report = self.driver.hold_report(*hold).unwrap();
                    !report.breaks.is_empty() || on(report.exchanges, *before)
                })
        })
        .unwrap();
        let (mut requests, mut lines, mut failures) = (0, 0, Vec::new());
        for (load, ask) in loads.into_iter().zip(&self.asks()) {
            let report = self.driver.stop_load(load).unwrap();
            requests += report.ok;
            failures.extend(
                (report.failed > may_fail).then(|| format!("{ask:?}: {:?}", report.errors)),
            );
        }
        for hold in holds {
            let report = self.driver.stop_hold(hold).unwrap();
            lines += report.exchanges;
            failures.extend(report.breaks.iter().map(|end| format!("{end:?}")));
        }
        assert_eq!(failures, Vec::<String>::new(), "{what}");
        println!("{what}: {requests} requests, {lines} exchanges on what was open, none failed");
    }
}

/// A dual-stack Service with this last byte of its ClusterIPs and this NodePort, over one pod.
fn node_port_service(number: u8, port: u16, pod: &str) -> String {
    let [v4, v6] = cluster_ips(number);
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{ name: web-{number} }}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  ipFamilies: [IPv4, IPv6]
  clusterIP: '{v4}'
  clusterIPs: ['{v4}', '{v6}']
  selector: {{ pod: {pod} }}
  ports:
  - {{ name: tcp, port: 80, targetPort: 8080, nodePort: {port}, protocol: TCP }}
  - {{ name: udp, port: 80, targetPort: 8080, nodePort: {port}, protocol: UDP }}
"
    )
}

/// A Service with a pod of kube-proxy's node, and one with a pod of the other node: the last
/// byte of the ClusterIPs, the NodePort, the pod.
const SERVICES: [(u8, u16, &str); 2] = [(61, 30_161, "pod-1-2"), (62, 30_162, "pod-2-1")];
/// With its last chain of type nat the kernel gives up translating the flows that it knows, and
/// with its last rule about their state it forgets them.
const KEEP_TRANSLATING: [&str; 3] = [
    "add table inet hand-over",
    "add chain inet hand-over nat { type nat hook prerouting priority dstnat; }",
    "add rule inet hand-over nat ct state new accept",
];
const STOP_TRANSLATING: &str = "delete table inet hand-over";
/// Requests of a load that are under way at a time.
const WORKERS: u32 = 2;
/// How long each step may take.
const LIMIT: Duration = Duration::from_secs(30);
