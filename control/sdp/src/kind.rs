//! What a line is about.

/// What a line is about, as far as a relay has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `v=`
    Version,
    /// `o=`
    Origin,
    /// `s=`
    SessionName,
    /// `m=`
    Media,
    /// `i=`
    Title,
    /// `c=`
    Connection,
    /// `b=` and `k=`
    Head,
    /// `a=group:`
    Group,
    /// `a=mid:`
    Mid,
    /// `a=rtpmap:`
    Rtpmap,
    /// `a=fmtp:`
    Fmtp,
    /// `a=rtcp-fb:`
    RtcpFb,
    /// `a=ptime:`
    Ptime,
    /// `a=maxptime:`
    MaxPtime,
    /// `a=sendrecv` and its like
    Direction,
    /// `a=rtcp:`
    Rtcp,
    /// `a=rtcp-mux`
    RtcpMux,
    /// `a=rtcp-mux-only`
    RtcpMuxOnly,
    /// `a=crypto:`
    Crypto,
    /// `a=fingerprint:`
    Fingerprint,
    /// `a=setup:`
    Setup,
    /// `a=tls-id:`
    TlsId,
    /// `a=ice-lite`
    IceLite,
    /// `a=ice-ufrag:`
    IceUfrag,
    /// `a=ice-pwd:`
    IcePwd,
    /// `a=ice-options:`
    IceOptions,
    /// `a=candidate:`
    Candidate,
    /// ICE's other lines (RFC 8839 section 5, RFC 8840)
    IceOther,
    /// `a=extmap:`
    Extmap,
    /// `a=bundle-only`
    BundleOnly,
    /// `a=ssrc:`
    Ssrc,
    /// `a=label:`
    Label,
    /// `a=rtpengine:`
    LoopMark,
    /// Nothing left on the line.
    Blank,
    /// Anything else.
    Other,
}

/// Longest attribute name known here.
const LONGEST: usize = 17;

impl Kind {
    /// Reads the first bytes of a line. Attribute names are compared without case: a line meant to
    /// be dropped must not survive as `a=RTCP:`.
    pub(crate) fn of(text: &[u8]) -> Self {
        match text {
            [b'a', b'=', rest @ ..] => Self::of_attribute(rest),
            [b'v', b'=', ..] => Self::Version,
            [b'o', b'=', ..] => Self::Origin,
            [b's', b'=', ..] => Self::SessionName,
            [b'm', b'=', ..] => Self::Media,
            [b'i', b'=', ..] => Self::Title,
            [b'c', b'=', ..] => Self::Connection,
            [b'b' | b'k', b'=', ..] => Self::Head,
            [] => Self::Blank,
            _ => Self::Other,
        }
    }

    fn of_attribute(rest: &[u8]) -> Self {
        let name = rest.split(|&b| b == b':').next().unwrap_or_default();
        let name = name.trim_ascii();
        let mut lower = [0; LONGEST];
        let Some(lower) = lower.get_mut(..name.len()) else {
            return Self::Other;
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        match &*lower {
            b"group" => Self::Group,
            b"mid" => Self::Mid,
            b"rtpmap" => Self::Rtpmap,
            b"fmtp" => Self::Fmtp,
            b"rtcp-fb" => Self::RtcpFb,
            b"ptime" => Self::Ptime,
            b"maxptime" => Self::MaxPtime,
            b"sendrecv" | b"sendonly" | b"recvonly" | b"inactive" => Self::Direction,
            b"rtcp" => Self::Rtcp,
            b"rtcp-mux" => Self::RtcpMux,
            b"rtcp-mux-only" => Self::RtcpMuxOnly,
            b"crypto" => Self::Crypto,
            b"fingerprint" => Self::Fingerprint,
            b"setup" => Self::Setup,
            b"tls-id" => Self::TlsId,
            b"ice-lite" => Self::IceLite,
            b"ice-ufrag" => Self::IceUfrag,
            b"ice-pwd" => Self::IcePwd,
            b"ice-options" => Self::IceOptions,
            b"candidate" => Self::Candidate,
            b"end-of-candidates" | b"remote-candidates" | b"ice-mismatch" | b"ice-pacing" => {
                Self::IceOther
            }
            b"extmap" => Self::Extmap,
            b"bundle-only" => Self::BundleOnly,
            b"ssrc" => Self::Ssrc,
            b"label" => Self::Label,
            b"rtpengine" => Self::LoopMark,
            _ => Self::Other,
        }
    }

    /// Whether the line belongs to ICE.
    pub(crate) fn is_ice(self) -> bool {
        matches!(
            self,
            Self::IceLite
                | Self::IceUfrag
                | Self::IcePwd
                | Self::IceOptions
                | Self::Candidate
                | Self::IceOther
        )
    }

    /// Where in a media section a new line of this kind belongs: after the last line of a rank not
    /// above its own. `None` for what has no place of its own and stays where it came.
    pub(crate) fn rank(self) -> Option<u8> {
        Some(match self {
            Self::Media => 0,
            Self::Title => 1,
            Self::Connection => 2,
            Self::Head => 3,
            Self::Mid => 4,
            Self::Rtpmap | Self::Fmtp | Self::RtcpFb | Self::Ptime | Self::MaxPtime => 5,
            Self::Direction => 6,
            Self::Rtcp => 7,
            Self::RtcpMux | Self::RtcpMuxOnly => 8,
            Self::Crypto | Self::Fingerprint | Self::Setup | Self::TlsId => 9,
            kind if kind.is_ice() => 10,
            _ => return None,
        })
    }
}

/// What follows the first colon of an attribute line; empty if there is none.
pub(crate) fn value(text: &[u8]) -> &[u8] {
    let colon = text.iter().position(|&b| b == b':');
    colon.map_or(&[], |colon| &text[colon + 1..])
}

/// What follows the first colon of an attribute line, without the blanks around it; bytes that are
/// not UTF-8 show as U+FFFD.
pub(crate) fn value_text(text: &[u8]) -> String {
    String::from_utf8_lossy(value(text).trim_ascii()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_a_value_in_any_case() {
        for (text, kind) in [
            ("a=rtcp:5 IN", Kind::Rtcp),
            ("a=RTCP-Mux", Kind::RtcpMux),
            ("a=rtcp-mux-only", Kind::RtcpMuxOnly),
            ("a= candidate :1", Kind::Candidate),
            ("a=remote-candidates:1", Kind::IceOther),
            ("a=end-of-candidates", Kind::IceOther),
            ("b=rtcp:5", Kind::Head),
            ("a=rtcp-xr:rcvr-rtt=all", Kind::Other),
            ("a=a-name-that-is-longer-than-all", Kind::Other),
            ("a=", Kind::Other),
            ("a", Kind::Other),
            ("", Kind::Blank),
        ] {
            assert_eq!(Kind::of(text.as_bytes()), kind, "{text}");
        }
    }

    #[test]
    fn a_value_is_what_follows_the_colon() {
        assert_eq!(value(b"a=rtcp:5 IN"), b"5 IN");
        assert_eq!(value(b"a=rtcp-mux"), b"");
        assert_eq!(value_text(b"a=mid: a:b "), "a:b");
    }
}
