//! ng over TCP: messages back to back, replies in the order in which they are done.
//!
//! Only bencode tells where a message ends, so JSON is garbage here.

use super::{
    Connection, Event, Front, IDLE, IN_FLIGHT, Outgoing, PATIENCE, Peer, ReplyTo, Transport,
    may_ask,
};
use penstock_ng::{Framed, frame};
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

/// Bytes read at once. The buffer holds so many beyond the longest message.
const CHUNK: usize = 16 * 1024;

/// Serves a connection to its end.
pub(super) async fn serve(front: Rc<Front>, stream: TcpStream, connection: Connection) {
    let (read, write) = stream.into_split();
    let (writer, replies) = mpsc::unbounded_channel();
    let reading = requests(&front, read, &connection, writer);
    let writing = write_replies(write, replies);
    tokio::pin!(reading, writing);
    let why = tokio::select! {
        // What was asked before the client said that it has no more questions is answered.
        ended = &mut reading => match ended {
            Ok(()) => writing.await.err(),
            Err(why) => Some(why),
        },
        ended = &mut writing => ended.err(),
    };
    if let Some(why) = why {
        front.doors.count(Transport::Tcp, why);
    }
}

/// Takes requests in until the client has no more; an error is why it is to be cut off.
async fn requests(
    front: &Rc<Front>,
    mut read: OwnedReadHalf,
    connection: &Connection,
    writer: mpsc::UnboundedSender<Outgoing>,
) -> Result<(), Event> {
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut buffer = Vec::new();
    let mut has_begun = false;
    let mut limit = Instant::now() + IDLE;
    loop {
        buffer.reserve(CHUNK);
        let chunk = timeout_at(limit, (&mut read).take(CHUNK as u64).read_buf(&mut buffer)).await;
        match chunk {
            Err(_) => return Err(Event::Idle),
            // A connection that breaks is no event.
            Ok(Ok(0) | Err(_)) => return Ok(()),
            Ok(Ok(_)) => {}
        }
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let len = match frame(rest) {
                Framed::Message(len) => len,
                Framed::Incomplete => break,
                Framed::Garbage => return Err(Event::Garbage),
            };
            let (message, after) = rest.split_at_checked(len).ok_or(Event::Garbage)?;
            rest = after;
            if !may_ask(
                &front.gate,
                &front.doors,
                Transport::Tcp,
                connection.peer.ip(),
            )
            .await
            {
                return Ok(());
            }
            let Ok(permit) = room.clone().acquire_owned().await else {
                return Ok(());
            };
            let to = ReplyTo::Stream {
                writer: writer.clone(),
                permit,
            };
            front.take(
                message,
                Peer::Connection(connection.peer, connection.number),
                to,
            );
        }
        let done = buffer.len() - rest.len();
        // What has begun has to end soon, however it drips in.
        let is_new = !has_begun || done > 0;
        has_begun = !rest.is_empty();
        match has_begun {
            true if is_new => limit = Instant::now() + PATIENCE,
            true => {}
            false => limit = Instant::now() + IDLE,
        }
        buffer.drain(..done);
    }
}

/// Writes replies until nobody has any more; an error is why the client is to be cut off.
async fn write_replies(
    mut write: OwnedWriteHalf,
    mut replies: mpsc::UnboundedReceiver<Outgoing>,
) -> Result<(), Event> {
    while let Some(reply) = replies.recv().await {
        match timeout(PATIENCE, write.write_all(&reply.bytes)).await {
            Err(_) => return Err(Event::Idle),
            Ok(Err(_)) => return Ok(()),
            Ok(Ok(())) => {}
        }
    }
    Ok(())
}
