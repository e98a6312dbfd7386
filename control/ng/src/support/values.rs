//! Values of the keys that take known words.

use super::{NO_CODECS, NO_RECORDER, NO_TRANSCODER, NOTHING_RECORDED, spelling, words};

/// Why nobody is asked who is to be lite.
const ICE_LITE: &str = "Penstock is ICE-lite towards all";

/// Why a DTMF event cannot become another sound.
const NO_TONES: &str = NO_CODECS;

words! {
    /// Parts of the SDP to replace.
    pub Replace, "Values of `replace`, or flags `replace-…`":
    supported {
        Origin = "origin": "the address of `o=`",
        OriginFull = "origin-full": "all of `o=`, the same in every SDP to an endpoint",
        Username = "username": "the user name of `o=`, the same in every SDP to an endpoint",
        SessionName = "session-name": "`s=`, the same in every SDP to an endpoint",
        SdpVersion = "SDP-version": "the version of `o=` counts the changes",
        ZeroAddress = "zero-address": "an address of zeros gives way to a real one",
        ForceIncrementSdpVersion = "force-increment-sdp-ver": "the version of `o=` grows with every SDP",
    }
    ignored {
        "session-connection": "the address of `c=` always is replaced",
    }
}

words! {
    /// The profile towards the other side.
    pub Transport, "Values of `transport-protocol`, or flags":
    supported {
        RtpAvp = "RTP/AVP": "plain RTP; refused where the media came encrypted",
        RtpAvpf = "RTP/AVPF": "plain RTP with feedback",
        RtpSavp = "RTP/SAVP": "SRTP that passes unopened; refused where the media came in the clear",
        RtpSavpf = "RTP/SAVPF": "the same with feedback",
        UdpTlsRtpSavp = "UDP/TLS/RTP/SAVP": "DTLS-SRTP that passes unopened; refused where the media came otherwise",
        UdpTlsRtpSavpf = "UDP/TLS/RTP/SAVPF": "the same with feedback",
        Udptl = "UDPTL": "T.38 that passes unopened; refused where the media came as RTP",
        Accept = "accept": "in an answer: the profile that the answer names is passed on",
    }
}

impl Transport {
    /// As the manual spells it.
    pub fn name(self) -> &'static str {
        spelling(&self, &Self::SECTION, Self::ALL)
    }
}

words! {
    /// Address family to offer to the other side.
    pub AddressFamily, "Values of `address-family`":
    supported {
        Ip4 = "IP4": "IPv4",
        Ip6 = "IP6": "IPv6",
    }
}

words! {
    /// What to do about RTCP multiplexing.
    pub RtcpMux, "Values of `rtcp-mux`, or flags `rtcp-mux-…`":
    supported {
        Offer = "offer": "offered to the other side in any case",
        Require = "require": "offered as if it were accepted: one port",
        Demux = "demux": "accepted towards the sender, not offered to the other side",
        Accept = "accept": "accepted, and offered if it was offered",
        Reject = "reject": "not accepted",
    }
}

words! {
    /// What to do about BUNDLE.
    pub Bundle, "Values of `bundle`, or flags `bundle-…`":
    supported {
        Accept = "accept": "a group that was offered is accepted",
        Offer = "offer": "a group that was offered is offered to the other side, and accepted if that accepts",
        Reject = "reject": "a group that was offered is not accepted",
    }
    ignored {
        "require": "a group is not offered where there was none",
        "strict": "a group is not offered where there was none",
    }
}

words! {
    /// What to do about ICE.
    pub Ice, "Values of `ICE`, or flags `ICE-…`":
    supported {
        Remove = "remove": "ICE leaves the SDP",
        Force = "force": "Penstock's candidates are the only ones",
        Default = "default": "as `force` if the SDP came with ICE, else none",
        Optional = "optional": "as `force`, but an answer has ICE only if the offer had",
    }
    ignored {
        "force-relay": "Penstock is the only candidate, as with `default`",
        "ice2": "nothing of RFC 8445 is left out for it",
    }
}

words! {
    /// Towards whom ICE is lite; there is nothing to act upon.
    pub(crate) IceLite, "Values of `ICE-lite`, or flags `ICE-lite-…`":
    ignored {
        "forward": ICE_LITE,
        "backward": ICE_LITE,
        "both": ICE_LITE,
        "off": ICE_LITE,
    }
}

