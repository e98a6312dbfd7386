//! Packets in, verdicts and packets out.

#[path = "../../fuzz/src/body.rs"]
mod body;
mod classify;
mod corpus;
mod exception;
mod icmp;
mod judge;
mod local;
mod meter;
mod nd;
mod rewrite;
mod route;
mod support;
mod usual;
