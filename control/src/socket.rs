//! The command's unix socket: one JSON request a line, one JSON reply a line.
//!
//! `{"get":"calls"}`, `{"get":"call","id":"..."}`, `{"get":"stats"}`, `{"get":"statistics"}` and `{"get":"settings"}` look;
//! `{"do":"drain"}`, `{"do":"undrain"}`, `{"do":"reload"}`, `{"do":"end","id":"..."}`, `{"do":"end-all"}`,
//! `{"do":"set","key":"...","value":"..."}` and `{"do":"ctl","line":"..."}` change something; `{"do":"capture"}` lasts, see [`capture`]. They are answered with `{"ok":...}`, anything else with
//! `{"error":"..."}`.

use crate::service::Service;
use crate::{capture, ctl, settings};
use penstock_media::Call;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// Longest request, bytes.
const MAX_REQUEST: u64 = 4096;

/// Clients at one time.
const MAX_CLIENTS: usize = 32;

#[derive(Deserialize)]
#[serde(tag = "get", rename_all = "lowercase", deny_unknown_fields)]
enum Get {
    Calls,
    Call { id: String },
    Stats,
    Statistics,
    Settings,
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
enum Do {
    Drain,
    Undrain,
    Reload,
    End { id: String },
    EndAll,
    Set { key: String, value: String },
    Ctl { line: String },
}

/// Binds the socket, over what a killed control left behind.
pub(crate) fn bind(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(io::Error::from(io::ErrorKind::AddrInUse)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group)?;
    }
    Ok(listener)
}

/// Serves for ever.
pub(crate) async fn run(listener: UnixListener, service: Rc<Service>) {
    let clients = std::sync::Arc::new(tokio::sync::Semaphore::new(MAX_CLIENTS));
    loop {
        let accepted = listener.accept().await;
        let Ok(permit) = clients.clone().acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, mostly: do not spin on it.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let service = service.clone();
        tokio::task::spawn_local(async move {
            // A client that hangs up is no event.
            let _ = serve(stream, &service).await;
            drop(permit);
        });
    }
}

async fn serve(stream: UnixStream, service: &Rc<Service>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read).take(MAX_REQUEST);
    let mut line = String::new();
    while read.read_line(&mut line).await? > 0 {
        if let Some(id) = capture::requested(&line) {
            return capture::serve(&id, service, read.into_inner(), write).await;
        }
        let reply = request(&line, service).await;
        let reply = reply.unwrap_or_else(|error| json!({ "error": error }));
        let mut bytes = serde_json::to_vec(&reply)?;
        bytes.push(b'\n');
        write.write_all(&bytes).await?;
        line.clear();
        read.set_limit(MAX_REQUEST);
    }
    Ok(())
}

/// Carries out a line; an error is a sentence.
async fn request(line: &str, service: &Rc<Service>) -> Result<Value, String> {
    let bad = |error: serde_json::Error| error.to_string();
    let object: Value = serde_json::from_str(line).map_err(bad)?;
    match object.get("do") {
        Some(_) => act(serde_json::from_value(object).map_err(bad)?, service).await,
        None => Ok(answer(
            serde_json::from_value(object).map_err(bad)?,
            service,
        )),
    }
}

async fn act(what: Do, service: &Rc<Service>) -> Result<Value, String> {
    match what {
        Do::End { id } => match service.end_call(&id).await {
            true => Ok(json!({ "ok": 1 })),
            false => Err(no_call(&id)),
        },
        Do::EndAll => Ok(json!({ "ok": service.end_all() })),
        Do::Set { key, value } => {
            settings::set(service, &key, &value)?;
            Ok(json!({ "ok": settings::list(service) }))
        }
        Do::Ctl { line } => Ok(json!({ "ok": ctl::cli(service, &line) })),
        Do::Reload => {
            let done = service.reloader.reload(service)?;
            Ok(json!({ "ok": done }))
        }
        Do::Drain | Do::Undrain => {
            if !service.drain(matches!(what, Do::Drain)) {
                return Err("control cannot write to its store; nothing changed".into());
            }
            Ok(answer(Get::Stats, service))
        }
    }
}

fn answer(request: Get, service: &Service) -> Value {
    let calls = service.calls.borrow();
    match request {
        Get::Calls => {
            let one_way = service.one_way.borrow();
            let ratings = service.ratings.borrow();
            let summary = |call: &Call| {
                let is_one_way = one_way.contains(&call.key);
                summary(call, is_one_way, ratings.is_poor(call.key))
            };
            let list: Vec<_> = calls.iter().map(summary).collect();
            json!({ "ok": list })
        }
        Get::Call { id } => match calls.get(&id) {
            Some(call) => {
                let quality = service.ratings.borrow();
                json!({ "ok": { "call": public(call), "quality": quality.of(call.key) } })
            }
            None => json!({ "error": no_call(&id) }),
        },
        Get::Statistics => json!({ "ok": service.groups() }),
        Get::Settings => json!({ "ok": settings::list(service) }),
        Get::Stats => json!({ "ok": stats(service) }),
    }
}

/// A call without our ICE credentials: who has them can take its media.
fn public(call: &Call) -> Call {
    let mut call = call.clone();
    let legs = call.dialogs.iter_mut().flat_map(|dialog| &mut dialog.legs);
    let forked = call.forks.iter_mut().map(|fork| &mut fork.leg);
    legs.chain(forked).for_each(|leg| leg.ice = None);
    call
}

/// What control counts, and what stands.
pub(crate) fn stats(service: &Service) -> Value {
    let calls = service.calls.borrow();
    let ports: serde_json::Map<_, _> = calls
        .ports()
        .map(|(name, used, all)| (name.to_owned(), json!({ "used": used, "all": all })))
        .collect();
    let link: serde_json::Map<_, _> = service
        .link
        .counters()
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_s": service.started.elapsed().as_secs_f64(),
        "draining": calls.is_draining(),
        "calls": calls.left(),
        "plane": service.link.state().word(),
        "requests": service.stats.requests(),
        "errors": service.stats.errors(),
        "transports": service.stats.doors.json(),
        "remembered": {
            "cookies": service.stats.doors.cookies(),
            "sources": service.reloader.gate().sources(),
        },
        "ageing": service.stats.aged(),
        "one_way": service.one_way.borrow().len(),
        "poor": service.ratings.borrow().poor(),
        "records_lost": service.records.lost(),
        "link": link,
        "ports": ports,
    })
}

fn no_call(id: &str) -> String {
    format!("there is no call \"{id}\"")
}

fn summary(call: &Call, is_one_way: bool, is_poor: bool) -> Value {
    let dialogs = call.dialogs.iter();
    let legs = dialogs.flat_map(|dialog| dialog.sides().map(|side| &dialog.legs[side]));
    let tags: Vec<_> = legs.map(|leg| leg.tags.last()).collect();
    json!({
        "id": call.id,
        "also": call.ids().skip(1).collect::<Vec<_>>(),
        "key": call.key,
        "created_us": call.created_us,
        "last_signal_us": call.last_signal_us,
        "tags": tags,
        "streams": call.stream_count(),
        "one_way": is_one_way,
        "poor": is_poor,
    })
}
