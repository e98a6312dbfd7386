//! The reference: DPDK's own `dpdk-testpmd`, driven through its prompt.

use crate::Failure;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long testpmd may take for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running testpmd.
pub struct Testpmd {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Testpmd {
    /// Starts it on `worker`, with EAL's `memory` flags, one port, one queue.
    pub fn start(
        memory: &[String],
        cores: (usize, usize),
        vdev: &str,
        mode: &str,
        burst: u16,
        mbufs: u32,
    ) -> Result<Testpmd, Failure> {
        let (main, worker) = cores;
        // Line by line, or the answers wait in a buffer.
        let mut child = Command::new("stdbuf")
            .args(["-oL", "dpdk-testpmd"])
            .args([
                "-l",
                &format!("{main},{worker}"),
                "--main-lcore",
                &main.to_string(),
                "--no-pci",
            ])
            .args(memory)
            .args([
                "--vdev",
                vdev,
                "--",
                "-i",
                // Of a net_memif nobody may be at the other end yet.
                "--disable-link-check",
                "--nb-cores=1",
                "--rxq=1",
                "--txq=1",
            ])
            .arg(format!("--forward-mode={mode}"))
            .arg(format!("--burst={burst}"))
            .arg(format!("--total-num-mbufs={mbufs}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| {
                Failure::Environment(format!("dpdk-testpmd: {e} (scripts/install bench)"))
            })?;
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let mut it = Testpmd {
            child,
            stdin,
            lines,
        };
        it.say("start")?;
        it.wait_for("packet forwarding packets/burst")?;
        Ok(it)
    }

    fn say(&mut self, command: &str) -> Result<(), Failure> {
        writeln!(self.stdin, "{command}")
            .and_then(|()| self.stdin.flush())
            .map_err(|e| Failure::Environment(format!("dpdk-testpmd went away: {e}")))
    }

    fn wait_for(&mut self, text: &str) -> Result<String, Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(_) => {}
                Err(_) => {
                    return Err(Failure::Environment(format!(
                        "dpdk-testpmd never said \"{text}\""
                    )));
                }
            }
        }
    }

    /// Packets sent so far.
    pub fn sent(&mut self) -> Result<u64, Failure> {
        self.say("show port stats 0")?;
        let line = self.wait_for("TX-packets:")?;
        let number = line
            .split("TX-packets:")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        number
            .and_then(|n| n.parse().ok())
            .ok_or_else(|| Failure::Environment(format!("dpdk-testpmd's statistics: {line}")))
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.say("quit");
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
