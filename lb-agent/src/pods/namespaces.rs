// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The network namespace behind a device.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
};

use futures_util::StreamExt as _;
use rtnetlink::{
    Handle,
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        nsid::{NsidAttribute, NsidMessage},
    },
};
use tokio::task;

use crate::datapath::{
    netns::{Netns, Subtree},
    syscall,
};

/// The cookie of the namespace that has this number here; `None` if no process that can be seen
/// is in it, and no mount: a virtual machine has none.
pub(super) async fn cookie(handle: &Handle, cgroup_root: &Path, id: i32) -> Option<u64> {
    for namespace in open(cgroup_root.to_owned()).await {
        if number(handle, &namespace).await == Some(id) {
            let cookie = task::spawn_blocking(move || namespace.run(syscall::netns_cookie));
            return cookie.await.ok()?.ok();
        }
    }
    None
}

/// The namespaces of all pods of the node, as far as they can be seen.
async fn open(cgroup_root: PathBuf) -> Vec<Netns> {
    let all = task::spawn_blocking(move || Subtree::of(&cgroup_root).namespaces(MOST));
    all.await.unwrap_or_default()
}

/// The number that this network namespace has for another one (RTM_GETNSID).
async fn number(handle: &Handle, namespace: &Netns) -> Option<i32> {
    let file = u32::try_from(namespace.as_fd().as_raw_fd()).ok()?;
    let mut query = NsidMessage::default();
    query.attributes.push(NsidAttribute::Fd(file));
    let mut query = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(query));
    query.header.flags = NLM_F_REQUEST;
    let mut answers = handle.clone().request(query).ok()?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer)) =
        answers.next().await?.payload
    else {
        return None;
    };
    answer.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(id) => Some(*id),
        _ => None,
    })
}

/// Namespaces that are looked at: more than a node has pods.
const MOST: usize = 2048;
