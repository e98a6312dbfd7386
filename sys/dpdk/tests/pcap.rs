//! Packets of a capture file arrive as they stand there; one too large for a buffer is chained.

mod common;

use std::fs;

use penstock_dpdk::{Burst, TxBatch};

fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    // Magic, version 2.4, time zone, accuracy, largest packet, Ethernet.
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for packet in packets {
        let len = packet.len() as u32;
        for word in [0, 0, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(packet);
    }
    file
}

#[test]
fn capture_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.pcap");
    let mut packets: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; 60 + usize::from(n)]).collect();
    packets.push(vec![0xee; 5000]);
    fs::write(&path, capture(&packets)).unwrap();

    let eal = common::eal();
    let pool = common::pool(&eal, "pcap");
    let device = format!("net_pcap0,rx_pcap={}", path.display());
    let (port, mut rx, _tx) = common::start(&eal, &device, &pool);

    let mut burst = Burst::new();
    while burst.len() < packets.len() {
        assert!(rx.receive(&mut burst, 32) > 0, "{} packets", burst.len());
    }
    assert_eq!(rx.receive(&mut burst, 1), 0, "the capture is over");
    for (mbuf, packet) in burst.iter().zip(&packets[..40]) {
        assert_eq!(mbuf.frame(), packet);
    }

    // The chained one can be counted, but neither read, nor moved, nor sent.
    let mut large = burst.drain().last().unwrap();
    assert_eq!((large.segments(), large.packet_len()), (3, 5000));
    assert!(large.frame().is_empty());
    assert!(large.with_headroom_mut().is_none());
    large.set_start(0);
    assert_eq!(large.packet_len(), 5000);
    assert!(large.append(1).is_none());
    assert!(!large.set_data(&[1]));
    let large = TxBatch::new().push(large).unwrap_err();
    assert_eq!(pool.in_use(), 3);
    drop(large);
    assert_eq!(pool.in_use(), 0);
    let stats = port.stats().unwrap();
    let bytes = packets.iter().map(Vec::len).sum::<usize>();
    assert_eq!((stats.ipackets, stats.ibytes), (41, bytes as u64));
}
