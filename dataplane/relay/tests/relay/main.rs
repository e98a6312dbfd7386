//! Packets in, verdicts and packets out.

#[path = "../../fuzz/src/body.rs"]
mod body;
mod burst;
#[path = "../../fuzz/src/burst.rs"]
mod bursts;
mod classify;
mod corpus;
mod divide;
mod exception;
mod icmp;
mod judge;
mod learn;
mod local;
mod meter;
mod nd;
mod police;
mod reply;
mod rewrite;
mod route;
mod rtcp;
#[path = "../../fuzz/src/stun.rs"]
mod stun;
mod support;
mod usual;
