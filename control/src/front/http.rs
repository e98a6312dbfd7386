//! HTTP and WebSocket, on one listener.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /ng` (`application/x-rtpengine-ng`) | `COOKIE SP DICT` to `COOKIE SP DICT` |
//! | `POST /ng-plain` (the same, or `application/json`) | `DICT` to `DICT` |
//! | `GET /ping` | `pong` |
//! | `POST /cli` (`text/plain`) | what the command prints |
//! | `GET /cli/WORD+WORD` | the same of a command that only looks |
//! | `GET /metrics` | Prometheus' text |
//! | a WebSocket on any path | by its sub-protocol, see [`ws`](super::ws) |
//!
//! What a browser sends on behalf of a page is refused, lest any page speak ng. Mostly it says so (`Origin`,
//! `Sec-Fetch-Site`). A plain GET over HTTP does not: it changes nothing, and is answered only if `Host` is an address or
//! localhost, for a page can have its own name lead here (DNS rebinding).
//!
//! hyper and axum want futures that may change threads, which [`Front`] is not for: an [`Ask`] goes through a
//! channel to its task.

use super::gate::Verdict;
use super::patient::Patient;
use super::{
    Connection, Doors, Event, Front, Gate, PATIENCE, Peer, ReplyTo, Transport, metrics, ws,
};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use penstock_ng::MAX_MESSAGE;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// ng's media type.
const NG: &str = "application/x-rtpengine-ng";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

/// Most headers, and bytes of them.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Questions on their way to the front's task.
const MAX_ASKS: usize = 256;

/// Stands for the cookie where there is none.
const NO_COOKIE: &[u8] = b"- ";

/// What is asked of the front's task.
pub(super) enum Ask {
    Ng(Bytes, Peer),
    /// Neither the question nor the answer has a cookie.
    Plain(Bytes, SocketAddr),
    Cli(String),
    Echo(Bytes),
    Metrics,
}

/// The way to the front's task, and what can be seen from everywhere.
#[derive(Clone)]
pub(super) struct Asks {
    pub(super) to: mpsc::Sender<(Ask, ReplyTo)>,
    pub(super) gate: Arc<Gate>,
    pub(super) doors: Arc<Doors>,
}

impl Asks {
    pub(super) fn new(front: &Rc<Front>) -> Asks {
        let (to, asks) = mpsc::channel(MAX_ASKS);
        tokio::task::spawn_local(answer(front.clone(), asks));
        Asks {
            to,
            gate: front.gate.clone(),
            doors: front.doors.clone(),
        }
    }

    async fn once(&self, ask: Ask) -> Option<Vec<u8>> {
        let (reply, answered) = oneshot::channel();
        self.to.send((ask, ReplyTo::Once(reply))).await.ok()?;
        answered.await.ok()
    }
}

async fn answer(front: Rc<Front>, mut asks: mpsc::Receiver<(Ask, ReplyTo)>) {
    while let Some((ask, to)) = asks.recv().await {
        match ask {
            Ask::Ng(bytes, peer) => front.take(&bytes, peer, to),
            Ask::Plain(bytes, peer) => {
                front.take(&[NO_COOKIE, &bytes].concat(), Peer::Plain(peer), to);
            }
            Ask::Cli(line) => {
                front.send_now(to, crate::ctl::cli(&front.service, &line).into_bytes())
            }
            Ask::Echo(bytes) => front.send_now(to, bytes.into()),
            Ask::Metrics => front.send_now(to, metrics::page(&front.service).into_bytes()),
        }
    }
}

/// A connection, as its requests see it.
pub(super) struct Client {
    pub(super) asks: Asks,
    pub(super) peer: SocketAddr,
    pub(super) number: u64,
    _connection: Connection,
}

/// Serves a connection to its end, or until it is a WebSocket's.
pub(super) async fn serve(asks: Asks, stream: TcpStream, connection: Connection) {
    let doors = asks.doors.clone();
    let client = Arc::new(Client {
        asks,
        peer: connection.peer,
        number: connection.number,
        _connection: connection,
    });
    let app = Router::new().fallback(handle).with_state(client);
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEADER_BYTES)
        .serve_connection(
            TokioIo::new(Patient::new(stream, PATIENCE)),
            TowerToHyperService::new(app),
        )
        .with_upgrades();
    // A client that hangs up, or speaks no HTTP, is no event.
    if served.await.is_err_and(|error| is_stalled(&error)) {
        doors.count(Transport::Http, Event::Idle);
    }
}

/// Whether the client took no reply off.
fn is_stalled(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    let source = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|source| source.kind() == std::io::ErrorKind::TimedOut)
}

