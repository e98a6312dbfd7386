//! A program beside the bench, and what it costs.

use crate::Failure;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long one may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running program; killed when dropped.
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it writes goes to a file in `dir`.
    ///
    /// # Errors
    /// [`Failure::Environment`] if there is no such program.
    pub fn start(
        name: &'static str,
        command: &mut Command,
        dir: &Path,
    ) -> Result<Process, Failure> {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .map_err(|e| Failure::Environment(format!("{name}: {e}")))?;
        Ok(Process { name, child, log })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did: a sentence, with the last line it wrote.
    pub fn ended(&mut self) -> Result<Option<String>, Failure> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(None);
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let said = log.lines().next_back().map(|l| format!(": {l}"));
        let said = said.unwrap_or_default();
        Ok(Some(format!("{} ended with {status}{said}", self.name)))
    }

    /// SIGTERM, and how it ended; `None` if it would not.
    ///
    /// # Errors
    /// [`Failure::Environment`] if it cannot be told to.
    pub fn stop(&mut self) -> Result<Option<ExitStatus>, Failure> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(std::io::Error::from)?;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(None)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of all threads of a process, user and system, in seconds.
///
/// # Errors
/// [`Failure::Environment`] if there is no such process, or no `schedstat`.
pub fn cpu_s(pid: u32) -> Result<f64, Failure> {
    let mut ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // To the nanosecond, where `stat` counts ticks.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue; // a thread that has ended meanwhile
        };
        let first = text
            .split_whitespace()
            .next()
            .and_then(|n| n.parse::<u64>().ok());
        ns += first.ok_or_else(|| Failure::Environment(format!("schedstat of {pid}: {text}")))?;
    }
    Ok(ns as f64 / 1e9)
}

/// Seconds that CPU number `core` has been at work, users', the kernel's and interrupts', to a hundredth.
///
/// # Errors
/// [`Failure::Environment`] if there is no such CPU.
pub fn core_busy_s(core: usize) -> Result<f64, Failure> {
    let text = fs::read_to_string("/proc/stat")?;
    busy_s(&text, core).ok_or_else(|| Failure::Environment(format!("/proc/stat has no CPU {core}")))
}

fn busy_s(text: &str, core: usize) -> Option<f64> {
    let name = format!("cpu{core}");
    let line = text
        .lines()
        .find(|l| l.split(' ').next() == Some(name.as_str()))?;
    let ticks = line
        .split_whitespace()
        .skip(1)
        .map(|t| t.parse::<f64>().ok());
    // user, nice, system, idle, iowait, irq, softirq, steal
    let ticks: Vec<f64> = ticks.take(8).collect::<Option<_>>()?;
    let sum = [0, 1, 2, 5, 6]
        .map(|n| ticks.get(n))
        .into_iter()
        .sum::<Option<f64>>();
    Some(sum? / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_busy_with_all_but_waiting() {
        let text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 100 20 30 999 888 4 6 50 0 0\ncpu10 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy_s(text, 1), Some(1.6));
        assert_eq!(busy_s(text, 10), Some(0.05));
        assert_eq!(busy_s(text, 2), None);
    }

    #[test]
    fn a_thread_that_works_costs() {
        let before = cpu_s(std::process::id()).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(200) {}
        let cost = cpu_s(std::process::id()).unwrap() - before;
        // Others may have had the core for most of the time.
        assert!(cost > 0.005, "{cost}");
    }
}
