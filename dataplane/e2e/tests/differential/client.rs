//! An ng client that speaks bencode, as Kamailio's and OpenSIPS's modules do.

use serde_json::{Map, Value};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// How long an answer may take; asked anew each second.
const PATIENCE: Duration = Duration::from_secs(20);

/// One server, asked one question at a time.
pub struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    next: u32,
}

impl Client {
    /// A client of `server`.
    pub fn new(socket: UdpSocket, server: SocketAddr) -> Client {
        let again = Some(Duration::from_secs(1));
        socket.set_read_timeout(again).expect("a timeout");
        Client {
            socket,
            server,
            next: 0,
        }
    }

    /// One request and its answer.
    pub fn ask(&mut self, request: &Map<String, Value>) -> Value {
        self.next += 1;
        let cookie = format!("{}_{} ", std::process::id(), self.next);
        let mut datagram = cookie.clone().into_bytes();
        dictionary(request, &mut datagram);
        let mut buf = vec![0; 65_536];
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            self.socket.send_to(&datagram, self.server).expect("ng");
            while let Ok(n) = self.socket.recv(&mut buf) {
                if let Some(mut body) = buf[..n].strip_prefix(cookie.as_bytes()) {
                    return decode(&mut body).expect("bencode");
                }
            }
        }
        panic!("{}: no answer to {request:?}", self.server);
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{}:{text}", text.len()).as_bytes());
}

fn dictionary(dict: &Map<String, Value>, out: &mut Vec<u8>) {
    out.push(b'd');
    for (key, value) in dict {
        string(key, out);
        encode(value, out);
    }
    out.push(b'e');
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::String(text) => string(text, out),
        Value::Array(list) => {
            out.push(b'l');
            list.iter().for_each(|value| encode(value, out));
            out.push(b'e');
        }
        Value::Object(dict) => dictionary(dict, out),
        number => out.extend_from_slice(format!("i{number}e").as_bytes()),
    }
}

/// The value at the front of `bytes`, which move on.
fn decode(bytes: &mut &[u8]) -> Option<Value> {
    let (first, rest) = bytes.split_first()?;
    match first {
        b'i' => {
            *bytes = rest;
            Some(until(bytes, b'e')?.parse::<i64>().ok()?.into())
        }
        b'l' => {
            *bytes = rest;
            let mut list = Vec::new();
            while bytes.first()? != &b'e' {
                list.push(decode(bytes)?);
            }
            *bytes = &bytes[1..];
            Some(list.into())
        }
        b'd' => {
            *bytes = rest;
            let mut dict = Map::new();
            while bytes.first()? != &b'e' {
                let key = decode(bytes)?.as_str()?.to_owned();
                dict.insert(key, decode(bytes)?);
            }
            *bytes = &bytes[1..];
            Some(dict.into())
        }
        _ => {
            let len: usize = until(bytes, b':')?.parse().ok()?;
            let (text, rest) = bytes.split_at_checked(len)?;
            *bytes = rest;
            Some(String::from_utf8_lossy(text).into_owned().into())
        }
    }
}

fn until(bytes: &mut &[u8], end: u8) -> Option<String> {
    let at = bytes.iter().position(|&b| b == end)?;
    let text = String::from_utf8_lossy(&bytes[..at]).into_owned();
    *bytes = &bytes[at + 1..];
    Some(text)
}
