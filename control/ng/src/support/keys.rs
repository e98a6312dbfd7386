//! Keys of a message. Each may also stand as `key=value` in a flag.

use super::{NO_KEYS, NO_TRANSCODER, NOTHING_PLAYED, NOTHING_RECORDED, spelling, words};

/// Why what tunes DTMF detection is ignored.
const NO_DTMF: &str = "events are passed on or blocked, never made or changed";

/// Why rtpengine's peers are ignored.
const NO_PEERS: &str =
    "name the interface with `direction`; else it is the first that fits the family";

/// No key is longer, in bytes: nothing is looked for beyond.
const LONGEST: usize = 32;

words! {
    /// A key of a message.
    pub(crate) Key, "Keys":
    supported {
        Command = "command": "what is asked for",
        CallId = "call-id" | "callid": "the call",
        FromTag = "from-tag": "who signals, or the participant selected",
        ToTag = "to-tag": "the other side",
        ViaBranch = "via-branch": "tells forked branches apart",
        Sdp = "sdp": "the body",
        Limit = "limit": "how many calls to list",
        Body = "body": "the line of a `cli` command",
        Flags = "flags": "the flags below",
        RtppFlags = "rtpp-flags": "one string of flags, keys and lists; a key of its own wins over it",
        Supports = "supports": "`load limit`: overload has a reply of its own",
        Template = "template": "a configured set of flags",
        Replace = "replace": "what of the SDP is replaced",
        TransportProtocol = "transport-protocol": "the profile towards the other side",
        Direction = "direction": "interface of the sender, then of the other side; `round-robin-calls` takes them in turn",
        Interface = "interface" | "iface": "the interface where only one is needed",
        FromInterface = "from-interface" | "in-iface": "the first of `direction`",
        ToInterface = "to-interface" | "out-iface": "the second of `direction`",
        AddressFamily = "address-family": "IPv4 or IPv6 towards the other side",
        MediaAddress = "media-address": "the address that the SDP tells the other side, instead of Penstock's own",
        ReceivedFrom = "received-from": "where the SIP message came from",
        RtcpMux = "rtcp-mux": "RTP and RTCP on one port",
        Bundle = "bundle": "many media on one port",
        Ice = "ICE": "candidates and checks",
        EndpointLearning = "endpoint-learning": "how the source of media is learned",
        Tos = "TOS": "the octet of the packets sent, 0 to 255; negative leaves it as it is",
        DeleteDelay = "delete-delay": "seconds between a delete and the end",
        Codec = "codec": "lists of codecs to strip, keep, order",
        Ptime = "ptime": "the `a=ptime` towards the other side; packets are not cut anew",
        PtimeReverse = "ptime-reverse": "the `a=ptime` towards the sender",
        MaxPtime = "maxptime" | "max-ptime": "the `a=maxptime` towards the other side",
        SdpAttr = "sdp-attr" | "sdp-attributes": "attributes added, removed and substituted",
        SdpMediaRemove = "sdp-media-remove": "kinds of media that leave the SDP",
        Extmap = "extmap": "header extensions to strip or mask",
        Label = "label" | "from-label": "a name for the participant, or the participant of that name",
        SetLabel = "set-label": "a name for who offers or answers, for a subscription, or for whom a block selects",
        ToLabel = "to-label": "the other participant, by name",
        Address = "address": "the participant whose SDP gave this address",
        FromTags = "from-tags": "several participants, for a subscription",
        All = "all": "what a block or a subscription reaches",
        ToCallId = "to-call-id": "the second call of a `connect`: both become one",
        DropTraffic = "drop-traffic": "the call's media is dropped, or no longer",
        MediaEcho = "media-echo": "media goes back to its sender",
        DtmfSecurity = "DTMF-security": "how events are blocked",
        Metadata = "metadata": "text kept with who offers, answers or publishes: in a `query` and in the call's record",
        RecordCall = "record-call": "see below",
        T38 = "T.38" | "T38": "see below",
    }
    ignored {
        "ICE-lite": "Penstock is ICE-lite towards all",
        "SDES": NO_KEYS,
        "DTLS": NO_KEYS,
        "DTLS-reverse": NO_KEYS,
        "DTLS-fingerprint": NO_KEYS,
        "OSRTP": NO_KEYS,
        "generate-RTCP": "RTCP is relayed from end to end",
        "delay-buffer": "packets are never held back",
        "T.38-version" | "T38-version": NO_TRANSCODER,
        "repacketize": NO_TRANSCODER,
        "inbound-peer": NO_PEERS,
        "outbound-peer": NO_PEERS,
        "peer": NO_PEERS,
        "xmlrpc-callback": "timeouts are not announced; call records tell them",
        "SIP-code" | "sip-response-code": "the SDP alone decides",
        "SIP-message-type": "the SDP alone decides",
        "instance": "one call, one media plane",
        "DTMF-log-dest": NO_DTMF,
        "DTMF-delay": NO_DTMF,
        "DTMF-security-trigger": NO_DTMF,
        "DTMF-security-trigger-end": NO_DTMF,
        "trigger": NO_DTMF,
        "trigger-end" | "end-trigger": NO_DTMF,
        "trigger-end-time" | "trigger-end-ms": NO_DTMF,
        "trigger-end-digits": NO_DTMF,
        "digit" | "code": NO_DTMF,
        "frequency" | "frequencies": NO_DTMF,
        "volume": NO_DTMF,
        "pause": NO_DTMF,
        "duration": NOTHING_PLAYED,
        "audio-player" | "player": NOTHING_PLAYED,
        "moh": NOTHING_PLAYED,
        "file": NOTHING_PLAYED,
        "blob": NOTHING_PLAYED,
        "blob64": NOTHING_PLAYED,
        "db-id": NOTHING_PLAYED,
        "repeat-times": NOTHING_PLAYED,
        "repeat-duration": NOTHING_PLAYED,
        "start-pos": NOTHING_PLAYED,
        "output-destination": NOTHING_RECORDED,
        "recording-file": NOTHING_RECORDED,
        "recording-dir": NOTHING_RECORDED,
        "recording-path": NOTHING_RECORDED,
        "recording-pattern": NOTHING_RECORDED,
        "recording-vsc": NOTHING_RECORDED,
        "vsc-start-rec": NOTHING_RECORDED,
        "vsc-stop-rec": NOTHING_RECORDED,
        "vsc-pause-rec": NOTHING_RECORDED,
        "vsc-pause-resume-rec": NOTHING_RECORDED,
        "vsc-start-stop-rec": NOTHING_RECORDED,
        "vsc-start-pause-resume-rec": NOTHING_RECORDED,
    }
}

