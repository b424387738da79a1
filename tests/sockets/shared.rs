// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One socket under several descriptors, in several processes: it is the socket that is
//! counted, and it ends with its last descriptor.

use std::net::SocketAddr;

use lab::{
    driver::Driver,
    need_lab,
    served::{Served, vip},
    wire::{Echo, Family, Kind, Sock},
};

/// How a socket dials.
#[derive(Clone, Copy, Debug)]
enum Way {
    Connected(Kind),
    Unconnected,
}

/// dup(2), `SCM_RIGHTS` to a process of the same pod and to one of another pod, and a holder
/// that is killed: the record and the count stay until the last close, and whoever holds the
/// socket goes on talking to the same backend through it.
#[test]
fn a_socket_is_released_by_the_last_of_its_descriptors() {
    need_lab!();
    let served = Served::start().unwrap();
    let pods = served.lab.pods();
    served.expose("web", 10, &pods[2..]).unwrap();
    let ways = [Way::Connected(Kind::Tcp), Way::Connected(Kind::Udp), Way::Unconnected];
    let each = Family::BOTH.into_iter().flat_map(|family| ways.map(|way| (family, way)));
    for (number, (family, way)) in each.enumerate() {
        let to = vip(family, 10);
        let [opener, near, far] = [&pods[0], &pods[0], &pods[1]].map(|pod| pod.driver().unwrap());
        let sock = way.open(&opener, to);
        let backend = way.exchange(&opener, sock, to);
        let copy = opener.duplicate(sock).unwrap();
        let path = |name: &str| served.lab.dir().join(format!("{name}-{number}"));
        let in_near = opener.hand_over(copy, &near, &path("near")).unwrap();
        let in_far = near.hand_over(in_near, &far, &path("far")).unwrap();
        let stays = |what: &str| {
            assert_eq!(served.total_load().unwrap(), 1, "{way:?} {family:?}: {what}");
            assert_eq!(served.agent.sockets().unwrap().len(), 1, "{way:?} {family:?}: {what}");
        };
        stays("four descriptors count once");
        opener.close(sock).unwrap();
        stays("the one that dialled is closed");
        assert_eq!(way.exchange(&opener, copy, to), backend);
        opener.close(copy).unwrap();
        stays("its process has none left");
        assert_eq!(way.exchange(&near, in_near, to), backend);
        near.kill().unwrap();
        stays("a holder was killed");
        assert_eq!(way.exchange(&far, in_far, to), backend);
        far.close(in_far).unwrap();
        served.await_idle().unwrap();
    }
}

impl Way {
    /// A socket that has dialled.
    fn open(self, driver: &Driver, to: SocketAddr) -> Sock {
        let family = Family::of(to);
        match self {
            Self::Connected(kind) => {
                let sock = driver.open(kind, family).unwrap();
                driver.connect(sock, to).unwrap();
                sock
            }
            Self::Unconnected => driver.open(Kind::Udp, family).unwrap(),
        }
    }

    /// A line there and back; the pod that answered.
    fn exchange(self, driver: &Driver, sock: Sock, to: SocketAddr) -> String {
        match self {
            Self::Connected(_) => {
                driver.send(sock, "who\n").unwrap();
                assert_eq!(driver.peer_name(sock).unwrap(), to);
            }
            Self::Unconnected => driver.send_to(sock, to, "who\n").unwrap(),
        }
        let (reply, from) = driver.recv_from(sock).unwrap();
        assert!(from.is_none_or(|from| from == to), "{from:?}");
        serde_json::from_str::<Echo>(&reply).unwrap().pod
    }
}
