//! Streams that are fed by others, and those whose packets leave by an endpoint that is not their own peer's.

use super::*;
use penstock_shm::record::link;
use penstock_shm::{Feed, Feeding, MAX_COPIES, MAX_PARTS};

fn at(port: u16) -> Endpoint {
    Endpoint { addr: 0, port }
}

fn fed(endpoint: Endpoint, feed: Feed) -> Op {
    Op::Feed(Feeding {
        endpoint,
        feed,
        mid: None,
        drop_events: false,
        pierce: false,
    })
}

/// A fork of what passes at A.
fn fork(endpoint: Endpoint, remote: &str) -> [Op; 2] {
    [
        Op::Set(spec(endpoint, endpoint, Some(remote), 1)),
        fed(endpoint, Feed::CopyOf(A)),
    ]
}

fn call() -> [Op; 2] {
    [
        Op::Set(spec(A, B, Some("198.18.0.9:1000"), 1)),
        Op::Set(spec(B, A, Some("198.18.0.8:1000"), 1)),
    ]
}

impl Bench {
    /// The copies and parts of the stream at the endpoint that a worker would find.
    fn fan(&self, endpoint: Endpoint) -> [Vec<u16>; 2] {
        let number = self.streams.table.find(endpoint).expect("a stream");
        let fan = self.fans.get(number);
        let ports = |bits: Vec<u32>| bits.into_iter().map(|b| Endpoint::from_bits(b).port);
        let read = |fan: Option<Vec<u32>>| ports(fan.unwrap_or_default()).collect();
        [
            read(fan.map(|fan| fan.copies().collect())),
            read(fan.map(|fan| fan.parts().collect())),
        ]
    }

    fn links(&self, endpoint: Endpoint) -> u8 {
        self.slot(endpoint).links
    }
}

#[test]
fn a_fork_leads_to_its_own_remote_and_is_linked_in_any_order() {
    let mut bench = Bench::new(8);
    // Before its parent is there, and twice.
    bench.apply(7, &fork(at(6000), "198.18.0.7:1")).unwrap();
    bench.apply(7, &fork(at(6000), "198.18.0.7:1")).unwrap();
    assert_eq!(destination(&bench.slot(at(6000))), "198.18.0.7:1");
    bench.apply(7, &call()).unwrap();
    assert_eq!(bench.fan(A), [vec![6000], vec![]]);
    assert_eq!(bench.links(A), link::COPIES);
    assert_eq!(bench.slot(A).usual_hop, Slot::NOT_USUAL);
    let version = bench.slot(A).version;
    bench.apply(7, &fork(at(6001), "198.18.0.7:2")).unwrap();
    assert_eq!(bench.fan(A), [vec![6000, 6001], vec![]]);
    assert_eq!(bench.slot(A).version, version, "nothing new at the parent");
    // The parent goes and comes; so does a child.
    bench.apply(7, &[Op::Remove(A)]).unwrap();
    bench.apply(7, &[Op::Remove(at(6000))]).unwrap();
    bench.apply(7, &call()).unwrap();
    assert_eq!(bench.fan(A), [vec![6001], vec![]]);
    // Without an op of its own a stream is fed by nobody.
    let alone = [Op::Set(spec(at(6001), at(6001), Some("198.18.0.7:2"), 1))];
    bench.apply(7, &alone).unwrap();
    assert_eq!((bench.fan(A), bench.links(A)), ([vec![], vec![]], 0));
    assert_eq!(bench.slot(at(6001)).feed(), Feed::Own);
    // Another call's stream is not this one's to feed, and one that is not there neither.
    let foreign = [fed(B, Feed::CopyOf(A)), fed(at(1), Feed::CopyOf(A))];
    bench.apply(8, &foreign).unwrap();
    assert_eq!(bench.fan(A), [[0u16; 0]; 2]);
    // One that another call leaves behind.
    bench.apply(7, &fork(at(6001), "198.18.0.7:2")).unwrap();
    let taken = [Op::Set(spec(at(6001), B, None, 1))];
    bench.apply(8, &taken).unwrap();
    assert_eq!((bench.fan(A), bench.links(A)), ([vec![], vec![]], 0));
}