async fn handle(
    State(client): State<Arc<Client>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    if is_of_a_page(request.headers()) {
        return refuse(StatusCode::FORBIDDEN, "not for pages in a browser");
    }
    if request.headers().get(HOST).is_some_and(is_name) {
        return refuse(StatusCode::FORBIDDEN, "ask by address, not by name");
    }
    if let Ok(upgrade) = upgrade {
        return ws::upgrade(client, upgrade);
    }
    let asks = &client.asks;
    let (event, refused) = match asks.gate.admit(client.peer.ip(), Instant::now()) {
        Verdict::Pass => (Event::Request, None),
        Verdict::Denied => (Event::Denied, Some(StatusCode::FORBIDDEN)),
        Verdict::Wait(_) => (Event::Limited, Some(StatusCode::TOO_MANY_REQUESTS)),
    };
    asks.doors.count(Transport::Http, event);
    if let Some(status) = refused {
        return refuse(status, "not you, or not so often");
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    match (parts.method, path) {
        (Method::GET, "/ping") => text(b"pong\n".to_vec()),
        (Method::GET, "/metrics") => said(asks.once(Ask::Metrics).await),
        (Method::GET, _) if path.starts_with("/cli/") => {
            let line = decoded(path.trim_start_matches("/cli/"));
            match crate::ctl::only_looks(&line) {
                true => said(asks.once(Ask::Cli(line)).await),
                false => refuse(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "POST what is not list or get",
                ),
            }
        }
        (Method::POST, "/cli") => match body_of(body).await {
            Ok(line) if is(&parts.headers, TEXT) => {
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                said(asks.once(Ask::Cli(line)).await)
            }
            Ok(_) => refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, TEXT),
            Err(refused) => refused,
        },
        (Method::POST, "/ng") => match body_of(body).await {
            Ok(message) if is(&parts.headers, NG) => {
                let peer = Peer::Connection(client.peer, client.number);
                ng(asks.once(Ask::Ng(message, peer)).await, NG)
            }
            Ok(_) => refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, NG),
            Err(refused) => refused,
        },
        (Method::POST, "/ng-plain") => match body_of(body).await {
            Ok(message) if is(&parts.headers, JSON) || is(&parts.headers, NG) => {
                let reply = asks.once(Ask::Plain(message, client.peer)).await;
                let reply = reply.map(without_cookie);
                let is_json = reply.as_ref().is_some_and(|bytes| bytes.starts_with(b"{"));
                ng(reply, if is_json { JSON } else { NG })
            }
            Ok(_) => refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, NG),
            Err(refused) => refused,
        },
        _ => refuse(StatusCode::NOT_FOUND, "no such page"),
    }
}

/// Whether a browser sends this because a page of somebody else's says so (Fetch Metadata, section 2.1, for
/// what comes without an origin).
fn is_of_a_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    headers.contains_key(ORIGIN) && !is_own_origin(headers)
        || site.is_some_and(|site| site == "cross-site" || site == "same-site")
}

/// Whether the origin is the address that is asked, as Kamailio's WebSocket client says of itself. Not a name: whose page it
/// is could have the name lead here.
fn is_own_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(origin), Some(host)) = (text(ORIGIN), text(HOST)) else {
        return false;
    };
    is_address(host) && origin.strip_prefix("http://") == Some(host)
}

/// Whether a host is a name that somebody can have lead anywhere: all but localhost.
fn is_name(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else {
        return true;
    };
    let name = host.split(':').next().unwrap_or_default();
    !is_address(host) && !name.eq_ignore_ascii_case("localhost")
}

/// Whether a host is an address, with or without a port.
fn is_address(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.parse::<SocketAddr>().is_ok() || bare.parse::<IpAddr>().is_ok()
}

pub(super) fn refuse(status: StatusCode, why: &str) -> Response {
    (status, [(CONTENT_TYPE, TEXT)], format!("{why}\n")).into_response()
}

fn text(bytes: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, TEXT)], bytes).into_response()
}

fn said(reply: Option<Vec<u8>>) -> Response {
    reply.map_or_else(
        || refuse(StatusCode::SERVICE_UNAVAILABLE, "no answer"),
        text,
    )
}

fn ng(reply: Option<Vec<u8>>, kind: &'static str) -> Response {
    match reply {
        Some(bytes) => ([(CONTENT_TYPE, kind)], bytes).into_response(),
        None => refuse(StatusCode::BAD_REQUEST, "no cookie"),
    }
}

pub(super) fn without_cookie(mut reply: Vec<u8>) -> Vec<u8> {
    reply.drain(..NO_COOKIE.len().min(reply.len()));
    reply
}

async fn body_of(body: Body) -> Result<Bytes, Response> {
    match timeout(PATIENCE, to_bytes(body, MAX_MESSAGE)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is too large",
        )),
        Err(_) => Err(refuse(
            StatusCode::REQUEST_TIMEOUT,
            "the body takes too long",
        )),
    }
}

/// Whether the body is of that media type, whatever its parameters.
fn is(headers: &HeaderMap, kind: &str) -> bool {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split(';').next());
    given.is_some_and(|value| value.trim().eq_ignore_ascii_case(kind))
}

/// The words of a path: `+` and `%XX` (RFC 3986 section 2.1) undone.
fn decoded(path: &str) -> String {
    let mut bytes = path.as_bytes().iter();
    let mut out = Vec::with_capacity(path.len());
    while let Some(&byte) = bytes.next() {
        let digits = bytes.as_slice().first_chunk::<2>();
        let escaped = digits.filter(|_| byte == b'%').and_then(|two| {
            let [high, low] = two.map(|digit| char::from(digit).to_digit(16));
            Some((high? * 16 + low?) as u8)
        });
        if escaped.is_some() {
            bytes.nth(1);
        }
        out.push(escaped.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{HeaderValue, decoded, is_name};

    #[test]
    fn names_are_told_from_addresses() {
        for (host, want) in [
            ("192.0.2.1", false),
            ("192.0.2.1:2223", false),
            ("[2001:db8::1]", false),
            ("[2001:db8::1]:2223", false),
            ("localhost", false),
            ("LOCALHOST:2223", false),
            ("evil.example", true),
            ("evil.example:2223", true),
            ("192.0.2.1.evil.example", true),
            ("localhost.evil.example", true),
            ("", true),
        ] {
            assert_eq!(is_name(&HeaderValue::from_static(host)), want, "{host}");
        }
        assert!(is_name(&HeaderValue::from_bytes(b"\xff").unwrap()));
    }

    #[test]
    fn the_words_of_a_path() {
        for (path, words) in [
            ("list+numsessions", "list numsessions"),
            ("list%20sessions%2ball", "list sessions+all"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%c3%a9%ff", "é\u{fffd}"),
        ] {
            assert_eq!(decoded(path), words);
        }
    }
}
