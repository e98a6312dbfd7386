//! ng over UDP. A reply leaves from the address that was asked: each has its socket.

use super::{Event, Front, MAX_DATAGRAM, Peer, ReplyTo, Transport, gate::Verdict};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::UdpSocket;

/// Datagrams taken in before other tasks get their turn.
const BURST: usize = 64;

/// Serves for ever.
pub(super) async fn run(front: Rc<Front>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; MAX_DATAGRAM + 1];
    let mut taken = 0;
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, peer)) => {
                if let Some(bytes) = buffer.get(..len) {
                    take(&front, &socket, bytes, peer);
                }
            }
            // On a UDP socket an error belongs to an earlier reply, and costs nothing else.
            Err(_) => front.service.stats.error("receive"),
        }
        taken += 1;
        if taken % BURST == 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn take(front: &Rc<Front>, socket: &Arc<UdpSocket>, bytes: &[u8], peer: SocketAddr) {
    let event = match front.gate.admit(peer.ip(), Instant::now()) {
        Verdict::Pass => Event::Request,
        Verdict::Denied => Event::Denied,
        Verdict::Wait(_) => Event::Limited,
    };
    front.doors.count(Transport::Udp, event);
    if event == Event::Request {
        let to = ReplyTo::Datagram {
            socket: socket.clone(),
            peer,
        };
        front.take(bytes, Peer::Datagrams(peer), to);
    }
}
