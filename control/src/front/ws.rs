//! WebSocket: one message, one reply, in the order in which they are done. Questions are text or binary, replies
//! binary, as rtpengine's.

use super::http::{Ask, Client, refuse, without_cookie};
use super::{Event, IDLE, IN_FLIGHT, Outgoing, PATIENCE, Peer, ReplyTo, Transport, may_ask};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::Response;
use penstock_ng::MAX_MESSAGE;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// What a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sub {
    /// `COOKIE SP DICT`
    Ng,
    /// `DICT`
    Plain,
    /// A command a message.
    Cli,
    /// What comes goes back.
    Echo,
}

const SUBS: [(&str, Sub); 4] = [
    ("ng.rtpengine.com", Sub::Ng),
    ("ng-plain.rtpengine.com", Sub::Plain),
    ("cli.rtpengine.com", Sub::Cli),
    ("echo.rtpengine.com", Sub::Echo),
];

/// Takes up a WebSocket, if it is to speak what is spoken here.
pub(super) fn upgrade(client: Arc<Client>, upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade
        .protocols(SUBS.map(|(name, _)| name))
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(16 * 1024)
        .max_write_buffer_size(16 << 20);
    let chosen = upgrade.selected_protocol();
    let sub = SUBS
        .iter()
        .find(|(name, _)| chosen.is_some_and(|chosen| chosen == name));
    let Some(&(_, sub)) = sub else {
        let names = SUBS.map(|(name, _)| name).join(", ");
        let text = format!("Sec-WebSocket-Protocol must be one of {names}");
        return refuse(StatusCode::BAD_REQUEST, &text);
    };
    upgrade.on_upgrade(move |socket| async move {
        client
            .asks
            .doors
            .count(Transport::WebSocket, Event::Connection);
        if let Some(why) = serve(socket, &client, sub).await {
            client.asks.doors.count(Transport::WebSocket, why);
        }
    })
}

/// Serves a connection to its end; returns why it was cut off.
async fn serve(mut socket: WebSocket, client: &Client, sub: Sub) -> Option<Event> {
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let (writer, mut replies) = mpsc::unbounded_channel();
    loop {
        let has_room = room.available_permits() > 0;
        let next = async {
            tokio::select! {
                Some(reply) = replies.recv() => Next::Reply(reply),
                message = socket.recv(), if has_room => Next::Message(message),
            }
        };
        let message = match timeout(IDLE, next).await {
            Err(_) => return Some(Event::Idle),
            Ok(Next::Reply(reply)) => {
                match timeout(PATIENCE, socket.send(message(sub, reply))).await {
                    Err(_) => return Some(Event::Idle),
                    Ok(Err(_)) => return None,
                    Ok(Ok(())) => continue,
                }
            }
            Ok(Next::Message(None)) => return None,
            // A message beyond the limit, or bytes that are no WebSocket's; or the client is gone.
            Ok(Next::Message(Some(Err(_)))) => return Some(Event::Garbage),
            Ok(Next::Message(Some(Ok(message)))) => message,
        };
        let is_question = matches!(message, Message::Text(_) | Message::Binary(_));
        // axum answers a ping, and says goodbye.
        if !is_question {
            continue;
        }
        let asks = &client.asks;
        if !may_ask(
            &asks.gate,
            &asks.doors,
            Transport::WebSocket,
            client.peer.ip(),
        )
        .await
        {
            return None;
        }
        let permit = room.clone().try_acquire_owned().ok()?;
        let to = ReplyTo::Stream {
            writer: writer.clone(),
            permit,
        };
        let bytes = message.into_data();
        let ask = match sub {
            Sub::Ng => Ask::Ng(bytes, Peer::Connection(client.peer, client.number)),
            Sub::Plain => Ask::Plain(bytes, client.peer),
            Sub::Cli => Ask::Cli(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Sub::Echo => Ask::Echo(bytes),
        };
        asks.to.send((ask, to)).await.ok()?;
    }
}

enum Next {
    Reply(Outgoing),
    Message(Option<Result<Message, axum::Error>>),
}

fn message(sub: Sub, reply: Outgoing) -> Message {
    let bytes = match sub {
        Sub::Plain => without_cookie(reply.bytes),
        Sub::Ng | Sub::Cli | Sub::Echo => reply.bytes,
    };
    Message::binary(bytes)
}
