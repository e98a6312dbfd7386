//! Packets of a capture file arrive as they stand there; one too large for a buffer is chained.

mod common;

use std::fs;

use penstock_dpdk::{Burst, Note, PerPacket};

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

/// A packet's first octet and its length.
struct Look;

impl Note for Look {
    type Borrowed<'p> = &'p u8;
    type Kept = usize;
}

#[test]
fn capture_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.pcap");
    let mut packets: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; 60 + usize::from(n)]).collect();
    // Larger than a buffer: chained by the driver.
    packets.insert(19, vec![0xee; 5000]);
    packets.push(vec![0xff; 60]);
    packets.push(vec![0xee; 5000]);
    packets.push(vec![0xff; 61]);
    fs::write(&path, capture(&packets)).unwrap();

    let eal = common::eal();
    let pool = common::pool(&eal, "pcap");
    let device = format!("net_pcap0,rx_pcap={}", path.display());
    let (port, mut rx, _tx) = common::start(&eal, &device, &pool);

    let mut burst = Burst::new();
    while burst.len() < packets.len() {
        assert!(rx.receive(&mut burst, 8) > 0, "{} packets", burst.len());
    }
    assert_eq!(rx.receive(&mut burst, 1), 0, "the capture is over");
    let alike = burst.alike();
    let mut notes = PerPacket::<Look>::new();
    assert_eq!(notes.kept(0), None);
    let seen = notes.fill(&mut burst, |number, mbuf| {
        assert_eq!(mbuf.is_chained(), packets[number].len() >= 2000);
        assert_eq!(mbuf.frame_if(alike).is_none(), mbuf.is_chained());
        let frame = mbuf.frame_if(alike)?;
        let len = frame.len();
        Some((&frame[0], len))
    });
    let whole = |packet: &Vec<u8>| (packet.len() < 2000).then(|| (packet[0], packet.len()));
    let seen = seen
        .iter()
        .map(|note| note.map(|(first, len)| (*first, len)));
    assert!(seen.eq(packets.iter().map(whole)));
    for (mbuf, packet) in burst.iter().zip(&packets) {
        assert!(packet.starts_with(mbuf.frame()));
        assert_eq!(mbuf.is_chained(), mbuf.frame().len() < packet.len());
    }
    burst.clear();
    assert_eq!(pool.in_use(), 0, "the chained ones were freed whole");
    let kept = (0..=packets.len()).map(|at| notes.kept(at).copied());
    let lens = packets
        .iter()
        .map(|packet| whole(packet).map(|(_, len)| len));
    assert!(kept.eq(lens.chain([None])), "what outlives the packets");
    let stats = port.stats().unwrap();
    let bytes = packets.iter().map(Vec::len).sum::<usize>();
    assert_eq!((stats.ipackets, stats.ibytes), (44, bytes as u64));
}
