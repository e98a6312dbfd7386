//! A loopback keeps order and content, and a packet's start can be moved.

mod common;

use penstock_dpdk::{Burst, HEADROOM, MbufPool, TxBatch};

const FRAME: usize = 100;

fn frame(number: u8) -> [u8; FRAME] {
    std::array::from_fn(|at| if at == 0 { number } else { at as u8 ^ number })
}

fn fill(pool: &MbufPool, numbers: std::ops::Range<u8>) -> TxBatch {
    let mut batch = TxBatch::new();
    for number in numbers {
        let mut mbuf = pool.alloc().unwrap();
        assert!(mbuf.set_data(&frame(number)));
        batch.push(mbuf).unwrap();
    }
    batch
}

#[test]
fn loopback() {
    let eal = common::eal();
    let pool = common::pool(&eal, "ring");
    let (port, mut rx, mut tx) = common::start(&eal, "net_ring0", &pool);
    let mut burst = Burst::new();

    let mut batch = fill(&pool, 0..64);
    let full = batch.push(pool.alloc().unwrap());
    assert!(full.is_err(), "64 are in it");
    drop(full);
    assert_eq!(tx.send(&mut batch).sent, 64);
    assert_eq!(rx.receive(&mut burst, 64), 64);
    for (number, mbuf) in (0..).zip(burst.iter()) {
        assert_eq!(mbuf.frame(), frame(number));
    }

    // Every frame gets a header of 8 bytes before it, then loses 20.
    for (number, mbuf) in (0..).zip(burst.iter_mut()) {
        let bytes = mbuf.with_headroom_mut().unwrap();
        assert_eq!(bytes[HEADROOM..], frame(number));
        bytes[HEADROOM - 8..HEADROOM].fill(number + 100);
        mbuf.set_start(HEADROOM - 8);
        assert_eq!(mbuf.frame().len(), FRAME + 8);
    }
    burst.drain().for_each(|mbuf| batch.push(mbuf).unwrap());
    assert_eq!(tx.send(&mut batch).sent, 64);
    assert_eq!(rx.receive(&mut burst, 64), 64);
    for (number, mbuf) in (0..).zip(burst.iter_mut()) {
        assert_eq!(mbuf.frame()[..8], [number + 100; 8]);
        assert_eq!(mbuf.frame()[8..], frame(number));
        mbuf.set_start(HEADROOM + 20);
        assert_eq!(mbuf.frame(), &frame(number)[12..]);
        mbuf.frame_mut()[0] = !0;
    }
    burst.drain().for_each(|mbuf| batch.push(mbuf).unwrap());
    assert_eq!(tx.send(&mut batch).sent, 64);
    assert_eq!(rx.receive(&mut burst, 64), 64);
    assert!(
        burst
            .iter()
            .all(|mbuf| mbuf.frame()[0] == !0 && mbuf.frame().len() == FRAME - 12)
    );
    burst.clear();

    allocated_at_once(&pool);
    start_at_the_ends(&pool);
    unsent_are_freed(&pool, &mut tx);
    while rx.receive(&mut burst, 64) > 0 {
        burst.clear();
    }
    assert_eq!(pool.in_use(), 0);
    drop(port);
}

fn allocated_at_once(pool: &MbufPool) {
    let before = pool.in_use();
    let mut burst = Burst::new();
    assert!(pool.alloc_burst(&mut burst, 40));
    assert!(!pool.alloc_burst(&mut burst, 25), "24 fit");
    assert!(pool.alloc_burst(&mut burst, 24));
    assert_eq!(burst.len(), 64);
    assert_eq!(pool.in_use(), before + 64);
    for (number, mbuf) in (0..).zip(burst.iter_mut()) {
        assert!(mbuf.frame().is_empty());
        assert!(mbuf.set_data(&frame(number)));
    }
    assert!(
        (0..)
            .zip(burst.iter())
            .all(|(number, mbuf)| mbuf.frame() == frame(number))
    );
    let mut bursts = Vec::new();
    while pool.in_use() + 64 <= pool.count() {
        let mut burst = Burst::new();
        assert!(pool.alloc_burst(&mut burst, 64));
        bursts.push(burst);
    }
    let mut last = Burst::new();
    assert!(!pool.alloc_burst(&mut last, 64), "less are left");
    assert!(last.is_empty());
    drop((burst, bursts));
    assert_eq!(pool.in_use(), before);
}

fn start_at_the_ends(pool: &MbufPool) {
    let mut mbuf = pool.alloc().unwrap();
    assert!(mbuf.frame().is_empty());
    assert!(mbuf.set_data(&frame(1)));

    // Twice the headroom is there, then none: the frame stays as it is.
    mbuf.set_start(0);
    assert_eq!(mbuf.frame().len(), FRAME + HEADROOM);
    mbuf.set_start(0);
    assert_eq!(mbuf.frame().len(), FRAME + 2 * HEADROOM);
    assert!(mbuf.with_headroom_mut().is_none());
    mbuf.set_start(HEADROOM + 1);
    assert_eq!(mbuf.frame().len(), FRAME + 2 * HEADROOM);
    assert_eq!(mbuf.frame()[2 * HEADROOM..], frame(1));

    let mut mbuf = pool.alloc().unwrap();
    assert!(mbuf.set_data(&frame(2)));
    mbuf.set_start(usize::MAX);
    assert!(mbuf.frame().is_empty());

    // To the last byte of the buffer, not past it.
    let mut mbuf = pool.alloc().unwrap();
    assert!(!mbuf.set_data(&[7; 2049]));
    assert!(mbuf.append(2049).is_none());
    assert!(mbuf.set_data(&[7; 2000]));
    assert!(mbuf.append(49).is_none());
    mbuf.append(48).unwrap().fill(8);
    assert_eq!(mbuf.frame().len(), 2048);
    assert!(mbuf.frame()[..2000].iter().all(|&byte| byte == 7));
    assert!(mbuf.frame()[2000..].iter().all(|&byte| byte == 8));
    assert!(mbuf.set_data(&[9; 3]), "a shorter one replaces it");
    assert_eq!(mbuf.frame(), [9; 3]);
}

/// The ring of the device is larger than the pool: its slots are filled with small bursts
/// until the pool is empty, or the ring is full and frees what it cannot take.
fn unsent_are_freed(pool: &MbufPool, tx: &mut penstock_dpdk::TxQueue) {
    let mut batch = TxBatch::new();
    let (mut sent, mut unsent) = (0, 0);
    while let Some(mbuf) = pool.alloc() {
        batch.push(mbuf).unwrap();
        if batch.len() == TxBatch::CAPACITY {
            let result = tx.send(&mut batch);
            sent += result.sent;
            unsent += result.unsent;
            if unsent > 0 {
                break;
            }
        }
    }
    drop(batch);
    assert_eq!(pool.in_use() as usize, sent);
}
