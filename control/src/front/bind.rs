//! The sockets that ng is answered on.

use penstock_config::Control;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::net::{TcpListener, UdpSocket};

/// Bytes of datagrams the kernel may keep for us: a second's worth at a high rate.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Connections that the kernel may keep for us.
const BACKLOG: i32 = 128;

/// All of them, bound.
pub(crate) struct Sockets {
    pub(super) udp: Vec<Arc<UdpSocket>>,
    pub(super) tcp: Vec<TcpListener>,
    pub(super) http: Vec<TcpListener>,
}

impl Sockets {
    /// Binds what the configuration lists.
    ///
    /// # Errors
    /// Which one cannot be bound, and why.
    pub(crate) fn bind(control: &Control) -> Result<Sockets, String> {
        Ok(Sockets {
            udp: each("ng", &control.ng, udp)?,
            tcp: each("ng_tcp", &control.ng_tcp, listener)?,
            http: each("http", &control.http, listener)?,
        })
    }
}

fn each<T>(
    key: &str,
    addresses: &[SocketAddr],
    open: fn(SocketAddr) -> io::Result<T>,
) -> Result<Vec<T>, String> {
    let opened = addresses.iter().map(|&at| {
        open(at).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "[control] {key} {at} is in use: another penstock-control or rtpengine listens there"
            ),
            _ => format!("cannot bind [control] {key} {at}: {error}"),
        })
    });
    opened.collect()
}

fn udp(at: SocketAddr) -> io::Result<Arc<UdpSocket>> {
    let socket = open(at, SocketType::DGRAM)?;
    // The kernel grants what it allows; less is no error.
    let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    bind(&socket, &at)?;
    Ok(Arc::new(UdpSocket::from_std(socket.into())?))
}

fn listener(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(at, SocketType::STREAM)?;
    // Connections that a former control closed may not keep the address from this one.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &at)?;
    listen(&socket, BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn open(at: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, None)?;
    if at.is_ipv6() {
        // So that 0.0.0.0 and [::] can both be listed, on one port.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}
