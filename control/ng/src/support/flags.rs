//! Words of the `flags` list. A key with a prefix (`codec-strip-PCMU`) or a value (`TOS=184`) may stand there too.

use super::{NO_KEYS, NO_TRANSCODER, NOTHING_PLAYED, NOTHING_RECORDED, words};

/// Why what is about full ICE is ignored.
const ICE_LITE: &str =
    "Penstock is ICE-lite: it answers checks and needs no candidates of the other side";

words! {
    /// Flags acted upon.
    pub Flag, "Flags":
    supported {
        TrustAddress = "trust-address": "the SDP's addresses count, which is the default",
        SipSourceAddress = "SIP-source-address": "the address of `received-from` counts instead of the SDP's",
        Symmetric = "symmetric": "the source of media is learned, which is the default",
        Asymmetric = "asymmetric": "nothing is learned: media goes where the SDP says",
        StrictSource = "strict-source": "packets from another source are dropped, which is the default",
        MediaHandover = "media-handover": "the source of media may change",
        PortLatching = "port-latching": "ports are kept",
        NoPortLatching = "no-port-latching": "a changed remote port gets new local ports",
        Reset = "reset": "what was learned of the endpoint is forgotten",
        StrictPayload = "strict-payload": "Penstock's own: payload types that were not negotiated are dropped",
        LoopProtect = "loop-protect": "an SDP that came through here once is left alone",
        OriginalSendrecv = "original-sendrecv": "the direction attribute is left as it is",
        NoRtcpAttribute = "no-rtcp-attribute": "no `a=rtcp`",
        FullRtcpAttribute = "full-rtcp-attribute": "`a=rtcp` with an address",
        Fatal = "fatal": "a delete that finds nothing is an error",
        Fast = "fast": "a delete without statistics",
        NatWait = "NAT-wait": "nothing is sent to an endpoint before it has sent",
        PierceNat = "pierce-NAT": "an endpoint is sent empty UDP packets, one a second for a minute at most, until it has sent",
        NewBranch = "new-branch": "an unknown to-tag is a branch of its own, not another name",
        GenerateMid = "generate-mid": "`a=mid` where it is missing",
        StripExtmap = "strip-extmap": "header extensions leave the SDP",
        SingleCodec = "single-codec": "an answer keeps its first codec",
        ReorderCodecs = "reorder-codecs": "codecs of an answer in the order of the offer",
        TrickleIce = "trickle-ICE": "the SDP says that candidates may trickle",
        RejectIce = "reject-ICE": "the ICE of an offer is not accepted: its answer has none",
        BlockDtmf = "block-DTMF": "as the command, with the offer or answer",
        BlockMedia = "block-media": "as the command, with the offer or answer",
        Inactive = "inactive": "a subscription that starts paused",
        Directional = "directional": "in `rtpp-flags`: a block means the from-tag that comes with it; refused by `connect`",
        Egress = "egress": "a subscription to what the participant is sent",
        WebRtc = "WebRTC": "transport-protocol=UDP/TLS/RTP/SAVPF ICE=force rtcp-mux=[offer require] bundle=accept trickle-ICE no-rtcp-attribute generate-mid",
    }
    ignored {
        "to-tag": "a delete always heeds the to-tag",
        "provisional": "the to-tag may always change",
        "unidirectional": "media that flows one way only is relayed like any other",
        "bidirectional": "who publishes only sends, who subscribes only receives",
        "allow-no-codec-media": "media that the lists would leave without a codec keeps those it came with",
        "RTCP-mirror" | "mirror-RTCP": "a subscriber's RTCP is metered and goes no further",
        "always-transcode": NO_TRANSCODER,
        "fragment": ICE_LITE,
        "generate-RTCP": "RTCP is relayed from end to end",
        "recrypt": NO_KEYS,
        "pad-crypto": NO_KEYS,
        "no-tls-id": NO_KEYS,
        "allow-transcoding": NO_TRANSCODER,
        "allow-asymmetric-codecs": "payload types pass as they come",
        "asymmetric-codecs": "payload types pass as they come",
        "symmetric-codecs": "payload types pass as they come",
        "static-codecs": NO_TRANSCODER,
        "reuse-codecs" | "no-codec-renegotiation": NO_TRANSCODER,
        "no-jitter-buffer": "there is none",
        "block-short" | "block-short-packets": "truncated packets are dropped anyway",
        "block-egress": NOTHING_PLAYED,
        "early-media": NOTHING_PLAYED,
        "mix": NOTHING_PLAYED,
        "inject-DTMF": "events are not made here",
        "detect-DTMF": "tones are not listened for",
        "recording-announcement": NOTHING_RECORDED,
        "discard-recording": NOTHING_RECORDED,
        "exclude-recording": NOTHING_RECORDED,
        "skip-recording-db": NOTHING_RECORDED,
        "skip-recording": NOTHING_RECORDED,
        "SIPREC": "a subscription is made alike for all",
        "debug" | "debugging": "the configuration sets what is logged",
        "no-redis-update": "calls are stored on this machine",
        "force": "chains of relays need no leave",
        "force-answer": "the client's affair",
        "auto-bridge": "`address-family` bridges IPv4 and IPv6",
    }
    refused {
        "record-call": super::NO_RECORDER,
        "force-transcoding": super::NO_CODECS,
    }
}
