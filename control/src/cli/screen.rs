//! A picture that is drawn anew every second: on a terminal in place, elsewhere one after another.

use super::CliError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal, Read, Write};

/// The alternate screen, without a cursor; lines that are too long end at its edge.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// Back to what was there before.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Home; each line clears its rest, the end the rest of the screen.
const HOME: &str = "\x1b[H";

/// Draws `frame` every second until q, Ctrl-C or the end of the reader. It is given the rows of
/// the terminal, if it draws on one; `may_move` says whether it is meant for people.
pub(super) fn every_second(
    may_move: bool,
    mut frame: impl FnMut(Option<usize>) -> Result<String, CliError>,
) -> Result<(), CliError> {
    let keys = may_move && io::stdout().is_terminal() && io::stdin().is_terminal();
    let terminal = if keys { Terminal::enter() } else { None };
    loop {
        let mut out = io::stdout().lock();
        match &terminal {
            Some(_) => {
                let rows = tcgetwinsize(&out).map_or(24, |size| usize::from(size.ws_row));
                let text = frame(Some(rows))?.replace('\n', "\x1b[K\r\n");
                write!(out, "{HOME}{text}\x1b[K\x1b[J")?;
            }
            None => writeln!(out, "{}", frame(None)?)?,
        }
        out.flush()?;
        drop(out);
        if !wait(terminal.is_some()) {
            return Ok(());
        }
    }
}

/// One second; false if a key ended it.
fn wait(keys: bool) -> bool {
    let second = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    if !keys {
        std::thread::sleep(std::time::Duration::from_secs(1));
        return true;
    }
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    if !poll(&mut fds, Some(&second)).is_ok_and(|ready| ready > 0) {
        return true;
    }
    let mut key = [0];
    match io::stdin().lock().read(&mut key) {
        Ok(1) => !matches!(key[0], b'q' | b'Q' | 3),
        _ => false,
    }
}

/// A terminal that gives single keys; as it was again when dropped.
struct Terminal(Termios);

impl Terminal {
    fn enter() -> Option<Terminal> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut now = before.clone();
        // Ctrl-C comes as a key too, so that the screen is always left in order.
        now.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Now, &now).ok()?;
        print!("{ENTER}");
        Some(Terminal(before))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        print!("{LEAVE}");
        // Nothing can be done for a terminal that is gone.
        let _ = io::stdout().flush();
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
