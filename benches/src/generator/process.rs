//! The generator's process.

use super::Flow;
use super::arrivals::Arrivals;
use super::packets::{Packets, Stamp, filled};
use crate::Failure;
use penstock_dpdk::{
    Burst, Eal, EalConfig, Hugepages, MbufPool, Port, PortConfig, RxQueue, StartedPort, TxQueue,
    hugepages_free_mb, pause, tsc, tsc_hz,
};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Packets sent at once, at most.
const BURST: usize = 32;
/// Packets that it may be late by; those beyond are not offered.
const BEHIND: u64 = 512;
/// After so long without a packet none is under way any more; after so long it is not waited for.
const QUIET_S: f64 = 0.1;
const DRAIN_S: f64 = 2.0;
/// How long the other end may take to be there.
const LINK: Duration = Duration::from_secs(20);
/// Packets an lcore keeps to itself.
const CACHE: u32 = 512;
/// Bytes of memory that a packet takes at most: in ordinary memory a page.
const PACKET: u64 = 4096;
/// Packets that are enough for any port's rings.
const ENOUGH: u64 = 65_535;

impl From<penstock_dpdk::Error> for Failure {
    fn from(error: penstock_dpdk::Error) -> Self {
        Failure::Environment(error.to_string())
    }
}

/// Runs as the process of a generator, by the setup in a file, until its stdin ends.
pub fn run(setup: &Path) -> Result<(), Failure> {
    let setup: Value = serde_json::from_str(&std::fs::read_to_string(setup)?).map_err(bad)?;
    let core = number(&setup, "core") as usize;
    let memory_mb = number(&setup, "memory_mb") as u32;
    let is_free = hugepages_free_mb(None) >= memory_mb.into();
    let eal = Eal::init(&EalConfig {
        main_cpus: vec![core],
        worker_cpus: vec![core],
        memory_mb,
        node_memory_mb: Vec::new(),
        hugepages: if is_free {
            Hugepages::Yes
        } else {
            Hugepages::No
        },
        pci_allow: setup["device"]
            .as_str()
            .filter(|device| !device.starts_with("net_"))
            .map(str::to_owned)
            .into_iter()
            .collect(),
    })?;
    penstock_dpdk::block_rt_signals();
    let stop = Arc::new(AtomicBool::new(false));
    let (port, mut session) = Session::open(&eal, &setup, &stop)?;
    wait_for_link(&port)?;
    say(&json!({ "ready": true }))?;

    let (lines, commands) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
        // Relaxed: nothing but the flag itself is shared.
        stop.store(true, Ordering::Relaxed);
    });
    for command in commands {
        let command: Value = serde_json::from_str(&command).map_err(bad)?;
        let pps = command["pps"].as_f64().unwrap_or(0.0);
        let seconds = command["seconds"].as_f64().unwrap_or(0.0);
        let job = eal.launch(0, move || {
            let answer = session.run(pps, seconds);
            (session, answer)
        })?;
        let answer;
        (session, answer) = job.join();
        say(&answer)?;
    }
    Ok(())
}

fn bad(error: impl std::fmt::Display) -> Failure {
    Failure::Environment(format!("the generator's setup or command: {error}"))
}

fn number(setup: &Value, key: &str) -> u64 {
    setup[key].as_u64().unwrap_or(0)
}

fn say(answer: &Value) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{answer}")?;
    Ok(out.flush()?)
}

fn mac(value: &Value) -> [u8; 6] {
    std::array::from_fn(|at| value[at].as_u64().unwrap_or(0) as u8)
}

fn flows(value: &Value) -> Result<Vec<Flow>, Failure> {
    let address = |value: &Value| -> Result<SocketAddr, Failure> {
        value.as_str().unwrap_or_default().parse().map_err(bad)
    };
    let flow = |value: &Value| {
        Ok(Flow {
            from: address(&value[0])?,
            to: address(&value[1])?,
            arrives_from: address(&value[2])?,
            arrives_at: address(&value[3])?,
        })
    };
    value.as_array().into_iter().flatten().map(flow).collect()
}