words! {
    /// How a stream learns whom its media comes from.
    pub EndpointLearning, "Values of `endpoint-learning`, or flags `endpoint-learning-…`":
    supported {
        Off = "off": "not at all",
        Immediate = "immediate": "from the first packet",
        Delayed = "delayed": "from the last source while learning lasts",
        Heuristic = "heuristic": "from the source that fits the SDP best",
    }
}

words! {
    /// The lists of `codec`.
    pub(crate) CodecList, "Lists of `codec`, or flags `codec-LIST-CODEC`":
    supported {
        Strip = "strip": "leave the SDP; `all` and `full` mean every codec",
        Except = "except": "stay although `strip` names them",
        Offer = "offer": "as `except`, and in this order",
        Mask = "mask": "as `strip`, of an offer alone",
        Consume = "consume": "as `mask`",
        Transcode = "transcode": "as `offer`; a codec that was not offered is refused, for nothing is transcoded",
    }
    ignored {
        "accept": "a codec passes if both sides have it",
        "set": NO_TRANSCODER,
        "ignore": NO_TRANSCODER,
    }
}

words! {
    /// Kinds of media.
    pub Kind, "Kinds of media, in `sdp-attr` and `sdp-media-remove`":
    supported {
        Session = "none" | "global" | "session": "in `sdp-attr`: above all media",
        Audio = "audio": "m=audio",
        Video = "video": "m=video",
        Text = "text": "m=text",
        Application = "application": "m=application",
        Message = "message": "m=message",
        Image = "image": "m=image",
        Other = "other": "any other",
    }
}

words! {
    /// What a block or a subscription reaches.
    pub All, "Values of `all`":
    supported {
        None = "none": "what was selected, which is the default",
        All = "all": "everybody; also as the flag `all`",
        OfferAnswer = "offer-answer": "a block: what the participant sends the other side, and copies of it; a subscription: those who offered and answered",
        ExceptOfferAnswer = "except-offer-answer": "a block of media: copies for subscribers alone; a subscription: those who published",
        Flows = "flows": "a block: what the participant sends anybody; a subscription: everybody",
    }
}

words! {
    /// Whether a call's media is dropped.
    pub DropTraffic, "Values of `drop-traffic`, or flags `drop-traffic-…`":
    supported {
        Start = "start": "from now on",
        Stop = "stop": "no longer; wins over `start`",
    }
}

words! {
    /// Whose media goes back to its sender.
    pub MediaEcho, "Values of `media-echo`, or flags `media-echo-…`":
    supported {
        Blackhole = "blackhole" | "sinkhole": "nobody's: media is dropped",
        Forward = "forward": "the other side's",
        Backwards = "backwards" | "backward": "the sender's",
        Both = "both": "both sides'",
    }
}

words! {
    /// How DTMF is blocked.
    pub DtmfSecurity, "Values of `DTMF-security`":
    supported {
        Drop = "drop": "events are dropped, which is the default",
        Off = "off": "not at all",
    }
    refused {
        "silence": NO_TONES,
        "tone": NO_TONES,
        "random": NO_TONES,
        "zero": NO_TONES,
        "DTMF": NO_TONES,
    }
}

words! {
    /// Whether to record; there is nothing to act upon.
    pub(crate) RecordCall, "Values of `record-call`":
    ignored {
        "off" | "no" | "false" | "0": NOTHING_RECORDED,
    }
    refused {
        "on" | "yes" | "true" | "1": NO_RECORDER,
    }
}

words! {
    /// What to do about fax; there is nothing to act upon.
    pub(crate) T38, "Values of `T.38`, or flags `T.38-…`":
    ignored {
        "stop": NO_TRANSCODER,
        "no-ECM": NO_TRANSCODER,
        "no-V.17": NO_TRANSCODER,
        "no-V.27ter": NO_TRANSCODER,
        "no-V.29": NO_TRANSCODER,
        "no-V.34": NO_TRANSCODER,
        "no-IAF": NO_TRANSCODER,
        "FEC": NO_TRANSCODER,
    }
    refused {
        "decode": NO_CODECS,
        "force": NO_CODECS,
    }
}
