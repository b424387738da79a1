// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The server of a pod: says who it is and whom it saw.
//!
//! On every port, IPv4 and IPv6 alike:
//! - TCP, a line of text: answered by an [`Echo`] in a line of JSON; the
//!   connection stays open.
//! - TCP, an HTTP request (`GET /...`): the same as the body of a response.
//! - UDP: the same in a datagram, from the address that was asked.
//!
//! On a bulk port a stream is compared and sent back ([`super::bulk`]), on a crowd port each of
//! very many connections gets back what it sends.
//!
//! On a raw port, bytes come back as they are, TCP from a few threads without
//! one a connection: the cheap partner of benchmarks.

use std::{
    io::{self, BufRead, BufReader, Read as _, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::{bulk, crowd, datagrams};
use crate::{server::ServeSpec, wire::Echo};

/// Serves one listener for ever.
type Serve = fn(&TcpListener);

/// Listens on all ports in both families, says so in one line on standard
/// output, and serves until the process is killed.
///
/// # Errors
/// When a port cannot be bound.
pub fn run(spec: &ServeSpec) -> Result<()> {
    let ServeSpec { name, ports, raw_ports, bulk_ports, crowd_ports } = spec;
    let name: Arc<str> = name.as_str().into();
    for port in ports {
        for any in ANY {
            let address = SocketAddr::new(any, *port);
            let listener = listen(address)?;
            let pod = Arc::clone(&name);
            thread::spawn(move || accept_all(&listener, &pod));
            let socket = UdpSocket::from(bind(address, Type::DGRAM, Protocol::UDP)?);
            datagrams::prepare(&socket)?;
            let pod = Arc::clone(&name);
            thread::spawn(move || answer_datagrams(&socket, &pod));
        }
    }
    for port in raw_ports {
        for any in ANY {
            let listener = listen(SocketAddr::new(any, *port))?;
            for _ in 0..RAW_THREADS {
                let listener = listener.try_clone()?;
                thread::spawn(move || echo_streams(&listener));
            }
            let socket = bind(SocketAddr::new(any, *port), Type::DGRAM, Protocol::UDP)?;
            thread::spawn(move || echo_datagrams(&socket.into()));
        }
    }
    for (ports, serve) in [(bulk_ports, compare_streams as Serve), (crowd_ports, serve_crowd)] {
        for (port, any) in ports.iter().flat_map(|port| ANY.map(|any| (*port, any))) {
            let listener = listen(SocketAddr::new(any, port))?;
            thread::spawn(move || serve(&listener));
        }
    }
    println!("listening");
    loop {
        thread::park();
    }
}

/// A listening TCP socket.
fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = bind(address, Type::STREAM, Protocol::TCP)?;
    socket.listen(BACKLOG).with_context(|| format!("listening on {address}"))?;
    Ok(socket.into())
}

/// A bound socket of one family only: addresses are never IPv4-mapped.
fn bind(address: SocketAddr, kind: Type, protocol: Protocol) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into()).with_context(|| format!("binding to {address}"))?;
    Ok(socket)
}

/// A thread a connection.
fn accept_all(listener: &TcpListener, pod: &Arc<str>) {
    loop {
        // A client that is gone before accept is no concern of the others.
        let Ok((stream, client)) = listener.accept() else {
            continue;
        };
        let pod = Arc::clone(pod);
        let builder = thread::Builder::new().stack_size(STACK_BYTES);
        let serving = builder.spawn(move || answer_lines(stream, client, &pod));
        if let Err(error) = serving {
            eprintln!("no thread for {client}: {error}");
        }
    }
}

/// Answers lines and HTTP requests until the client ends or fails.
fn answer_lines(stream: TcpStream, client: SocketAddr, pod: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let text = line.trim_end();
        let body = echo(pod, client, text);
        if text.ends_with(" HTTP/1.1") || text.ends_with(" HTTP/1.0") {
            let keep = skip_headers(&mut reader)? && text.ends_with('1');
            answer_http(&mut writer, &body, keep)?;
            if !keep {
                return Ok(());
            }
        } else {
            writer.write_all(body.as_bytes())?;
        }
    }
}

/// Reads to the empty line; says whether the connection should stay.
fn skip_headers(reader: &mut impl BufRead) -> io::Result<bool> {
    let mut keep = true;
    loop {
        let mut line = String::new();
        let length = reader.read_line(&mut line)?;
        if length == 0 || line.trim_end().is_empty() {
            return Ok(keep);
        }
        keep &= !line.trim_end().eq_ignore_ascii_case("connection: close");
    }
}

/// One response.
fn answer_http(writer: &mut impl Write, body: &str, keep: bool) -> io::Result<()> {
    let connection = if keep { "keep-alive" } else { "close" };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: {connection}\r\n\r\n"
    );
    writer.write_all(format!("{head}{body}").as_bytes())
}

/// Answers datagrams for ever.
fn answer_datagrams(socket: &UdpSocket, pod: &str) {
    let mut buffer = [0; 2048];
    loop {
        // An ICMP error of an earlier reply shows up here: nothing to do.
        let Ok((length, datagram)) = datagrams::receive(socket, &mut buffer) else {
            continue;
        };
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        let reply = echo(pod, datagram.client, text.trim_end());
        drop(datagrams::answer(socket, &datagram, reply.as_bytes()));
    }
}

/// Gives datagrams back for ever.
fn echo_datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        drop(socket.send_to(buffer.get(..length).unwrap_or_default(), client));
    }
}

/// Gives bytes back, one connection after the other.
fn echo_streams(listener: &TcpListener) {
    let mut buffer = [0; 4096];
    loop {
        let Ok((mut stream, _)) = listener.accept() else {
            continue;
        };
        drop(stream.set_nodelay(true));
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            let Some(bytes) = buffer.get(..length) else {
                break;
            };
            if stream.write_all(bytes).is_err() {
                break;
            }
        }
    }
}

/// Compares streams and sends them back, a thread each.
fn compare_streams(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            if let Err(error) = bulk::answer(stream) {
                eprintln!("a stream: {error:#}");
            }
        });
    }
}

/// Answers very many connections.
fn serve_crowd(listener: &TcpListener) {
    if let Err(error) = listener.try_clone().and_then(crowd::serve) {
        eprintln!("a crowd: {error}");
    }
}

/// An [`Echo`] as a line.
fn echo(pod: &str, client: SocketAddr, text: &str) -> String {
    let echo = Echo { pod: pod.to_owned(), client, text: text.to_owned() };
    let mut line = serde_json::to_string(&echo).unwrap_or_default();
    line.push('\n');
    line
}

/// The wildcard address of each family.
const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
/// Connections that may wait for accept.
const BACKLOG: i32 = 1024;
/// Stack of a connection's thread: thousands of held connections must fit.
const STACK_BYTES: usize = 64 * 1024;
/// Threads on each raw port.
const RAW_THREADS: usize = 4;
