//! The daemon under test: the real binaries, a real region, and a plane without DPDK.

pub mod doors;
mod plane;

pub use plane::TestPlane;

use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything here should take by an order of magnitude.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// A port of 127.0.0.1 that nobody has, by UDP or TCP, and that no socket gets which takes any: those are above.
pub fn free_port() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(100);
    loop {
        let n = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let at = SocketAddr::from(([127, 0, 0, 1], 10_000 + (n % 20_000) as u16));
        if UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok() {
            return at;
        }
    }
}

/// A folder with a configuration, and what runs on it.
pub struct World {
    pub dir: TempDir,
    pub ng: SocketAddr,
    pub client: UdpSocket,
    control: Option<Child>,
    cookie: AtomicU32,
}

impl World {
    /// Ports for `pairs` pairs; nothing runs yet.
    pub fn new(pairs: u16) -> World {
        let dir = tempfile::Builder::new()
            .prefix("penstock-test")
            .tempdir_in("/dev/shm")
            .unwrap();
        let ng = free_port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let world = World {
            dir,
            ng,
            client,
            control: None,
            cookie: AtomicU32::new(0),
        };
        let last = 10_000 + pairs * 2 - 1;
        let text = format!(
            r#"
            [region]
            dir = "{dir}/region"
            streams = 4096
            [[port]]
            name = "test"
            device = "net_null0"
            [[port.address]]
            address = "198.18.0.1/24"
            [control]
            ng = "{ng}"
            socket = "{dir}/control.sock"
            store = "{dir}/store/calls.journal"
            port_rest_s = 1
            [[control.interface]]
            name = "default"
            address = "198.18.0.1"
            advertise = "203.0.113.1"
            ports = "10000-{last}"
            "#,
            dir = world.dir.path().display(),
        );
        std::fs::write(world.config(), text).unwrap();
        world
    }

    /// With a plane and control, both ready.
    pub fn running(pairs: u16) -> (World, TestPlane) {
        let mut world = World::new(pairs);
        let plane = world.plane();
        world.start();
        world.wait_state("online");
        (world, plane)
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("penstock.toml")
    }

    /// Replaces a part of the configuration's text.
    pub fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "no {from} in\n{text}");
        std::fs::write(self.config(), text.replacen(from, to, 1)).unwrap();
    }

    /// Adds tables to the configuration.
    pub fn append(&self, tables: &str) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        std::fs::write(self.config(), text + tables).unwrap();
    }

    pub fn region(&self) -> PathBuf {
        self.dir.path().join("region")
    }

    pub fn plane(&self) -> TestPlane {
        TestPlane::start(&self.region())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penstock-control"));
        command.arg("--config").arg(self.config());
        command
    }

    /// Starts control and waits until it answers.
    pub fn start(&mut self) {
        assert!(self.control.is_none());
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        self.control = Some(self.command().stderr(log).spawn().unwrap());
        self.until("control answers", || {
            self.client
                .send_to(b"start d7:command4:pinge", self.ng)
                .unwrap();
            self.client
                .set_read_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            // Answers to what a former control was asked may come first.
            let mut answer = [0; 65_536];
            let mut answered = false;
            while !answered && let Ok(count) = self.client.recv(&mut answer) {
                answered = answer[..count].starts_with(b"start ");
            }
            self.client.set_read_timeout(Some(PATIENCE)).unwrap();
            answered
        });
        // Answers to the pings before.
        self.client.set_nonblocking(true).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        while self.client.recv(&mut [0; 100]).is_ok() {}
        self.client.set_nonblocking(false).unwrap();
    }

    pub fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap()
    }

    /// Runs a second control to its end.
    pub fn second(&self) -> Output {
        self.command().stdin(Stdio::null()).output().unwrap()
    }

    pub fn sigkill(&mut self) {
        let mut child = self.control.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends control a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.control.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM; returns whether control ended well.
    pub fn stop(&mut self) -> bool {
        let mut child = self.control.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap().success()
    }

    pub fn cookie(&self) -> String {
        format!("c{}", self.cookie.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a datagram, returns the answer.
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        self.client.send_to(bytes, self.ng).unwrap();
        let mut buffer = vec![0; 65_536];
        let len = self.client.recv(&mut buffer).expect("an answer");
        buffer.truncate(len);
        buffer
    }

    /// A JSON request; returns the answer.
    pub fn ng(&self, message: Value) -> Value {
        let cookie = self.cookie();
        let answer = self.raw(format!("{cookie} {message}").as_bytes());
        let text = String::from_utf8(answer).unwrap();
        let (echoed, body) = text.split_once(' ').unwrap();
        assert_eq!(echoed, cookie);
        serde_json::from_str(body).unwrap()
    }

    pub fn offer(&self, call: &str, port: u16) -> Value {
        let sdp = sdp("10.0.0.1", port);
        self.ng(json!({"command": "offer", "call-id": call, "from-tag": "a", "sdp": sdp, "replace": ["origin"]}))
    }

    pub fn answer(&self, call: &str, port: u16) -> Value {
        let sdp = sdp("10.0.0.2", port);
        self.ng(json!({"command": "answer", "call-id": call, "from-tag": "a", "to-tag": "b", "sdp": sdp}))
    }

    pub fn delete(&self, call: &str) -> Value {
        self.ng(json!({"command": "delete", "call-id": call, "from-tag": "a", "to-tag": "b"}))
    }

    pub fn list(&self) -> Vec<String> {
        let answer = self.ng(json!({"command": "list"}));
        let mut ids: Vec<String> = serde_json::from_value(answer["calls"].clone()).unwrap();
        ids.sort();
        ids
    }

    /// One request on the unix socket.
    pub fn socket(&self, request: &str) -> Value {
        use std::io::{BufRead, BufReader, Write};
        let path = self.dir.path().join("control.sock");
        let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        writeln!(stream, "{request}").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub fn stats(&self) -> Value {
        self.socket(r#"{"get":"stats"}"#)["ok"].clone()
    }

    pub fn wait_state(&self, state: &str) {
        self.until(state, || self.stats()["plane"] == state);
    }

    /// Waits for a condition; panics when patience ends.
    pub fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < PATIENCE, "waiting for: {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs the command `penstock`.
    pub fn cli(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
        command.arg("--config").arg(self.config()).args(args);
        command.output().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.control.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!(
                "control's log:\n{}",
                std::fs::read_to_string(self.log()).unwrap_or_default()
            );
        }
    }
}

pub fn sdp(ip: &str, port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"
    )
}

/// The port of the first m= line in a reply's SDP.
pub fn port_of(reply: &Value) -> u16 {
    let sdp = reply["sdp"].as_str().unwrap_or_else(|| panic!("{reply}"));
    let line = sdp.lines().find(|line| line.starts_with("m=")).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

pub fn reason(reply: &Value) -> &str {
    assert_eq!(reply["result"], "error", "{reply}");
    reply["error-reason"].as_str().unwrap()
}

/// What a command printed that has to succeed.
pub fn out(output: &std::process::Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