#[test]
fn everybody_who_leaves_by_an_endpoint_follows_its_remote() {
    let mut bench = Bench::new(8);
    let [rtcp, own] = [at(5001), at(4001)];
    let part = [
        Op::Set(spec(own, rtcp, None, 1)),
        fed(own, Feed::PartOf(A)),
        Op::Set(spec(rtcp, A, Some("198.18.0.8:1001"), 1)),
    ];
    bench.apply(7, &call()).unwrap();
    bench.apply(7, &part).unwrap();
    assert_eq!(
        (bench.links(A), bench.links(own)),
        (link::PARTS, link::PART)
    );
    let to = |bench: &Bench| [B, rtcp].map(|from| destination(&bench.slot(from)));
    assert_eq!(to(&bench), ["198.18.0.9:1000"; 2]);
    assert_eq!(destination(&bench.slot(own)), "198.18.0.8:1001");
    bench.latch(A, "198.18.0.9:2222").unwrap();
    assert_eq!(to(&bench), ["198.18.0.9:2222"; 2]);
    // The opposite direction is the part's, not that of who has the port.
    let number = |bench: &Bench, end| bench.streams.table.find(end).unwrap();
    assert_eq!(bench.slot(rtcp).peer, number(&bench, own));
    assert_eq!(bench.slot(B).peer, number(&bench, A));
    bench.apply(7, &[Op::Remove(own)]).unwrap();
    assert_eq!(bench.slot(rtcp).peer, number(&bench, A));
    bench.apply(7, &[Op::Remove(A)]).unwrap();
    for from in [B, rtcp] {
        assert!(!has(&bench.slot(from), flag::ROUTED));
    }
}

#[test]
fn an_endpoint_feeds_so_many_and_no_more() {
    let mut bench = Bench::with(8, 256, DEFAULTS);
    bench.apply(7, &call()).unwrap();
    for n in 0..MAX_COPIES as u16 {
        bench.apply(7, &fork(at(6000 + n), "198.18.0.7:1")).unwrap();
    }
    let one_more = fork(at(6100), "198.18.0.7:1");
    assert_eq!(bench.apply(7, &one_more), Err(Refusal::TooManyFed));
    assert_eq!(bench.streams.table.find(at(6100)), None);
    // In the place of one that goes.
    let instead = [&[Op::Remove(at(6000))][..], &one_more[..]].concat();
    bench.apply(7, &instead).unwrap();
    let parts = |count: u16| -> Vec<Op> {
        let part = |n| {
            let end = at(7000 + n);
            [Op::Set(spec(end, B, None, 1)), fed(end, Feed::PartOf(A))]
        };
        (0..count).flat_map(part).collect()
    };
    let most = MAX_PARTS as u16;
    assert_eq!(
        bench.apply(7, &parts(most + 1)),
        Err(Refusal::TooManyFed),
        "at once"
    );
    bench.apply(7, &parts(most)).unwrap();
    let [copies, parts] = bench.fan(A);
    assert_eq!((copies.len(), parts.len()), (MAX_COPIES, MAX_PARTS));
}

/// What a plane that starts makes of the slots that a former one left.
#[test]
fn links_are_made_anew_from_the_slots() {
    let mut bench = Bench::new(8);
    bench.apply(7, &call()).unwrap();
    bench.apply(7, &fork(at(6000), "198.18.0.7:1")).unwrap();
    let capacity = bench.streams.table.capacity();
    bench.fans = Arc::new(Fans::new(capacity));
    bench.streams.feeds = Feeds::new(Arc::clone(&bench.fans), capacity);
    assert_eq!(bench.streams.resume(2), 3);
    assert_eq!(bench.fan(A), [vec![6000], vec![]]);
    assert_eq!(bench.links(A), link::COPIES);
}
