// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tens of thousands of connections at a time, on a few threads.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::Semaphore,
    time::timeout,
};

use crate::wire::{CrowdReport, CrowdSpec};

/// Connections that are open.
pub(super) struct Crowd {
    runtime: Runtime,
    streams: Vec<TcpStream>,
}

impl Crowd {
    /// Opens them, many at a time, each to the next address in turn; the report is about
    /// those that were opened and have answered once.
    pub(super) fn open(spec: &CrowdSpec) -> io::Result<(Self, CrowdReport)> {
        let runtime = runtime()?;
        let count = usize::try_from(spec.connections).unwrap_or(usize::MAX);
        let targets = spec.to.iter().copied().cycle().take(count).collect();
        let (streams, report) =
            runtime.block_on(each(targets, |number, to: SocketAddr| async move {
                let mut stream = timeout(LIMIT, TcpStream::connect(to)).await??;
                stream.set_nodelay(true)?;
                echo(&mut stream, number).await?;
                Ok(stream)
            }));
        Ok((Self { runtime, streams }, report))
    }

    /// One exchange on each. Those that fail are closed.
    pub(super) fn echo(&mut self) -> CrowdReport {
        let streams = std::mem::take(&mut self.streams);
        let (streams, report) =
            self.runtime.block_on(each(streams, |number, mut stream| async move {
                echo(&mut stream, number).await.map(|()| stream)
            }));
        self.streams = streams;
        report
    }
}

/// Gives back on each connection what comes, until the process is killed.
///
/// # Errors
/// When there is no thread or no descriptor to begin with.
pub(super) fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    runtime()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let mut bytes = [0; 8];
                while stream.read_exact(&mut bytes).await.is_ok() {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            });
        }
    })
}

/// Does one thing with each, so many at a time; what came of it, in the order of its end.
async fn each<T: Send + 'static, F>(
    items: Vec<T>,
    act: impl Fn(u64, T) -> F,
) -> (Vec<TcpStream>, CrowdReport)
where
    F: Future<Output = io::Result<TcpStream>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    let done = Arc::new(Mutex::new((Vec::new(), CrowdReport::default())));
    let mut tasks = Vec::with_capacity(items.len());
    for (number, item) in (0..).zip(items) {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let (acting, done) = (act(number, item), Arc::clone(&done));
        tasks.push(tokio::spawn(async move {
            let outcome = acting.await;
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(stream) => {
                    done.1.answered += 1;
                    done.0.push(stream);
                }
                Err(error) => *done.1.errors.entry(error.to_string()).or_default() += 1,
            }
            drop(place);
        }));
    }
    for task in tasks {
        // One that panicked has said so on standard error, and is in no count.
        drop(task.await);
    }
    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *done)
}

/// A number there and back.
async fn echo(stream: &mut TcpStream, number: u64) -> io::Result<()> {
    let sent = number.to_be_bytes();
    let mut back = [0; 8];
    stream.write_all(&sent).await?;
    timeout(LIMIT, stream.read_exact(&mut back)).await??;
    if back == sent { Ok(()) } else { Err(io::Error::other("another one's answer")) }
}

/// A few threads, and as many descriptors as this process may have.
fn runtime() -> io::Result<Runtime> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// Exchanges at a time.
const AT_A_TIME: usize = 256;
/// Longest wait for one exchange.
const LIMIT: Duration = Duration::from_secs(5);
