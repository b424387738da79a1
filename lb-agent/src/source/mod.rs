// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the cluster's objects come from.

pub mod convert;
