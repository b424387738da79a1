//! The lab: a cluster of namespaces, cgroups and real processes on one machine.
