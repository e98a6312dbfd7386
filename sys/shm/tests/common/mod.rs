//! What the region's tests share.
#![allow(dead_code, reason = "each test program uses its part")]

use penstock_shm::{Dscp, Endpoint, Learn, RegionConfig, StreamSpec};
use tempfile::TempDir;

/// A directory for a region, in memory where there is such a place.
pub(crate) fn temp_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a temporary directory")
}

/// A region of `streams` records in `dir`.
pub(crate) fn config(dir: &TempDir, streams: u32) -> RegionConfig {
    RegionConfig {
        dir: dir.path().join("region"),
        table_dir: None,
        streams,
        group: None,
    }
}

pub(crate) fn endpoint(addr: u16, port: u16) -> Endpoint {
    Endpoint { addr, port }
}

/// Any specification of a stream at the endpoint.
pub(crate) fn spec(at: Endpoint, signal: u32) -> StreamSpec {
    StreamSpec {
        endpoint: at,
        peer: Endpoint {
            addr: at.addr,
            port: at.port ^ 2,
        },
        remote: Some("192.0.2.1:4000".parse().unwrap()),
        learn: Learn::Immediate,
        signal,
        clock_hz: 8000,
        dscp: Dscp::Set(46),
        leg: 1,
        ..StreamSpec::new(at, at)
    }
}

/// Numbers that follow from a seed (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
