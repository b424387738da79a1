// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Opens sockets on command: the other end of [`crate::driver::Driver`].

use std::{
    collections::HashMap,
    io::{BufRead as _, Write as _, stdin, stdout},
    net::{Shutdown, SocketAddr},
    os::unix::net::UnixDatagram,
};

use anyhow::Result;
use socket2::Socket;

use super::{
    cookies,
    crowd::Crowd,
    dissolve,
    exchange::{self, named},
    hand_over,
    hold::Hold,
    load::Load,
    survey,
};
use crate::wire::{AskSpec, Reply, Request, Sock, SocketError, Task};

/// Everything that this process holds open.
#[derive(Default)]
struct Drive {
    sockets: HashMap<u32, Socket>,
    loads: HashMap<u32, Load>,
    holds: HashMap<u32, Hold>,
    crowds: HashMap<u32, Crowd>,
    inbox: Option<UnixDatagram>,
    next: u32,
}

/// Reads commands from standard input to its end, answering each.
///
/// # Errors
/// When a command is not JSON, or nobody reads the replies.
pub fn run() -> Result<()> {
    let mut drive = Drive::default();
    let mut out = stdout().lock();
    for line in stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let reply = drive.obey(request).unwrap_or_else(|error| Reply::Failed { error });
        writeln!(out, "{}", serde_json::to_string(&reply)?)?;
        out.flush()?;
    }
    Ok(())
}

impl Drive {
    /// One command.
    fn obey(&mut self, request: Request) -> Result<Reply, SocketError> {
        match request {
            Request::BurnCookies { count } => cookies::burn(count).map(|()| Reply::Done),
            Request::OpenInbox { path } => {
                self.inbox = Some(UnixDatagram::bind(path).map_err(named("bind"))?);
                Ok(Reply::Done)
            }
            Request::Ask { spec } => ask(&spec),
            Request::Survey { specs } => Ok(Reply::Survey { attempts: survey::run(&specs) }),
            Request::Close { sock } => {
                self.sockets.remove(&sock.0).ok_or_else(unknown)?;
                Ok(Reply::Done)
            }
            Request::Load { spec } => {
                let number = self.number();
                self.loads.insert(number, Load::start(spec));
                Ok(Reply::Started { task: Task(number) })
            }
            Request::LoadReport { task, stop } => {
                let load = self.loads.get_mut(&task.0).ok_or_else(unknown)?;
                Ok(Reply::Load { report: load.report(stop) })
            }
            Request::Hold { spec } => {
                let number = self.number();
                self.holds.insert(number, Hold::start(&spec));
                Ok(Reply::Started { task: Task(number) })
            }
            Request::HoldReport { task, stop } => {
                let hold = self.holds.get_mut(&task.0).ok_or_else(unknown)?;
                Ok(Reply::Hold { report: hold.report(stop) })
            }
            Request::Crowd { spec } => {
                let (crowd, report) = Crowd::open(&spec).map_err(named("setrlimit"))?;
                let number = self.number();
                self.crowds.insert(number, crowd);
                Ok(Reply::Crowd { task: Task(number), report })
            }
            Request::CrowdEcho { task } => {
                let crowd = self.crowds.get_mut(&task.0).ok_or_else(unknown)?;
                Ok(Reply::Crowd { task, report: crowd.echo() })
            }
            request => self.new_socket(request),
        }
    }

    /// A command that gives this process a socket.
    fn new_socket(&mut self, request: Request) -> Result<Reply, SocketError> {
        let socket = match request {
            Request::Open { spec } => exchange::open(&spec)?,
            Request::OpenAt { spec, mask, places } => cookies::open_at(&spec, mask, &places)?,
            Request::Duplicate { sock } => self.socket(sock)?.try_clone().map_err(named("dup"))?,
            Request::TakeOver => {
                let inbox = self.inbox.take().ok_or_else(unknown)?;
                hand_over::receive(&inbox).map_err(named("recvmsg"))?
            }
            Request::Accept { sock } => {
                let (socket, from) = self.socket(sock)?.accept().map_err(named("accept"))?;
                let from = exchange::internet(Ok(from), "accept")?;
                return Ok(Reply::Accepted { sock: self.keep(socket), from });
            }
            request => return self.on_socket(request),
        };
        Ok(Reply::Opened { sock: self.keep(socket) })
    }

    /// A command that is one system call on one open socket.
    fn on_socket(&self, request: Request) -> Result<Reply, SocketError> {
        match request {
            Request::Connect { sock, to } => {
                self.socket(sock)?.connect(&to.into()).map_err(named("connect"))?;
            }
            Request::Dissolve { sock } => {
                dissolve::dissolve(self.socket(sock)?).map_err(named("connect"))?;
            }
            Request::Listen { sock } => self.socket(sock)?.listen(128).map_err(named("listen"))?,
            Request::Send { sock, data } => {
                self.socket(sock)?.send(data.as_bytes()).map_err(named("send"))?;
            }
            Request::SendTo { sock, to, data } => {
                self.socket(sock)?.send_to(data.as_bytes(), &to.into()).map_err(named("sendto"))?;
            }
            Request::ShutdownWrite { sock } => {
                self.socket(sock)?.shutdown(Shutdown::Write).map_err(named("shutdown"))?;
            }
            Request::HandOver { sock, path } => {
                hand_over::send(self.socket(sock)?, &path).map_err(named("sendmsg"))?;
            }
            Request::RecvFrom { sock } => {
                let (data, from) = exchange::receive(self.socket(sock)?)?;
                return Ok(Reply::Bytes { data, from });
            }
            Request::PeerName { sock } => {
                return exchange::peer_name(self.socket(sock)?).map(address);
            }
            Request::SockName { sock } => {
                return exchange::sock_name(self.socket(sock)?).map(address);
            }
            Request::Cookie { sock } => {
                let cookie = self.socket(sock)?.cookie().map_err(named("getsockopt"))?;
                return Ok(Reply::Cookie { cookie });
            }
            other => {
                return Err(SocketError::named(
                    "driver",
                    format!("{other:?} is no call on a socket"),
                ));
            }
        }
        Ok(Reply::Done)
    }

    /// Keeps a socket under a fresh number.
    fn keep(&mut self, socket: Socket) -> Sock {
        let number = self.number();
        self.sockets.insert(number, socket);
        Sock(number)
    }

    /// A number that was not given before.
    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// An open socket.
    fn socket(&self, sock: Sock) -> Result<&Socket, SocketError> {
        self.sockets.get(&sock.0).ok_or_else(unknown)
    }
}

/// One exchange on a socket of its own.
fn ask(spec: &AskSpec) -> Result<Reply, SocketError> {
    let (_, answer) = exchange::ask(spec, "who")?;
    Ok(Reply::Answer { answer })
}

/// An address as a reply.
fn address(address: SocketAddr) -> Reply {
    Reply::Address { address }
}

/// A socket or task that this process does not have.
fn unknown() -> SocketError {
    SocketError::named("driver", "no such socket or task")
}
