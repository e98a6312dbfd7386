//! Programs beside the bench, and what they cost.

use crate::Failure;
use rustix::thread::{CpuSet, Pid, sched_setaffinity};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long one may take to end: a plane gives back the memory of a million streams.
const PATIENCE: Duration = Duration::from_secs(60);
/// And one that nobody asks how it ended.
const LITTLE: Duration = Duration::from_secs(5);

/// A program to run beside the bench. It is killed when the thread that starts it ends, whatever way that is: start it from one
/// that lives as long as the bench.
pub fn program(path: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(path);
    command
}

/// Runs a program to its end: what it wrote to its stdout.
///
/// # Errors
/// [`Failure::Environment`] with what it said.
pub fn run(path: &str, args: &[&str]) -> Result<String, Failure> {
    let out = Command::new(path)
        .args(args)
        .output()
        .map_err(|e| Failure::Environment(format!("{path}: {e} (scripts/install bench)")))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(Failure::Environment(format!(
        "{path} {}: {}",
        args.join(" "),
        said.trim()
    )))
}

/// A running [`program`]; when dropped it is asked to end, and killed if it does not.
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it writes goes to a file in `dir`.
    ///
    /// # Errors
    /// [`Failure::Environment`] if there is no such file or no process.
    pub fn start(
        name: &'static str,
        command: &mut Command,
        dir: &Path,
    ) -> Result<Process, Failure> {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?);
        Process::spawn(name, command, log, out)
    }

    /// Starts `command` to be talked to; what it writes to its stderr goes to a file in `dir`.
    ///
    /// # Errors
    /// [`Failure::Environment`] if there is no such file or no process.
    pub fn talk(
        name: &'static str,
        command: &mut Command,
        dir: &Path,
    ) -> Result<(Process, ChildStdin, BufReader<ChildStdout>), Failure> {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(name, command, log, out)?;
        let (stdin, stdout) = (process.child.stdin.take(), process.child.stdout.take());
        let pipes = stdin.zip(stdout).expect("piped");
        Ok((process, pipes.0, BufReader::new(pipes.1)))
    }

    fn spawn(
        name: &'static str,
        command: &mut Command,
        log: PathBuf,
        out: File,
    ) -> Result<Process, Failure> {
        let child = command.stderr(out).spawn();
        let child = child.map_err(|e| {
            let program = command.get_program().display();
            Failure::Environment(format!("{name}: {program}: {e}"))
        })?;
        Ok(Process { name, child, log })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, if it did: a sentence, with the last line it wrote.
    ///
    /// # Errors
    /// [`Failure::Environment`] if that cannot be asked.
    pub fn ended(&mut self) -> Result<Option<String>, Failure> {
        let status = self.child.try_wait()?;
        Ok(status.map(|status| self.sentence(status)))
    }

    fn sentence(&self, status: ExitStatus) -> String {
        let log = self.log();
        let said = log.lines().next_back().map(|l| format!(": {l}"));
        // What setpriv ends with where there is no such program.
        let hint = (status.code() == Some(127)).then_some(" (scripts/install bench)");
        let (said, hint) = (said.unwrap_or_default(), hint.unwrap_or_default());
        format!("{} ended with {status}{said}{hint}", self.name)
    }

    /// SIGTERM, and its end.
    ///
    /// # Errors
    /// [`Failure::Void`] if it does not end, or not well.
    pub fn stop(mut self) -> Result<(), Failure> {
        match self.end(PATIENCE)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Failure::Void(self.sentence(status))),
            None => Err(Failure::Void(format!("{} did not stop", self.name))),
        }
    }

    fn end(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        if self.child.try_wait()?.is_none() {
            let pid = rustix::process::Pid::from_child(&self.child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        self.wait(patience)
    }

    fn wait(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let end = Instant::now() + patience;
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || Instant::now() > end {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits a little for one that was told in its own way to end.
    pub fn leave(&mut self) {
        let _ = self.wait(LITTLE);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.end(LITTLE);
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

/// Has all threads of a process run on one CPU from now on.
///
/// # Errors
/// [`Failure::Environment`] if there is no such process or CPU.
pub fn move_to(pid: u32, core: usize) -> Result<(), Failure> {
    let mut cpus = CpuSet::new();
    cpus.set(core);
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = task?.file_name();
        let thread = name.to_str().and_then(|n| Pid::from_raw(n.parse().ok()?));
        let thread = thread.ok_or_else(|| Failure::Environment(format!("no thread: {name:?}")))?;
        sched_setaffinity(Some(thread), &cpus).map_err(io::Error::from)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell that has come to its first `echo`.
    fn shell(script: &str) -> (Process, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let process = Process::start("sh", program("sh").args(["-c", script]), dir.path());
        let process = process.unwrap();
        let end = Instant::now() + PATIENCE;
        while process.log().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        (process, dir)
    }

    #[test]
    fn what_is_started_does_not_outlive_us() {
        // A thread stands for the bench: the kernel makes no difference.
        let started = std::thread::spawn(|| shell("echo up; exec sleep 100"));
        let (mut process, _dir) = started.join().unwrap();
        let status = process.wait(PATIENCE).unwrap();
        assert!(status.unwrap().to_string().contains("SIGKILL"));
    }

    #[test]
    fn it_is_said_how_it_ended() {
        let (process, _dir) =
            shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done");
        let failure = process.stop().unwrap_err();
        assert_eq!(
            failure.to_string(),
            "void: sh ended with exit status: 3: bye"
        );
        let dir = tempfile::tempdir().unwrap();
        let mut none = Process::start("none", &mut program("there-is-none"), dir.path()).unwrap();
        let status = none.wait(PATIENCE).unwrap().unwrap();
        let why = none.sentence(status);
        assert!(why.ends_with("No such file or directory (scripts/install bench)"));
    }

    #[test]
    fn who_does_not_listen_is_killed() {
        let (mut process, _dir) = shell("trap '' TERM; echo up; while :; do sleep 0.1; done");
        assert_eq!(process.end(Duration::from_millis(100)).unwrap(), None);
        let pid = process.pid();
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
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
