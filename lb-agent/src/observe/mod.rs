// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What others see of the agent: health over HTTP, metrics for Prometheus.
//!
//! Reads what the reconcile loop publishes and what the kernel programs count; decides
//! nothing and writes nothing.

pub mod backlog;
pub mod exposition;
pub mod health;
pub mod http;
pub mod kernel;
pub mod metrics;
pub mod service_health;