impl Key {
    /// Whether a flag `key-value` means `key=value`.
    pub(crate) fn is_prefix(self) -> bool {
        matches!(
            self,
            Self::Replace
                | Self::RtcpMux
                | Self::Bundle
                | Self::Ice
                | Self::EndpointLearning
                | Self::Codec
                | Self::SdpAttr
                | Self::SdpMediaRemove
                | Self::Extmap
                | Self::FromTags
                | Self::All
                | Self::DropTraffic
                | Self::MediaEcho
                | Self::DtmfSecurity
                | Self::RecordCall
                | Self::T38
        )
    }

    /// The key that `word` begins with before a hyphen, the longest, and how long that is. `word` has hyphens.
    pub(crate) fn prefix_of(word: &str) -> Option<(super::Known<Self>, usize)> {
        let hyphens = word.bytes().take(LONGEST).enumerate();
        let hyphens: Vec<usize> = hyphens
            .filter(|&(_, byte)| byte == b'-')
            .map(|(at, _)| at)
            .collect();
        hyphens.into_iter().rev().find_map(|at| {
            let known = Self::find(word.as_bytes().get(..at)?)?;
            let fits = match known {
                super::Known::Word(key) => key.is_prefix(),
                super::Known::Ignored => true,
                super::Known::Refused(_) => false,
            };
            fits.then_some((known, at))
        })
    }
}

impl Key {
    /// As the manual spells it.
    pub(crate) fn name(self) -> &'static str {
        spelling(&self, &Self::SECTION, Self::ALL)
    }
}
