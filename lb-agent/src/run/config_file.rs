// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A change of the settings' file ends the agent, so that it starts with the new ones
//! (CFG-01).

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time;

use crate::config::ConfigFile;

/// Returns the file's path when its content is another, or the file is gone. Without a file, never.
///
/// It is read again and again: a file that is mounted from a ConfigMap changes by a link two
/// folders away, which no watch of the file sees.
pub(super) async fn changed(file: Option<ConfigFile>) -> PathBuf {
    let Some(ConfigFile { path, text }) = file else { return std::future::pending().await };
    while !is_other(&path, &text) {
        time::sleep(PERIOD).await;
    }
    path
}

/// A file that cannot be read for another reason than that it is gone is as it was.
fn is_other(path: &Path, text: &str) -> bool {
    match fs::read_to_string(path) {
        Ok(now) => now != text,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// How often it is read.
const PERIOD: Duration = Duration::from_secs(1);
