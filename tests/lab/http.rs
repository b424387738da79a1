// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One bounded HTTP request from the calling thread's namespace.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers by name in lower case.
    pub headers: BTreeMap<String, String>,
    /// The rest, to the end of the connection.
    pub body: String,
}

/// Status and body of `GET path`, read to the end of the connection.
///
/// # Errors
/// When nobody answers HTTP within two seconds.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let Reply { status, body, .. } = ask(address, "GET", path)?;
    Ok((status, body))
}

/// The answer to a request without a body.
///
/// # Errors
/// When nobody answers HTTP within two seconds.
pub fn ask(address: SocketAddr, method: &str, path: &str) -> Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)
        .with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let request =
        format!("{method} {path} HTTP/1.0\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("reading {path} of {address}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an empty line")?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|status| status.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(':'));
    Ok(Reply {
        status: status.context("an answer without a status")?,
        headers: headers
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect(),
        body: body.to_owned(),
    })
}

/// Limit of each step.
const LIMIT: Duration = Duration::from_secs(2);
