//! The reference: DPDK's own `dpdk-testpmd`, driven through its prompt.

use crate::Failure;
use crate::process::{Process, program};
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long testpmd may take for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running testpmd.
pub struct Testpmd {
    process: Process,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Testpmd {
    /// Starts it on the second of `cores`, with EAL's `memory` flags, one port, one queue. Its log is in `dir`.
    pub fn start(
        dir: &Path,
        memory: &[String],
        cores: (usize, usize),
        vdev: &str,
        mode: &str,
        burst: u16,
        mbufs: u32,
    ) -> Result<Testpmd, Failure> {
        let (main, worker) = cores;
        // Line by line, or the answers wait in a buffer.
        let mut command = program("stdbuf");
        command
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
            .arg(format!("--total-num-mbufs={mbufs}"));
        let (process, stdin, stdout) = Process::talk("dpdk-testpmd", &mut command, dir)?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let mut it = Testpmd {
            process,
            stdin,
            lines,
        };
        // If it went away, it is the answer that is missing.
        let _ = it.say("start");
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
                    let ended = self.process.ended()?;
                    let never = || format!("dpdk-testpmd never said \"{text}\"");
                    return Err(Failure::Environment(ended.unwrap_or_else(never)));
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
        self.process.leave();
    }
}
