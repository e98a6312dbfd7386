//! The ways in: ng over UDP, TCP, HTTP and WebSocket.
//!
//! | part | does |
//! | --- | --- |
//! | [`gate`] | who may ask, and how often |
//! | [`doors`] | what each way in counts |
//! | [`bind`] | sockets |
//! | [`permits`], [`patient`] | how many connections there may be, and how slow they may read |
//! | [`udp`], [`tcp`], [`http`], [`ws`] | bytes in, bytes out |
//! | [`metrics`] | what Prometheus reads |
//! | [`ctl`](crate::ctl) | the text commands |
//!
//! They share a [`Front`]: it tells a request from a retransmission, has requests of different calls overlap and
//! those of one call queue, and gives each reply to whoever is to have it ([`ReplyTo`]). What strangers can
//! make it keep is bounded: requests under way by [`MAX_PENDING`] and [`MAX_PENDING_BYTES`], answers by the
//! cookie cache, connections by [`MAX_CONNECTIONS`], shared out by [`permits`], and each by [`IN_FLIGHT`].

mod bind;
mod doors;
mod gate;
mod http;
mod metrics;
mod patient;
mod permits;
mod tcp;
mod udp;
mod ws;

pub(crate) use bind::Sockets;
pub(crate) use doors::Doors;
pub(crate) use gate::Gate;

use crate::service::Service;
use doors::{Event, Transport};
use penstock_ng::{CookieCache, Datagram, Encoding, FrameError, Reply, Request, Seen, reason};
use permits::{Permit, Permits};
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// Requests being carried out or waiting; those beyond are dropped or refused, and the client tries again.
const MAX_PENDING: usize = 16_384;

/// Their bytes, as they came.
const MAX_PENDING_BYTES: usize = 64 << 20;

/// Largest datagram that UDP can carry.
const MAX_DATAGRAM: usize = 65_507;

/// Connections at one time, over TCP and over HTTP each.
const MAX_CONNECTIONS: usize = 256;

/// Those of them that loopback finds free, whoever else is there.
const KEPT_FOR_LOOPBACK: usize = 32;

/// Requests of one connection that are carried out, or whose replies were not taken off yet. While there are
/// so many, nothing is read from it.
const IN_FLIGHT: usize = 64;

/// Bytes of a reply whose memory is used for the next.
const KEPT: usize = 64 * 1024;

/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(600);

/// How long a client may take to send a request that it has begun, or to take off a reply.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom a request comes from, as far as retransmissions go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Peer {
    Datagrams(SocketAddr),
    /// A connection: its other end, and its number, never given out again.
    Connection(SocketAddr, u64),
    /// Who sends no cookies: nothing is a retransmission.
    Plain(SocketAddr),
}

impl Peer {
    fn address(self) -> SocketAddr {
        let (Peer::Datagrams(address) | Peer::Connection(address, _) | Peer::Plain(address)) = self;
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }
}

/// Who is to have a reply. Dropped, it is never answered.
enum ReplyTo {
    Datagram {
        socket: Arc<UdpSocket>,
        peer: SocketAddr,
    },
    /// The connection's writer. The permit is kept until the reply is taken off.
    Stream {
        writer: mpsc::UnboundedSender<Outgoing>,
        permit: OwnedSemaphorePermit,
    },
    Once(oneshot::Sender<Vec<u8>>),
}

/// A reply on its way to a connection.
struct Outgoing {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

/// One request and whom to answer.
struct Job {
    request: Request,
    peer: Peer,
    cookie: Vec<u8>,
    encoding: Encoding,
    bytes: usize,
    to: ReplyTo,
}

/// What the ways in share.
pub(crate) struct Front {
    service: Rc<Service>,
    gate: Arc<Gate>,
    doors: Arc<Doors>,
    cookies: RefCell<CookieCache<Peer>>,
    pending: Cell<usize>,
    pending_bytes: Cell<usize>,
    connections: Cell<u64>,
    /// Where replies are written; away while one waits to be sent.
    out: RefCell<Vec<u8>>,
}

impl Front {
    pub(crate) fn new(service: Rc<Service>) -> Rc<Front> {
        Rc::new(Front {
            gate: service.reloader.gate().clone(),
            doors: service.stats.doors.clone(),
            service,
            cookies: RefCell::new(CookieCache::new(Instant::now())),
            pending: Cell::new(0),
            pending_bytes: Cell::new(0),
            connections: Cell::new(0),
            out: RefCell::default(),
        })
    }

