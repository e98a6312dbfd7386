//! Packets in, verdicts and packets out.

#[path = "../../fuzz/src/body.rs"]
mod body;
mod classify;
mod corpus;
mod judge;
mod local;
mod meter;
mod rewrite;
mod route;
mod support;
mod usual;
