// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests against a real control plane: etcd, kube-apiserver and the controllers.

mod control_plane;
mod kube_proxy;
mod metrics;

/// Ends the test with a line when this machine cannot make a lab.
macro_rules! need_lab {
    () => {
        if let Some(why) = lab::missing() {
            println!("SKIP {why}");
            return;
        }
    };
}
use need_lab;
