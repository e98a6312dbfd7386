//! Commands.

use super::{NO_CODECS, NO_RECORDER, spelling, words};

words! {
    /// What a message asks for.
    pub(crate) Command, "Commands":
    supported {
        Ping = "ping": "answered with pong",
        Offer = "offer": "the SDP of an offer is rewritten",
        Answer = "answer": "the SDP of an answer is rewritten",
        Delete = "delete": "a call, a branch or a dialog ends; the reply holds its statistics",
        Query = "query": "what stands and what has passed",
        List = "list": "Call-IDs, 32 unless `limit` says otherwise",
        Statistics = "statistics": "counters of the whole",
        BlockDtmf = "block DTMF": "telephone events are no longer passed on",
        UnblockDtmf = "unblock DTMF": "telephone events are passed on again",
        BlockMedia = "block media": "media is no longer passed on",
        UnblockMedia = "unblock media": "media is passed on again",
        SilenceMedia = "silence media": "media is withheld; its samples are not replaced by silence",
        UnsilenceMedia = "unsilence media": "media is passed on again",
        Publish = "publish": "media without a second side, to be subscribed to",
        SubscribeRequest = "subscribe request": "an SDP for a copy of a call's media",
        SubscribeAnswer = "subscribe answer": "where the copy goes",
        Unsubscribe = "unsubscribe": "the copy ends",
        Connect = "connect": "two sides, of one call or of two, hear each other without an offer and an answer",
        Cli = "cli": "a line of rtpengine-ctl in `body`",
    }
    refused {
        "play media": NO_CODECS,
        "stop media": NO_CODECS,
        "play DTMF": NO_CODECS,
        "start recording": NO_RECORDER,
        "stop recording": NO_RECORDER,
        "pause recording": NO_RECORDER,
        "start forwarding": NO_CODECS,
        "stop forwarding": NO_CODECS,
        "create": "Penstock makes no SDP of its own",
        "create answer": "Penstock makes no SDP of its own",
        "mesh": "Penstock has no mixer",
        "inject start": "Penstock has no mixer",
        "inject stop": "Penstock has no mixer",
        "transform": NO_CODECS,
    }
}

impl Command {
    /// As the manual spells it.
    pub(crate) fn name(self) -> &'static str {
        spelling(&self, &Self::SECTION, Self::ALL)
    }
}
