//! The first stage over one burst: `look`.

use super::PortSide;
use arrayvec::ArrayVec;
use penstock_dpdk::{Burst, Checksum, Note, PerPacket};
use penstock_relay::usual::{LastAddress, Mac, Rest, Usual};
use penstock_shm::{Entry, Pinned};
use std::marker::PhantomData;

/// A usual packet and its stream.
pub(super) type Look<'p, 't> = (Usual<'p>, Entry<'t>);

/// The looks at a burst: the streams are known still when it is sent.
pub(super) struct Looks<'t>(PhantomData<&'t ()>);

impl<'t> Note for Looks<'t> {
    type Borrowed<'p> = Usual<'p>;
    type Kept = Entry<'t>;
}

/// What the looks at a burst's IPv6 packets have besides: [`Rest`]s.
pub(super) struct Sixes<R> {
    /// Which packets: a bit for each.
    which: u64,
    /// Theirs, in order.
    rests: ArrayVec<R, { Burst::CAPACITY }>,
}

impl<R> Sixes<R> {
    /// None yet.
    #[inline(always)]
    pub(super) fn new() -> Sixes<R> {
        Sixes {
            which: 0,
            rests: ArrayVec::new(),
        }
    }

    /// That of a packet behind the last one's.
    fn push(&mut self, packet: usize, rest: R) {
        self.which |= 1 << packet;
        self.rests.push(rest);
    }

    /// How many packets from this one on are of its IP version, as far as there are any; and their rests if that is 6.
    pub(super) fn from(&mut self, packet: usize) -> (usize, Option<&mut [R]>) {
        let later = self.which >> packet;
        if later & 1 == 0 {
            return (later.trailing_zeros() as usize, None);
        }
        let before = self.which ^ later << packet;
        let rests = self.rests.get_mut(before.count_ones() as usize..);
        (later.trailing_ones() as usize, rests)
    }
}

/// The first stage: which packets are usual ones, and of which streams. Asks for the packets' first lines, some
/// packets ahead, and for the slots and meters.
/// `NIC_CHECKS` says that the port's NIC checks IPv4 headers.
#[inline(never)]
pub(super) fn look<'l, 'p, 't, const NIC_CHECKS: bool>(
    burst: &'p mut Burst,
    side: &PortSide,
    view: &Pinned<'t>,
    looks: &'l mut PerPacket<Looks<'t>>,
    sixes: &mut Sixes<Rest<'p>>,
) -> &'l mut [Option<Look<'p, 't>>] {
    let mac = Mac::new(side.mac);
    let alike = burst.alike();
    let mut last = LastAddress::NONE;
    looks.fill(burst, |number, mbuf| {
        let checksum = if NIC_CHECKS {
            mbuf.rx_ip_checksum()
        } else {
            Checksum::Unknown
        };
        if checksum == Checksum::Bad {
            return None;
        }
        let ip_checked = checksum == Checksum::Good;
        let frame = mbuf.frame_if(alike)?;
        match Usual::of4(frame, mac, &side.locals, &mut last, ip_checked) {
            Ok((packet, endpoint)) => {
                let entry = view.entry_at(endpoint)?;
                entry.prefetch();
                Some((packet, entry))
            }
            Err(frame) => {
                let (packet, rest, endpoint) = Usual::of6(frame, mac, &side.locals, &mut last)?;
                let entry = view.entry_at(endpoint)?;
                entry.prefetch6();
                sixes.push(number, rest);
                Some((packet, entry))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::Sixes;

    /// Each packet asked for alone and in any order: its version, how far that goes on, and its own rest.
    #[test]
    fn a_packet_finds_its_rest() {
        let patterns: [fn(usize) -> bool; 8] = [
            |_| false,
            |_| true,
            |i| i % 2 == 0,
            |i| i % 2 == 1,
            |i| i == 63,
            |i| i == 0,
            |i| i % 7 < 3,
            |i| (20..40).contains(&i),
        ];
        for is_six in patterns {
            let mut sixes = Sixes::new();
            (0..64)
                .filter(|&i| is_six(i))
                .for_each(|i| sixes.push(i, i));
            for i in (0..64).chain([40, 40, 7, 0]) {
                let alike = (i..64).take_while(|&j| is_six(j) == is_six(i)).count();
                let (found, rests) = sixes.from(i);
                assert_eq!(rests.is_some(), is_six(i), "{i}");
                // What is not six goes on beyond the burst.
                assert!(
                    found == alike || !is_six(i) && i + alike == 64,
                    "{i}: {found}"
                );
                let own = rests.map(|rests| rests[..alike].to_vec());
                assert_eq!(own, is_six(i).then(|| (i..i + alike).collect()), "{i}");
            }
        }
    }
}