    /// Serves for ever on all of them.
    pub(crate) fn run(self: Rc<Self>, sockets: Sockets) {
        for socket in sockets.udp {
            tokio::task::spawn_local(udp::run(self.clone(), socket));
        }
        let permits: Arc<Permits> = Arc::default();
        for listener in sockets.tcp {
            let connected = self
                .clone()
                .accept(listener, Transport::Tcp, permits.clone(), {
                    let front = self.clone();
                    move |stream, connection| tcp::serve(front.clone(), stream, connection)
                });
            tokio::task::spawn_local(connected);
        }
        if sockets.http.is_empty() {
            return;
        }
        let permits: Arc<Permits> = Arc::default();
        let asks = http::Asks::new(&self);
        for listener in sockets.http {
            let asks = asks.clone();
            let connected =
                self.clone()
                    .accept(listener, Transport::Http, permits.clone(), move |s, c| {
                        http::serve(asks.clone(), s, c)
                    });
            tokio::task::spawn_local(connected);
        }
    }

    /// Takes on connections, and has `serve` serve each.
    async fn accept<F: Future<Output = ()> + 'static>(
        self: Rc<Self>,
        listener: TcpListener,
        transport: Transport,
        permits: Arc<Permits>,
        serve: impl Fn(TcpStream, Connection) -> F,
    ) {
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                // Out of descriptors, mostly: do not spin on it.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            if !self.gate.allows(peer.ip()) {
                self.doors.count(transport, Event::Denied);
                continue;
            }
            let Some(permit) = permits.take(peer.ip()) else {
                self.doors.count(transport, Event::Refused);
                continue;
            };
            self.doors.count(transport, Event::Connection);
            self.connections.set(self.connections.get() + 1);
            // A reply is one write: there is nothing to wait for.
            let _ = stream.set_nodelay(true);
            let connection = Connection {
                peer,
                number: self.connections.get(),
                _permit: permit,
            };
            tokio::task::spawn_local(serve(stream, connection));
        }
    }

    /// Looks at a message, and answers it now, later, or not at all.
    fn take(self: &Rc<Self>, bytes: &[u8], peer: Peer, to: ReplyTo) {
        let stats = &self.service.stats;
        let datagram = match Datagram::parse(bytes) {
            Ok(datagram) => datagram,
            Err(FrameError::Undecodable { reply, .. }) => {
                stats.error("undecodable");
                return self.send_now(to, reply);
            }
            Err(FrameError::NoCookie | FrameError::CookieTooLong { .. }) => {
                return stats.error("no-cookie");
            }
        };
        let (cookie, encoding) = (datagram.cookie.to_vec(), datagram.encoding);
        if self.pending.get() >= MAX_PENDING
            || self.pending_bytes.get() + bytes.len() > MAX_PENDING_BYTES
        {
            stats.error("overload");
            // Who sent a datagram sends it again.
            if !matches!(to, ReplyTo::Datagram { .. }) {
                let reply = Reply::error(reason::LOAD_LIMIT).encode(&cookie, encoding);
                self.send_now(to, reply);
            }
            return;
        }
        match self.begin(peer, &cookie) {
            Seen::New => {}
            Seen::InFlight => return stats.request("retransmission-in-flight"),
            Seen::Answered(reply) => {
                stats.request("retransmission");
                return self.send_now(to, reply);
            }
        }
        let parsed = self.service.reloader.running(|config| {
            let template = |name: &str| config.templates.get(name).map(String::as_str);
            Request::parse_with(&datagram.dict, template)
        });
        match parsed {
            Ok(request) => self.queue(Job {
                request,
                peer,
                cookie,
                encoding,
                bytes: bytes.len(),
                to,
            }),
            Err(error) => {
                stats.error("bad-request");
                let reply = Reply::error(error.to_string()).encode(&cookie, encoding);
                self.finish(peer, &cookie, &reply);
                self.send_now(to, reply);
            }
        }
    }

    fn begin(&self, peer: Peer, cookie: &[u8]) -> Seen {
        if matches!(peer, Peer::Plain(_)) {
            return Seen::New;
        }
        let mut cookies = self.cookies.borrow_mut();
        let seen = cookies.begin(peer, cookie, Instant::now());
        self.doors.set_cookies(cookies.len());
        seen
    }

    fn finish(&self, peer: Peer, cookie: &[u8], reply: &[u8]) {
        if !matches!(peer, Peer::Plain(_)) {
            let mut cookies = self.cookies.borrow_mut();
            cookies.finish(peer, cookie, reply, Instant::now());
        }
    }

    /// Starts a request, or has it wait for the one of the same call.
    fn queue(self: &Rc<Self>, job: Job) {
        self.pending.set(self.pending.get() + 1);
        self.pending_bytes.set(self.pending_bytes.get() + job.bytes);
        let own = job.request.call_id().map(str::to_owned);
        let other = job.request.other_call_id().map(str::to_owned);
        let front = self.clone();
        let work = async move { front.carry_out(job).await };
        match (own, other) {
            (Some(own), Some(other)) => self.service.in_both_turns([&own, &other], work),
            (Some(own), None) => self.service.in_turn(&own, work),
            (None, _) => drop(tokio::task::spawn_local(work)),
        }
    }

    async fn carry_out(&self, job: Job) {
        let is_delete = matches!(job.request, Request::Delete(_));
        let reply = self.service.serve(job.request, job.peer.address()).await;
        let mut bytes = self.out.take();
        reply.encode_into(&job.cookie, job.encoding, &mut bytes);
        if bytes.len() > MAX_DATAGRAM && matches!(job.to, ReplyTo::Datagram { .. }) {
            let text = "The reply is too large for a datagram";
            let short = match is_delete {
                true => Reply::warning(text),
                false => Reply::error(text),
            };
            short.encode_into(&job.cookie, job.encoding, &mut bytes);
        }
        self.finish(job.peer, &job.cookie, &bytes);
        self.pending.set(self.pending.get() - 1);
        self.pending_bytes.set(self.pending_bytes.get() - job.bytes);
        match job.to {
            ReplyTo::Datagram { socket, peer } => {
                if socket.send_to(&bytes, peer).await.is_err() {
                    self.service.stats.error("send");
                }
                if bytes.capacity() <= KEPT {
                    self.out.replace(bytes);
                }
            }
            to => self.send_now(to, bytes),
        }
    }

    /// Gives a reply to whoever is to have it. A datagram leaves only if there is room: this is for replies
    /// that cost an attacker nothing to ask for.
    fn send_now(&self, to: ReplyTo, bytes: Vec<u8>) {
        let is_gone = match to {
            ReplyTo::Datagram { socket, peer } => socket.try_send_to(&bytes, peer).is_err(),
            ReplyTo::Stream { writer, permit } => {
                let outgoing = Outgoing {
                    bytes,
                    _permit: permit,
                };
                writer.send(outgoing).is_err()
            }
            ReplyTo::Once(reply) => reply.send(bytes).is_err(),
        };
        if is_gone {
            self.service.stats.error("send");
        }
    }
}

/// A connection that was taken on, and its permit among them.
struct Connection {
    peer: SocketAddr,
    number: u64,
    _permit: Permit,
}

/// Waits until a connection's source may ask; false if it may no longer.
async fn may_ask(gate: &Gate, doors: &Doors, transport: Transport, ip: IpAddr) -> bool {
    let mut is_first = true;
    loop {
        match gate.admit(ip, Instant::now()) {
            gate::Verdict::Pass => {
                doors.count(transport, Event::Request);
                return true;
            }
            gate::Verdict::Denied => {
                doors.count(transport, Event::Denied);
                return false;
            }
            gate::Verdict::Wait(time) => {
                if std::mem::take(&mut is_first) {
                    doors.count(transport, Event::Limited);
                }
                tokio::time::sleep(time).await;
            }
        }
    }
}
