//! Clients of the ways in: ng over UDP, TCP, HTTP and WebSocket, in both encodings.

use super::{PATIENCE, World, free_port};
use penstock_ng::{Datagram, Dict, Text, Value as Ng};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

/// How a client writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Bencode,
    Json,
}

impl Encoding {
    pub fn write(self, value: &Value) -> Vec<u8> {
        match self {
            Encoding::Json => value.to_string().into_bytes(),
            Encoding::Bencode => bencode(value),
        }
    }
}

fn bencode(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => [format!("{}:", text.len()).as_bytes(), text.as_bytes()].concat(),
        Value::Number(number) => format!("i{number}e").into_bytes(),
        Value::Array(list) => {
            let items: Vec<_> = list.iter().map(bencode).collect();
            [b"l".as_slice(), &items.concat(), b"e"].concat()
        }
        Value::Object(object) => {
            let pair = |(key, value): (&String, &Value)| {
                [bencode(&Value::String(key.clone())), bencode(value)].concat()
            };
            let items: Vec<_> = object.iter().map(pair).collect();
            [b"d".as_slice(), &items.concat(), b"e"].concat()
        }
        Value::Null | Value::Bool(_) => panic!("{value}"),
    }
}

/// Reads `COOKIE SP DICT` in either encoding.
pub fn read(bytes: &[u8]) -> (String, Value) {
    let datagram = Datagram::parse(bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)));
    let cookie = String::from_utf8_lossy(datagram.cookie).into_owned();
    (cookie, json(Ng::Dict(datagram.dict)))
}

fn json(value: Ng) -> Value {
    let text = |bytes: Text<'_>| String::from_utf8_lossy(&bytes).into_owned();
    match value {
        Ng::Integer(number) => number.into(),
        Ng::Bytes(bytes) => text(bytes).into(),
        Ng::List(list) => list.into_iter().map(json).collect(),
        Ng::Dict(Dict(pairs)) => {
            let pairs = pairs.into_iter();
            Value::Object(pairs.map(|(key, value)| (text(key), json(value))).collect())
        }
    }
}

/// Adds TCP and HTTP to a configuration; returns where.
pub fn open_doors(world: &World) -> (SocketAddr, SocketAddr) {
    let (tcp, http) = (free_port(), free_port());
    let keys = format!("[control]\nng_tcp = \"{tcp}\"\nhttp = [\"{http}\"]");
    world.edit("[control]", &keys);
    (tcp, http)
}

/// Connects from a given address.
pub fn connect_from(ip: &str, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let ip: IpAddr = ip.parse().unwrap();
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddr::from((ip, 0))).unwrap();
    connect(&fd, &to).unwrap();
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub fn connect(to: SocketAddr) -> TcpStream {
    connect_from("127.0.0.1", to)
}

/// A UDP socket at an address that speaks to another alone.
pub fn datagrams(from: &str, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(from).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Reads from a TCP connection until `count` messages are there.
pub fn messages(stream: &mut TcpStream, count: usize) -> Vec<Vec<u8>> {
    let (mut buffer, mut found) = (Vec::new(), Vec::new());
    while found.len() < count {
        match penstock_ng::frame(&buffer) {
            penstock_ng::Framed::Message(len) => found.push(buffer.drain(..len).collect()),
            penstock_ng::Framed::Incomplete => {
                let mut chunk = [0; 65_536];
                let len = stream.read(&mut chunk).expect("a reply");
                assert!(len > 0, "closed after {} messages", found.len());
                buffer.extend(&chunk[..len]);
            }
            penstock_ng::Framed::Garbage => panic!("{}", String::from_utf8_lossy(&buffer)),
        }
    }
    assert!(buffer.is_empty());
    found
}

/// Whether the server has closed the connection, whatever it said before.
pub fn is_closed(stream: &mut TcpStream) -> bool {
    loop {
        match stream.read(&mut [0; 65_536]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// An HTTP reply.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Page {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// An HTTP connection that is kept.
pub struct Http(BufReader<TcpStream>);

impl Http {
    pub fn new(stream: TcpStream) -> Http {
        Http(BufReader::new(stream))
    }

    pub fn send(&mut self, line: &str, headers: &[(&str, &str)], body: &[u8]) {
        self.send_to("127.0.0.1", line, headers, body);
    }

    /// Sends to who has that name, as the client says.
    pub fn send_to(&mut self, host: &str, line: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut text = format!("{line} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        let bytes = [(text + "\r\n").as_bytes(), body].concat();
        self.0.get_mut().write_all(&bytes).unwrap();
    }

    pub fn read(&mut self) -> Page {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "closed: {head}");
        }
        let head = head.to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let len = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; len.map_or(0, |len| len.parse().unwrap())];
        self.0.read_exact(&mut body).unwrap();
        Page { status, head, body }
    }

    pub fn get(&mut self, path: &str) -> Page {
        self.send(&format!("GET {path}"), &[], b"");
        self.read()
    }

    pub fn post(&mut self, path: &str, kind: &str, body: &[u8]) -> Page {
        self.send(&format!("POST {path}"), &[("Content-Type", kind)], body);
        self.read()
    }
}

/// A WebSocket.
pub struct Socket(BufReader<TcpStream>);

impl Socket {
    /// Asks for a sub-protocol; the server's words if it does not want to.
    pub fn open(to: SocketAddr, path: &str, protocol: &str) -> Result<Socket, Page> {
        let mut http = Http::new(connect(to));
        let headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", protocol),
        ];
        http.send(&format!("GET {path}"), &headers, b"");
        let page = http.read();
        // The key's answer in RFC 6455, section 1.3.
        let is_taken = page.head.contains("s3pplmbitxaq9kygzzhzrbk+xoo=")
            && page
                .head
                .contains(&format!("sec-websocket-protocol: {protocol}\r\n"));
        match page.status == 101 && is_taken {
            true => Ok(Socket(http.0)),
            false => Err(page),
        }
    }

    pub fn send(&mut self, is_text: bool, bytes: &[u8]) {
        let mut frame = vec![if is_text { 0x81 } else { 0x82 }, 0xff];
        frame.extend((bytes.len() as u64).to_be_bytes());
        let mask = [1, 2, 3, 4];
        frame.extend(mask);
        frame.extend(bytes.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        self.0.get_mut().write_all(&frame).unwrap();
    }

    /// The next message, and whether it is text; none if the server says goodbye.
    pub fn read(&mut self) -> Option<(bool, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).ok()?;
        let len = match head[1] {
            126 => {
                let mut len = [0; 2];
                self.0.read_exact(&mut len).ok()?;
                usize::from(u16::from_be_bytes(len))
            }
            127 => {
                let mut len = [0; 8];
                self.0.read_exact(&mut len).ok()?;
                u64::from_be_bytes(len) as usize
            }
            len => len.into(),
        };
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).ok()?;
        (head[0] != 0x88).then_some((head[0] == 0x81, bytes))
    }
}
