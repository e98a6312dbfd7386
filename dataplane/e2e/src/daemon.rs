//! A daemon as a child process: started, waited for, killed.

use rustix::process::Signal;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    notify: UnixDatagram,
    log: PathBuf,
}

/// A program of this workspace, as `cargo build` left it: beside this program, or above it if it is a test.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this program's own path");
    let dir = own.parent().expect("a folder");
    let dir = match dir.file_name() == Some(OsStr::new("deps")) {
        true => dir.parent().expect("target/PROFILE"),
        false => dir,
    };
    let path = dir.join(name);
    assert!(
        path.exists(),
        "{} is not built: cargo build --workspace",
        path.display()
    );
    path
}

/// Asks `what` again and again until it holds, `limit` at most.
pub fn wait_for(limit: Duration, mut what: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if what() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Daemon {
    pub(crate) fn start(
        namespace: &str,
        command: &[&OsStr],
        env: &[(&str, &str)],
        dir: &Path,
    ) -> Daemon {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = Path::new(command[0]).file_name();
        let name = name.and_then(OsStr::to_str).unwrap_or("daemon");
        let log = dir.join(format!("{name}-{n}.log"));
        let socket = dir.join(format!("notify-{n}"));
        let notify = UnixDatagram::bind(&socket).expect("a notify socket");
        // The daemon may be another user.
        let anybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(&socket, anybody).expect("a notify socket");
        let err = File::create(&log).expect("a log file");
        let child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .args(command)
            .env("NOTIFY_SOCKET", &socket)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(err.try_clone().expect("a log file"))
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Daemon { child, notify, log }
    }

    /// Waits until it says that it is ready, or ends.
    pub fn ready(&self, limit: Duration) -> bool {
        self.notifies("READY=1", limit)
    }

    /// Waits until it tells systemd this, or ends.
    pub fn notifies(&self, what: &str, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut text = [0; 1024];
        self.notify
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a timeout");
        while Instant::now() < end {
            if let Ok(n) = self.notify.recv(&mut text)
                && text[..n]
                    .split(|&b| b == b'\n')
                    .any(|line| line == what.as_bytes())
            {
                return true;
            }
            if !Path::new(&format!("/proc/{}/exe", self.child.id())).exists() {
                return false;
            }
        }
        false
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL, and gone.
    pub fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("its end");
    }

    /// Sends a signal that it survives.
    pub fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("a signal to the daemon");
    }

    /// Sends a signal, and returns the exit status; `None` if it does not end within 10 s.
    pub fn stop(&mut self, signal: Signal) -> Option<ExitStatus> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("a signal to the daemon");
        self.ended(Duration::from_secs(10))
    }

    /// SIGTERM; asserts that it ends in time and says that all was well.
    pub fn stop_well(&mut self) {
        let code = self.stop(Signal::TERM).and_then(|status| status.code());
        assert_eq!(code, Some(0), "{}", self.log());
    }

    /// Its exit status, once it ends by itself.
    pub fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut status = None;
        wait_for(limit, || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        status
    }

    /// Its process id. `ip netns exec` becomes the program it runs.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}
