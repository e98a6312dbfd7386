//! ng over UDP. Requests of different calls overlap, those of one call queue in its lane.

use crate::service::Service;
use penstock_ng::{CookieCache, Datagram, Encoding, FrameError, MAX_COOKIE, Reply, Request, Seen};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;
use tokio::net::UdpSocket;

/// Requests being carried out or waiting; those beyond are dropped, and the client tries again.
const MAX_PENDING: usize = 16_384;

/// Largest datagram that UDP can carry.
const MAX_DATAGRAM: usize = 65_507;

/// Datagrams taken in before other tasks get their turn.
const BURST: usize = 64;

/// One request and whom to answer.
struct Job {
    request: Request,
    peer: SocketAddr,
    cookie: Vec<u8>,
    encoding: Encoding,
}

/// The ng server.
pub(crate) struct Server {
    socket: UdpSocket,
    service: Rc<Service>,
    cookies: RefCell<CookieCache>,
    pending: std::cell::Cell<usize>,
}

impl Server {
    pub(crate) fn new(socket: UdpSocket, service: Rc<Service>) -> Rc<Server> {
        Rc::new(Server {
            socket,
            service,
            cookies: RefCell::new(CookieCache::new(Instant::now())),
            pending: std::cell::Cell::new(0),
        })
    }

    /// Serves for ever.
    pub(crate) async fn run(self: Rc<Self>) {
        let mut buffer = vec![0; MAX_DATAGRAM + 1];
        let mut taken = 0;
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((len, peer)) => self.clone().take(&buffer[..len], peer),
                // On a UDP socket an error belongs to an earlier reply, and costs nothing else.
                Err(_) => self.service.stats.error("receive"),
            }
            taken += 1;
            if taken % BURST == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn take(self: Rc<Self>, bytes: &[u8], peer: SocketAddr) {
        let stats = &self.service.stats;
        let datagram = match Datagram::parse(bytes) {
            Ok(datagram) => datagram,
            Err(FrameError::Undecodable { reply, .. }) => {
                stats.error("undecodable");
                return self.send_now(&reply, peer);
            }
            Err(FrameError::NoCookie | FrameError::CookieTooLong { .. }) => {
                return stats.error("no-cookie");
            }
        };
        if self.pending.get() >= MAX_PENDING {
            return stats.error("overload");
        }
        let seen = self
            .cookies
            .borrow_mut()
            .begin(peer, datagram.cookie, Instant::now());
        match seen {
            Seen::New => {}
            Seen::InFlight => return stats.request("retransmission-in-flight"),
            Seen::Answered(reply) => {
                stats.request("retransmission");
                return self.send_now(&reply, peer);
            }
        }
        let request = Request::parse(&datagram.dict);
        let (cookie, encoding) = (datagram.cookie.to_vec(), datagram.encoding);
        match request {
            Ok(request) => {
                self.pending.set(self.pending.get() + 1);
                self.queue(Job {
                    request,
                    peer,
                    cookie,
                    encoding,
                });
            }
            Err(error) => {
                stats.error("bad-request");
                let reply = Reply::error(error.to_string()).encode(&cookie, encoding);
                let now = Instant::now();
                self.cookies.borrow_mut().finish(peer, &cookie, &reply, now);
                self.send_now(&reply, peer);
            }
        }
    }

    /// Starts a request, or has it wait for the one of the same call.
    fn queue(self: Rc<Self>, job: Job) {
        let lanes = self.service.lanes.clone();
        let lane = job.request.call_id().map(str::to_owned);
        let work = async move { self.carry_out(job).await };
        match lane {
            Some(lane) => lanes.run(&lane, work),
            None => drop(tokio::task::spawn_local(work)),
        }
    }

    async fn carry_out(&self, job: Job) {
        let is_delete = matches!(job.request, Request::Delete(_));
        let reply = self.service.serve(job.request, job.peer.ip()).await;
        let mut bytes = reply.encode(&job.cookie, job.encoding);
        if bytes.len() > MAX_DATAGRAM {
            let text = "The reply is too large for a datagram";
            let short = match is_delete {
                true => Reply::warning(text),
                false => Reply::error(text),
            };
            bytes = short.encode(&job.cookie, job.encoding);
        }
        debug_assert!(job.cookie.len() <= MAX_COOKIE);
        let now = Instant::now();
        self.cookies
            .borrow_mut()
            .finish(job.peer, &job.cookie, &bytes, now);
        self.pending.set(self.pending.get() - 1);
        if self.socket.send_to(&bytes, job.peer).await.is_err() {
            self.service.stats.error("send");
        }
    }

    /// Sends if there is room, for replies that cost an attacker nothing to ask for.
    fn send_now(&self, reply: &[u8], peer: SocketAddr) {
        if self.socket.try_send_to(reply, peer).is_err() {
            self.service.stats.error("send");
        }
    }
}
