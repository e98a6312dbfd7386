//! The text commands of HTTP's `/cli` and of the WebSocket sub-protocol `cli.rtpengine.com`.

use crate::service::Service;

/// Carries out a line of words apart by blanks; the answer is text for people, with a line feed at its end.
pub(super) fn run(_line: &str, _service: &Service) -> String {
    "unknown command\n".to_owned()
}
