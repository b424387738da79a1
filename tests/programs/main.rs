// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel programs and what loads them, on the running kernel: each test has a cgroup,
//! a network namespace and a directory of pins of its own, and leaves nothing behind.

#[cfg(test)]
mod bed;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod flows;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod growth;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod nets;
#[cfg(test)]
mod pins;
#[cfg(test)]
mod selftest;
#[cfg(test)]
mod smoke;
