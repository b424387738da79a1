// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fields of a KubeProxyConfiguration, read from the table `fields.psv`.

use std::sync::LazyLock;

use serde_json::Value;

use super::value::Kind;

/// A field.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its path, as in `conntrack.maxPerCore`.
    pub path: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// What kube-proxy takes where the file says nothing.
    pub default: Value,
    /// kube-proxy's flag of the same meaning; with `own` one that `run` has for itself.
    pub flag: Option<&'static str>,
    /// Whether the flag is one of `run`'s own, with a type and a default of its own.
    pub own: bool,
    /// What becomes of it.
    pub here: Here,
    /// Why, or what it does.
    pub why: &'static str,
}

/// What becomes of a field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Here {
    /// It does what it says.
    Honoured,
    /// It has no meaning.
    Void,
    /// Behaviour is as the operator expects with these values only.
    Same(Vec<&'static str>),
}

/// All of them, in the order of the upstream type.
pub fn fields() -> &'static [Field] {
    static FIELDS: LazyLock<Vec<Field>> =
        LazyLock::new(|| TABLE.lines().filter_map(Field::parse).collect());
    &FIELDS
}

/// The field with this path.
pub(super) fn field(path: &str) -> Option<&'static Field> {
    fields().iter().find(|field| field.path == path)
}

impl Field {
    /// A row of the table; comments are none.
    fn parse(line: &'static str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let mut cells = line.split('|').map(str::trim);
        let (path, kind, default) = (cells.next()?, cells.next()?, cells.next()?);
        let (flag, here, why) = (cells.next()?, cells.next()?, cells.next()?);
        let (own, flag) = match flag.strip_prefix('@') {
            Some(flag) => (true, flag),
            None => (false, flag),
        };
        Some(Self {
            path,
            kind: Kind::parse(kind)?,
            default: serde_json::from_str(default).ok()?,
            flag: Some(flag).filter(|flag| !flag.is_empty()),
            own,
            here: match here.split_once(' ') {
                None if here == "honoured" => Here::Honoured,
                None if here == "void" => Here::Void,
                Some(("same", values)) => Here::Same(values.split(',').collect()),
                _ => return None,
            },
            why,
        })
    }
}

/// One line a field.
const TABLE: &str = include_str!("fields.psv");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read_and_every_default_is_a_value_of_its_kind() {
        let rows = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(fields().len(), rows);
        for field in fields() {
            if !field.default.is_null() {
                assert_eq!(field.kind.check(&field.default), Ok(()), "{}", field.path);
            }
        }
    }

    /// The fields of `k8s.io/kube-proxy/config/v1alpha1/types.go`, of
    /// `ClientConnectionConfiguration` and of `LoggingConfiguration`, release 1.36, by their
    /// JSON names: none is forgotten, and none is made up.
    #[test]
    fn cfg_01_the_table_has_every_field_of_the_type() {
        let sections: [(&str, &str); 11] = [
            (
                "",
                "apiVersion kind featureGates hostnameOverride bindAddress healthzBindAddress \
                 metricsBindAddress bindAddressHardFail enableProfiling \
                 showHiddenMetricsForVersion mode detectLocalMode clusterCIDR \
                 nodePortAddresses oomScoreAdj configSyncPeriod portRange windowsRunAsService",
            ),
            ("clientConnection.", "kubeconfig acceptContentTypes contentType qps burst"),
            ("logging.", "format flushFrequency verbosity vmodule"),
            ("logging.options.text.", "splitStream infoBufferSize"),
            ("logging.options.json.", "splitStream infoBufferSize"),
            (
                "iptables.",
                "masqueradeBit masqueradeAll localhostNodePorts syncPeriod minSyncPeriod",
            ),
            (
                "ipvs.",
                "syncPeriod minSyncPeriod scheduler excludeCIDRs strictARP tcpTimeout \
                 tcpFinTimeout udpTimeout",
            ),
            ("nftables.", "masqueradeBit masqueradeAll syncPeriod minSyncPeriod"),
            (
                "winkernel.",
                "networkName sourceVip enableDSR rootHnsEndpointName forwardHealthCheckVip",
            ),
            ("detectLocal.", "bridgeInterface interfaceNamePrefix"),
            (
                "conntrack.",
                "maxPerCore min tcpEstablishedTimeout tcpCloseWaitTimeout tcpBeLiberal \
                 udpTimeout udpStreamTimeout",
            ),
        ];
        let mut upstream: Vec<_> = sections
            .iter()
            .flat_map(|(section, names)| {
                names.split_whitespace().map(move |name| format!("{section}{name}"))
            })
            .collect();
        let mut ours: Vec<_> = fields().iter().map(|field| field.path.to_owned()).collect();
        upstream.sort_unstable();
        ours.sort_unstable();
        assert_eq!(ours, upstream);
    }
}
