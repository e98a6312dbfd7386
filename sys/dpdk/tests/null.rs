//! Packets are counted and none leaks, whichever way it goes.

mod common;

use penstock_dpdk::{Burst, Checksum, HEADROOM, Mbuf, TxBatch};

#[test]
fn nothing_leaks() {
    let eal = common::eal();
    let pool = common::pool(&eal, "null");
    assert_eq!(pool.in_use(), 0);

    let (port, mut rx, mut tx) = common::start(&eal, "net_null0,size=100,copy=1", &pool);
    assert_eq!((port.name(), port.driver()), ("net_null0", "net_null"));
    assert!(port.link_up().unwrap());
    let idle = pool.in_use();

    let mut burst = Burst::new();
    assert_eq!(rx.receive(&mut burst, 32), 32);
    assert_eq!(rx.receive(&mut burst, 8), 8, "behind the first ones");
    assert_eq!(rx.receive(&mut burst, 64), 24, "as far as there is room");
    assert_eq!(rx.receive(&mut burst, 64), 0);
    assert_eq!(burst.len(), Burst::CAPACITY);
    assert_eq!(pool.in_use(), idle + 64);
    for mbuf in burst.iter_mut() {
        assert_eq!(mbuf.frame().len(), 100);
        assert_eq!(mbuf.with_headroom_mut().unwrap().len(), HEADROOM + 100);
        assert_eq!(mbuf.rx_ip_checksum(), Checksum::Unknown);
    }

    // A full burst gives back what it is given.
    let extra = pool.alloc().unwrap();
    let extra = burst.push(extra).unwrap_err();
    assert_eq!(pool.in_use(), idle + 65);
    drop(extra);
    assert_eq!(pool.in_use(), idle + 64);

    // Sent, dropped one by one, kept, and left in the iterator.
    let mut batch = TxBatch::new();
    let mut kept: Vec<Mbuf> = Vec::new();
    let mut drain = burst.drain();
    assert_eq!(drain.len(), 64);
    drain
        .by_ref()
        .take(10)
        .for_each(|mbuf| batch.push(mbuf).unwrap());
    drain.by_ref().take(10).for_each(drop);
    kept.extend(drain.by_ref().take(10));
    assert_eq!(drain.len(), 34);
    drop(drain);
    assert!(burst.is_empty());
    assert_eq!(pool.in_use(), idle + 20);
    let sent = tx.send(&mut batch);
    assert_eq!((sent.sent, sent.unsent, batch.len()), (10, 0, 0));
    assert_eq!(pool.in_use(), idle + 10);

    // A packet may go back from a thread that EAL does not know.
    std::thread::spawn(move || drop(kept)).join().unwrap();
    assert_eq!(pool.in_use(), idle);

    // A dropped burst, a dropped batch, a cleared burst.
    rx.receive(&mut burst, 64);
    burst.clear();
    assert_eq!(pool.in_use(), idle);
    rx.receive(&mut burst, 32);
    burst.drain().for_each(|mbuf| batch.push(mbuf).unwrap());
    rx.receive(&mut burst, 32);
    assert_eq!(pool.in_use(), idle + 64);
    drop((burst, batch));
    assert_eq!(pool.in_use(), idle);

    let stats = port.stats().unwrap();
    assert_eq!(
        (stats.ipackets, stats.opackets, stats.rx_nombuf),
        (192, 10, 0)
    );

    // The pool runs dry, and fills again.
    let all: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(all.len() as u32, 1023 - idle);
    drop(all);
    assert_eq!(pool.in_use(), idle);

    // The port closes with its last queue, and can then be opened anew.
    drop((port, tx));
    let mut burst = Burst::new();
    assert_eq!(rx.receive(&mut burst, 32), 32, "still running");
    drop((burst, rx));
    assert_eq!(pool.in_use(), 0);
    let (_port, mut rx, _tx) = common::start(&eal, "net_null0,size=200", &pool);
    let mut burst = Burst::new();
    rx.receive(&mut burst, 1);
    assert_eq!(burst[0].frame().len(), 200);
}