fn wait_for_link(port: &StartedPort) -> Result<(), Failure> {
    let end = Instant::now() + LINK;
    while !port.link_up()? {
        if Instant::now() > end {
            let problem = format!("nobody is at the other end of {}", port.name());
            return Err(Failure::Environment(problem));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What sends and receives.
struct Session {
    rx: RxQueue,
    tx: TxQueue,
    /// Buffers of what is sent. Nobody else writes to them, so that each holds the filler for ever.
    pool: MbufPool,
    size: usize,
    packets: Packets,
    arrivals: Arrivals,
    out: Burst,
    heard: Burst,
    offered: u64,
    sent: u64,
    stop: Arc<AtomicBool>,
}

impl Session {
    fn open(
        eal: &Eal,
        setup: &Value,
        stop: &Arc<AtomicBool>,
    ) -> Result<(StartedPort, Session), Failure> {
        let flows = flows(&setup["flows"])?;
        let size = number(setup, "size") as usize;
        let (mac, peer_mac) = (mac(&setup["mac"]), mac(&setup["peer_mac"]));
        let config = PortConfig {
            mac: Some(mac),
            ..PortConfig::default()
        };
        // A quarter is left for the rings themselves, and what drivers need.
        let room = (number(setup, "memory_mb") << 20) / 4 * 3 / PACKET;
        let each = (room / 2).min(ENOUGH) as u32;
        let pool = |name| MbufPool::new(eal, name, each, CACHE, config.data_room(), None);
        let (received, sent) = (pool("received")?, pool("sent")?);
        fill(&sent, size);
        let device = setup["device"].as_str().unwrap_or_default();
        let (port, mut rx, mut tx) = Port::open(eal, device, &config, &received)?.start()?;
        let session = Session {
            rx: rx.remove(0),
            tx: tx.remove(0),
            pool: sent,
            size,
            packets: Packets::new(&flows, [mac, peer_mac], size),
            arrivals: Arrivals::new(&flows, mac, setup["checked"] == true),
            out: Burst::new(),
            heard: Burst::new(),
            offered: 0,
            sent: 0,
            stop: Arc::clone(stop),
        };
        Ok((port, session))
    }

    fn run(&mut self, pps: f64, seconds: f64) -> Value {
        let hz = tsc_hz() as f64;
        self.discard();
        (self.offered, self.sent) = (0, 0);
        let start = tsc();
        self.arrivals.begin(&self.packets, start);
        let mut pace = Pace::new(start, pps / hz);
        let end = start + (seconds * hz) as u64;
        let mut now = start;
        while now < end && !self.is_stopped() {
            match pace.due(now) {
                0 => pause(),
                count => self.offer(count, now),
            }
            self.take();
            now = tsc();
        }
        let sending_s = (now - start) as f64 / hz;
        self.drain(now, hz);
        let counts = self.arrivals.counts();
        let us = |part| self.arrivals.latency().quantile(part) as f64 / hz * 1e6;
        json!({
            "seconds": sending_s, "offered": self.offered, "sent": self.sent, "received": counts.received,
            "out_of_order": counts.out_of_order, "repeated": counts.repeated, "wrong": counts.wrong,
            "median_us": us(0.5), "p99_us": us(0.99), "p999_us": us(0.999),
        })
    }

    fn is_stopped(&self) -> bool {
        // Relaxed: nothing but the flag itself is shared.
        self.stop.load(Ordering::Relaxed)
    }

    /// What has waited since the last run.
    fn discard(&mut self) {
        let end = Instant::now() + Duration::from_secs_f64(DRAIN_S);
        while self.rx.receive(&mut self.heard, Burst::CAPACITY) > 0 && Instant::now() < end {
            self.heard.clear();
        }
        self.heard.clear();
    }

    #[inline(always)]
    fn offer(&mut self, count: usize, now: u64) {
        self.offered += count as u64;
        if !self.pool.alloc_burst(&mut self.out, count) {
            // The device holds them all: it would not have taken these either.
            self.packets.skip(count);
            return;
        }
        let stamp = Stamp::new(now);
        for mbuf in self.out.iter_mut() {
            if let Some(frame) = mbuf.append(self.size) {
                self.packets.write(frame, stamp);
            }
        }
        self.sent += self.tx.send_burst(&mut self.out).sent as u64;
    }

    #[inline(always)]
    fn take(&mut self) -> usize {
        let count = self.rx.receive(&mut self.heard, Burst::CAPACITY);
        if count > 0 {
            let now = tsc();
            for mbuf in self.heard.iter() {
                self.arrivals.take(mbuf.frame(), now, &self.packets);
            }
            self.heard.clear();
        }
        count
    }

    /// Takes what is still under way.
    fn drain(&mut self, from: u64, hz: f64) {
        let ticks = |seconds: f64| (seconds * hz) as u64;
        let end = from + ticks(DRAIN_S);
        let mut last = from;
        let mut now = from;
        while self.arrivals.counts().received < self.sent
            && now < end.min(last + ticks(QUIET_S))
            && !self.is_stopped()
        {
            let count = self.take();
            now = tsc();
            if count > 0 {
                last = now;
            }
        }
    }
}

/// Writes the filler into every buffer of the pool.
fn fill(pool: &MbufPool, size: usize) {
    let frame = filled(size);
    let mut all = Vec::new();
    while let Some(mut mbuf) = pool.alloc() {
        if !mbuf.set_data(&frame) {
            return;
        }
        all.push(mbuf);
    }
}

/// How many packets are due.
struct Pace {
    start: u64,
    per_tick: f64,
    /// Packets that were offered, or that it came too late for.
    done: u64,
}

impl Pace {
    fn new(start: u64, per_tick: f64) -> Pace {
        Pace {
            start,
            per_tick: per_tick.min(1.0),
            done: 0,
        }
    }

    #[inline(always)]
    fn due(&mut self, now: u64) -> usize {
        let due = ((now - self.start) as f64 * self.per_tick) as u64;
        let behind = due.saturating_sub(self.done);
        if behind > BEHIND {
            self.done = due - BEHIND;
        }
        let count = behind.min(BURST as u64);
        self.done += count;
        count as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_held_and_a_stall_is_no_flood() {
        let mut pace = Pace::new(1000, 0.01);
        let offered: usize = (1000..101_000).map(|now| pace.due(now)).sum();
        assert_eq!(offered, 999, "100000 ticks less one");
        // A million ticks late: what it may be late by, in bursts, and no more.
        let late: Vec<usize> = (0..100).map(|_| pace.due(1_101_000)).collect();
        assert_eq!(late.iter().max(), Some(&BURST));
        assert_eq!(late.iter().sum::<usize>() as u64, BEHIND);
    }

    #[test]
    fn without_a_limit_a_burst_is_always_due() {
        let mut pace = Pace::new(0, f64::MAX);
        assert!((1..1000).all(|turn| pace.due(turn * 50) == BURST));
        let mut pace = Pace::new(0, 0.0);
        assert!((1..1000).all(|turn| pace.due(turn * 50) == 0));
    }
}
