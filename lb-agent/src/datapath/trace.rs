// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tracing build: what the kernel programs log goes to the agent's own log.
#![cfg(feature = "trace-datapath")]

use std::io;

use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

use super::kernel::Kernel;

/// Follows the programs' log until the runtime ends. All programs share one ring buffer.
///
/// # Errors
///
/// When the programs were built without the feature, or their ring buffer cannot be read.
pub fn follow(kernel: &Kernel) -> io::Result<()> {
    // Only those on the way out log anything, and have the ring buffer.
    let logger = kernel.programs().find_map(|program| EbpfLogger::init_from_id(program).ok());
    let logger = logger.ok_or_else(|| io::Error::other("no program has a ring buffer for logs"))?;
    #[expect(deprecated, reason = "its successor is unsafe, for file types less tame than this")]
    let mut logger = AsyncFd::with_interest(logger, Interest::READABLE)?;
    tokio::spawn(async move {
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
    Ok(())
}
