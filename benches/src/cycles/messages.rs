//! What the client says, made once and patched in place, and what it makes of replies.

/// A call's three requests, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Offer,
    Answer,
    Delete,
}

impl Step {
    /// What follows it.
    pub const fn next(self) -> Option<Step> {
        match self {
            Step::Offer => Some(Step::Answer),
            Step::Answer => Some(Step::Delete),
            Step::Delete => None,
        }
    }
}

/// What a cookie and a Call-ID hold in place of a number.
const HOLE: &str = "########";
/// A place, an underscore and a number, of eight hexadecimal digits each.
const COOKIE: usize = 17;

/// A request in bencode, its keys in the order of Kamailio's.
pub struct Message {
    bytes: Vec<u8>,
    call_at: usize,
}

impl Message {
    pub fn new(step: Step) -> Message {
        let call = text(&format!("bench-{HOLE}@192.0.2.1"));
        let parties = format!(
            "{}{call}{}{}{}{}",
            text("call-id"),
            text("received-from"),
            "l3:IP410:192.0.2.10e",
            text("from-tag"),
            text("as7d3f9b1c")
        );
        let to_tag = format!("{}{}", text("to-tag"), text("gK0a51e2f4"));
        let media = |phone: &str| {
            let options = "8:supportsl10:load limite3:ICE6:remove7:replacel6:origin18:session-connectione\
                           18:transport-protocol7:RTP/AVP";
            format!("{options}{}{}{parties}", text("sdp"), text(&sdp(phone)))
        };
        let dict = match step {
            Step::Offer => format!("d{}7:command5:offere", media("10.0.0.2")),
            Step::Answer => format!("d{}{to_tag}7:command6:answere", media("10.0.0.3")),
            // At once: rtpengine keeps a call for half a minute.
            Step::Delete => format!("d{parties}{to_tag}12:delete-delayi0e7:command6:deletee"),
        };
        let bytes = format!("{HOLE}_{HOLE} {dict}").into_bytes();
        let hole = |bytes: &[u8]| bytes == HOLE.as_bytes();
        let call_at = bytes.windows(HOLE.len()).rposition(hole).unwrap_or(0);
        Message { bytes, call_at }
    }

    /// The request of call `call`, whose reply names `place` and `number`.
    pub fn patched(&mut self, place: u32, number: u32, call: u32) -> &[u8] {
        hex(&mut self.bytes[..8], place);
        hex(&mut self.bytes[9..COOKIE], number);
        hex(&mut self.bytes[self.call_at..][..8], call);
        &self.bytes
    }
}

/// Place and number of the request that is answered, and the answer; `None` for what is no reply to us.
pub fn opened(reply: &[u8]) -> Option<(u32, u32, &str)> {
    let text = std::str::from_utf8(reply).ok()?;
    let (place, rest) = text.split_once('_')?;
    let (number, body) = rest.split_once(' ')?;
    let number_of = |digits: &str| u32::from_str_radix(digits, 16).ok();
    Some((number_of(place)?, number_of(number)?, body))
}

/// Whether that is what is wanted: no error, no warning, and where there is media a place to send it to.
pub fn is_right(step: Step, body: &str) -> bool {
    let ok = "6:result2:ok";
    let is_dict = body.starts_with('d') && body.ends_with('e');
    // It is first or last, as a rule.
    let is_ok = body[1.min(body.len())..].starts_with(ok)
        || body.trim_end_matches('e').ends_with(ok)
        || body.contains(ok);
    let is_said = match step {
        Step::Offer | Step::Answer => has_media(body),
        Step::Delete => !body.contains("7:warning"),
    };
    is_dict && is_ok && is_said
}

fn has_media(body: &str) -> bool {
    let port = body.split_once("\r\nm=audio ").map(|(_, rest)| rest);
    let port = port.and_then(|rest| rest.split(' ').next()?.parse::<u16>().ok());
    body.contains("3:sdp") && body.contains("c=IN IP4 198.18.") && port.is_some_and(|p| p > 0)
}

fn text(text: &str) -> String {
    format!("{}:{text}", text.len())
}

/// A desk phone's: G.711 and telephone events.
fn sdp(phone: &str) -> String {
    format!(
        "v=0\r\no=- 20518 1 IN IP4 {phone}\r\ns=-\r\nc=IN IP4 {phone}\r\nt=0 0\r\n\
         m=audio 11780 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
    )
}

fn hex(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_patched_where_their_numbers_are() {
        let mut offer = Message::new(Step::Offer);
        let one = String::from_utf8(offer.patched(0x2a, 7, 0xbeef).to_vec()).unwrap();
        let (place, number, body) = opened(one.as_bytes()).unwrap();
        assert_eq!((place, number), (0x2a, 7));
        assert!(body.contains("7:call-id24:bench-0000beef@192.0.2.113:received-from"));
        assert!(body.starts_with("d8:supports") && body.ends_with("7:command5:offere"));
        for step in [Step::Offer, Step::Answer, Step::Delete] {
            let mut message = Message::new(step);
            let text = String::from_utf8(message.patched(1, 2, 3).to_vec()).unwrap();
            assert!(!text.contains('#'), "{text}");
        }
    }

    #[test]
    fn a_reply_without_media_is_wrong() {
        let reply = |port: &str| {
            let sdp = format!("v=0\r\nc=IN IP4 198.18.0.1\r\nm=audio {port} RTP/AVP 0\r\n");
            format!("d6:result2:ok3:sdp{}e", text(&sdp))
        };
        assert!(is_right(Step::Offer, &reply("2000")));
        assert!(!is_right(Step::Offer, &reply("0")));
        assert!(!is_right(Step::Answer, "d6:result2:oke"));
        assert!(is_right(Step::Delete, "d6:result2:oke"));
        assert!(is_right(Step::Delete, "d7:createdi5e6:result2:oke"));
        assert!(!is_right(Step::Delete, "d7:warning4:none6:result2:oke"));
        assert!(!is_right(
            Step::Delete,
            "d12:error-reason1:x6:result5:errore"
        ));
        assert!(!is_right(Step::Delete, ""));
        assert_eq!(opened(b"0000002a_x d6:result2:oke"), None);
        assert_eq!(opened(&[0xff, b' ']), None);
    }
}
