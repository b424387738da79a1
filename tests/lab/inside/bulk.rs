// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Much in one stream, every byte of it compared: gigabytes up, the same down.
//!
//! A stream is the number of its blocks, then the blocks. Each is the same noise with its own
//! number written over it, so that one that is lost, doubled or out of its turn differs.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// Sends so many blocks, has the same back, and says how long each way took.
///
/// # Errors
/// When the connection fails, or a block is not what was sent.
pub fn pour(to: SocketAddr, blocks: u64) -> Result<()> {
    let mut stream = TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let started = Instant::now();
    send(&mut stream, blocks)?;
    let mut verdict = [0; 8];
    stream.read_exact(&mut verdict).context("the other end has compared")?;
    ensure!(u64::from_be_bytes(verdict) == blocks, "the other end has another number of blocks");
    let (up, turned) = (started.elapsed(), Instant::now());
    ensure!(receive(&mut stream)? == blocks, "another number of blocks came back");
    println!("{blocks} MiB up in {up:.1?}, down in {:.1?}", turned.elapsed());
    Ok(())
}

/// The other end of [`pour`]: compares, says how much there was, and sends as much.
///
/// # Errors
/// As [`pour`]. The other end sees its connection end.
pub(super) fn answer(mut stream: TcpStream) -> Result<()> {
    let blocks = receive(&mut stream)?;
    stream.write_all(&blocks.to_be_bytes())?;
    send(&mut stream, blocks)
}

fn send(stream: &mut impl Write, blocks: u64) -> Result<()> {
    stream.write_all(&blocks.to_be_bytes())?;
    let mut block = noise();
    for number in 0..blocks {
        stamp(&mut block, number);
        stream.write_all(&block).with_context(|| format!("sending block {number}"))?;
    }
    Ok(())
}

/// The number of blocks, all of which are as they must be.
fn receive(stream: &mut impl Read) -> Result<u64> {
    let mut blocks = [0; 8];
    stream.read_exact(&mut blocks).context("reading the number of blocks")?;
    let blocks = u64::from_be_bytes(blocks);
    let (mut expected, mut block) = (noise(), vec![0; BLOCK]);
    for number in 0..blocks {
        stamp(&mut expected, number);
        stream.read_exact(&mut block).with_context(|| format!("receiving block {number}"))?;
        ensure!(block == expected, "block {number} of {blocks} is not what was sent");
    }
    Ok(blocks)
}

/// Bytes without a pattern: xorshift.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_ne_bytes()
    };
    (0..BLOCK / 8).flat_map(|_| next()).collect()
}

/// Writes a block's number over its begin and its end.
fn stamp(block: &mut [u8], number: u64) {
    let bytes = number.to_be_bytes();
    for place in [0, BLOCK - 8] {
        if let Some(room) = block.get_mut(place..place + 8) {
            room.copy_from_slice(&bytes);
        }
    }
}

/// Bytes of a block.
const BLOCK: usize = 1 << 20;
/// Longest time without a byte.
const LIMIT: Duration = Duration::from_secs(20);
