// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent dies, comes back, is replaced and removed while sockets are used.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helper fails its test like the test itself"
)]

mod churn;
mod crash;
mod full;
mod growth;
mod pins;
mod roots;
mod steady;
mod strangers;
mod upgrade;
mod writes;
