//! Policing: what keeps to its profile passes untouched, a flood from the right source is cut to it and counted, and
//! nobody else notices.

use penstock_e2e::region::{Totals, endpoint, stream};
use penstock_e2e::{Lab, Phone, lab, local, meanwhile, phone_at, wait_for};
use penstock_shm::counters::Drop;
use penstock_shm::{Op, StreamSpec, StreamStat, TableView};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Of the first profile, which counts packets.
const PACKETS_PER_S: u64 = 100;
const PACKETS_BURST: u64 = 50;
/// Of the second, which counts octets.
const BYTES_PER_S: u64 = 20_000;
const BYTES_BURST: u64 = 10_000;
/// Octets of UDP payload of a phone's packet.
const BYTES: u64 = 172;
const FLOOD: u16 = 3000;

/// A call's two phones and their streams, policed by the profile of this number.
struct Call {
    phones: [Phone; 2],
    at: [SocketAddr; 2],
}

impl Call {
    fn new(lab: &Lab, n: u16, police: u8) -> (Call, Vec<Op>) {
        let table = lab.table();
        let at = [0, 2].map(|side| local(20_000 + 4 * n + side));
        let phones = [0u16, 1].map(|side| {
            Phone::new(
                lab,
                phone_at(4000 + 4 * n + 2 * side),
                u32::from(2 * n + side),
            )
        });
        let ends = at.map(|at| endpoint(&table, at, 0));
        let spec = |side: usize| StreamSpec {
            remote: Some(phones[side].at()),
            signal: 1,
            clock_hz: 8000,
            police,
            ..StreamSpec::new(ends[side], ends[1 - side])
        };
        let ops = vec![Op::Set(spec(0)), Op::Set(spec(1))];
        (Call { phones, at }, ops)
    }

    fn talk(&mut self) {
        for (phone, at) in self.phones.iter_mut().zip(self.at) {
            phone.talk(at);
            phone.listen();
        }
    }

    /// Both heard all that the other said.
    fn is_whole(&mut self) {
        let [a, b] = &mut self.phones;
        b.heard_all(a.ssrc(), 1, a.sent());
        a.heard_all(b.ssrc(), 1, b.sent());
    }

    fn stat(&self, table: &TableView) -> StreamStat {
        stream(table, self.at[0]).expect("the stream")
    }
}

fn dropped(stat: &StreamStat, reason: Drop) -> u64 {
    stat.drops[reason.stream_index().expect("a reason of streams")].into()
}

#[test]
fn a_flood_is_cut_to_the_profile() {
    let lab = lab!("policing");
    lab.edit(
        "[control]\n",
        &format!(
            "[[police]]\nnumber = 1\nmedia = \"audio\"\npackets_per_s = {PACKETS_PER_S}\npackets_burst = {PACKETS_BURST}\n\
             [[police]]\nnumber = 2\nmedia = \"video\"\nbytes_per_s = {BYTES_PER_S}\nbytes_burst = {BYTES_BURST}\n[control]\n"
        ),
    );
    let _plane = lab.plane();
    // The kernel's end of the tap is not what is to drop the flood.
    lab.run("ip", &["link", "set", "ps0", "txqueuelen", "20000"]);
    let table = lab.table();
    let (mut by_packets, first) = Call::new(&lab, 0, 1);
    let (mut by_octets, second) = Call::new(&lab, 1, 2);
    let (mut alike, third) = Call::new(&lab, 2, 1);
    let (mut free, fourth) = Call::new(&lab, 3, 0);
    lab.install(1, &[first, second, third, fourth].concat());

    // 50 a second is within every profile.
    for _ in 0..50 {
        for call in [&mut by_packets, &mut by_octets, &mut alike, &mut free] {
            call.talk();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for call in [&mut by_packets, &mut by_octets, &mut alike, &mut free] {
        call.is_whole();
    }
    let before = lab.balanced();
    assert_eq!(
        before.dropped(Drop::PolicePackets) + before.dropped(Drop::PoliceBytes),
        0,
        "{before:?}"
    );

    let start = Instant::now();
    let talk = || {
        [&mut alike, &mut free].into_iter().for_each(Call::talk);
        std::thread::sleep(Duration::from_millis(20));
    };
    meanwhile(talk, || {
        for call in [&mut by_packets, &mut by_octets] {
            (0..FLOOD).for_each(|_| call.phones[0].talk(call.at[0]));
        }
        let sent = u64::from(FLOOD) + 50;
        let judged = |call: &Call| {
            let meter = call.stat(&table).meter;
            meter.packets + u64::from(meter.dropped) == sent
        };
        let all = wait_for(Duration::from_secs(20), || {
            judged(&by_packets) && judged(&by_octets)
        });
        assert!(all, "{:?}", by_packets.stat(&table));
    });
    let seconds = start.elapsed().as_secs_f64();
    alike.is_whole();
    free.is_whole();
    let after = lab.balanced();

    // The bucket was full; half as much again may pass at once.
    let most = |per_s: u64, burst: u64| burst + burst / 2 + (seconds * per_s as f64) as u64 + 2;
    for (call, reason, least, most) in [
        (
            &mut by_packets,
            Drop::PolicePackets,
            PACKETS_BURST,
            most(PACKETS_PER_S, PACKETS_BURST),
        ),
        (
            &mut by_octets,
            Drop::PoliceBytes,
            BYTES_BURST / BYTES,
            most(BYTES_PER_S, BYTES_BURST) / BYTES + 1,
        ),
    ] {
        let stat = call.stat(&table);
        let passed = stat.meter.packets - 50;
        assert!(
            (least * 7 / 8..=most).contains(&passed),
            "{reason:?}: {passed} in {seconds} s"
        );
        let cut = u64::from(FLOOD) - passed;
        assert_eq!(
            (dropped(&stat, reason), u64::from(stat.meter.dropped)),
            (cut, cut),
            "{stat:?}"
        );
        assert_eq!(after.dropped(reason), cut, "{after:?}");
        // What passed arrived, and the other direction was let be.
        let [caller, callee] = &mut call.phones;
        let heard = callee.listen();
        assert_eq!(heard.rtp[&caller.ssrc()].len() as u64, passed + 50);
        caller.heard_all(callee.ssrc(), 1, callee.sent());
    }
    // The hosts' kernels may have said something, too, that is no stream's.
    let of_streams = |totals: &Totals| -> u64 {
        let all = Drop::OF_STREAM.iter();
        all.map(|reason| totals.dropped(*reason)).sum()
    };
    assert_eq!(
        of_streams(&after) - of_streams(&before),
        after.dropped(Drop::PolicePackets) + after.dropped(Drop::PoliceBytes)
    );
}
