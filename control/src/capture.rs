//! Captures: a client of the socket has a call's packets copied, for as long as it stays connected.
//!
//! `{"do":"capture","id":"..."}` is answered with `{"ok":{"key":...}}` once the plane makes copies, and with
//! `{"ok":"over"}` when the call has ended. Whatever ends the client, SIGKILL too, ends its connection, and so the
//! capture. Captures of one call are counted: the last one switches the copies off.

use crate::link::LinkError;
use crate::service::{Service, now};
use penstock_media::Pending;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;

/// Captures at one time: they must not take every connection that clients have.
const MAX_CAPTURES: u32 = 16;

/// How long the plane has to apply a change.
const LIMIT: Duration = Duration::from_secs(2);

/// How often it is looked whether the call still stands.
const TICK: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    Capture { id: String },
}

/// The call that this line of a client's wants captured, if it does.
pub(crate) fn requested(line: &str) -> Option<String> {
    let Request::Capture { id } = serde_json::from_str(line).ok()?;
    Some(id)
}

/// Serves a client that captures, until it goes or the call ends.
pub(crate) async fn serve(
    id: &str,
    service: &Rc<Service>,
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let capture = match Capture::begin(service, id).await {
        Ok(capture) => capture,
        Err(error) => return say(&mut write, json!({ "error": error })).await,
    };
    say(&mut write, json!({ "ok": { "key": capture.key } })).await?;
    let mut bytes = [0; 64];
    while capture.stands() {
        tokio::select! {
            // What it says does not matter.
            read = read.read(&mut bytes) => if read? == 0 { return Ok(()) },
            () = tokio::time::sleep(TICK) => {}
        }
    }
    say(&mut write, json!({ "ok": "over" })).await
}

async fn say(write: &mut (impl AsyncWrite + Unpin), reply: Value) -> io::Result<()> {
    write.write_all(format!("{reply}\n").as_bytes()).await
}

/// A capture that runs until this is dropped.
struct Capture {
    service: Rc<Service>,
    key: u64,
}

impl Capture {
    async fn begin(service: &Rc<Service>, id: &str) -> Result<Capture, String> {
        let key = {
            let calls = service.calls.borrow();
            if calls.iter().map(|call| call.captures).sum::<u32>() >= MAX_CAPTURES {
                return Err(format!(
                    "{MAX_CAPTURES} captures run already: end one first"
                ));
            }
            let call = calls.get(id);
            call.ok_or_else(|| format!("there is no call \"{id}\""))?
                .key
        };
        let (done, outcome) = oneshot::channel();
        let worker = service.clone();
        service.in_turn_of(key, async move {
            // If nobody waits any more, it has not begun.
            if let Err(Ok(())) = done.send(worker.begin_capture(key).await) {
                worker.end_capture(key).await;
            }
        });
        outcome.await.map_err(|error| error.to_string())??;
        Ok(Capture {
            service: service.clone(),
            key,
        })
    }

    fn stands(&self) -> bool {
        self.service.calls.borrow().by_key(self.key).is_some()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let (service, key) = (self.service.clone(), self.key);
        let end = async move { service.end_capture(key).await };
        self.service.in_turn_of(self.key, end);
    }
}

impl Service {
    fn change_captures(&self, key: u64, begins: bool) -> Result<Pending, String> {
        let calls = self.calls.borrow();
        let change = calls.capture(key, begins);
        change.map_err(|error| error.to_string())
    }

    async fn begin_capture(&self, key: u64) -> Result<(), String> {
        let pending = self.change_captures(key, true)?;
        let applied = self.link.apply(key, &pending.ops, false, LIMIT).await;
        let id = pending.call_id.clone();
        let mut calls = self.calls.borrow_mut();
        match applied {
            Ok(applied) => {
                calls.commit(pending, now());
                drop(applied);
                tracing::info!("a capture of call {id} begins");
                Ok(())
            }
            Err(error) => {
                for (key, ops) in pending.undo() {
                    self.link.undo(key, &ops);
                }
                calls.rollback(pending, now());
                Err(error.to_string())
            }
        }
    }

    async fn end_capture(&self, key: u64) {
        // A call that is over has no copies made.
        let Ok(pending) = self.change_captures(key, false) else {
            return;
        };
        let applied = self.link.apply(key, &pending.ops, true, LIMIT).await;
        if let Err(error) = &applied
            && *error != LinkError::Away
        {
            // Kept: the next sync ends it at the latest.
            tracing::warn!("the end of a capture waits for the media plane: {error}");
        }
        tracing::info!("a capture of call {} ends", pending.call_id);
        self.calls.borrow_mut().commit(pending, now());
        drop(applied);
    }
}
