//! What the kernel gets of a port, and what it sends.

use super::stages::Step;
use super::{Exit, Outgoing, Role, Worker};
use penstock_dpdk::{Burst, Mbuf};
use penstock_relay::{Drop, is_kernels, source_ip};

impl Worker {
    /// Sends what the kernel gave to the exception port of `port`, unchanged.
    #[cold]
    pub(super) fn send_for_kernel(&mut self, port: usize, burst: &mut Burst) {
        let counters = self.table.pin().counters();
        counters.rx.add(burst.len() as u64);
        counters.from_kernel.add(burst.len() as u64);
        // Worker 0, which alone receives from the kernel, has a queue at every port.
        let Some(Exit::Own(tx, Outgoing { batch, .. })) = self.out.exits.get_mut(port) else {
            counters.drops[Drop::TxFull as usize].add(burst.len() as u64);
            return burst.clear();
        };
        let refused = burst
            .drain()
            .filter_map(|mbuf| batch.push(mbuf).err())
            .count();
        let sent = tx.send(batch);
        counters.forwarded.add(sent.sent as u64);
        counters.drops[Drop::TxFull as usize].add((sent.unsent + refused) as u64);
    }
}

impl Step<'_> {
    /// Drops what is not ours, or passes it on to the kernel.
    #[cold]
    pub(super) fn not_ours(&mut self, mbuf: Mbuf, reason: Drop) {
        match self.side.role {
            Role::Media { kernel: Some(exit) }
                if is_kernels(mbuf.frame(), reason, &self.side.locals) =>
            {
                match self.is_too_much(&mbuf) {
                    None => self.send(exit, mbuf, None),
                    Some(reason) => self.drop(mbuf, reason),
                }
            }
            _ => self.drop(mbuf, reason),
        }
    }

    /// Why the kernel does not get a packet of its own. Only who exceeds the limit is ever suspected: a busy SIP proxy is
    /// no flood as long as there is room for it.
    fn is_too_much(&mut self, mbuf: &Mbuf) -> Option<Drop> {
        let (floods, now_ns) = (&mut self.out.kernel_floods, self.now_ns);
        let source = source_ip(mbuf.frame());
        let is_flood = source.is_some_and(|source| floods.is_known(source, now_ns));
        if self.side.limit.take(is_flood, now_ns) {
            return None;
        }
        match source.is_some_and(|source| floods.count(source, now_ns)) {
            true => Some(Drop::Flood),
            false => Some(Drop::KernelLimit),
        }
    }
}
