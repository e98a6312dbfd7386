//! The plane's side of the region without workers: it applies commands to the table.

use penstock_shm::record::link;
use penstock_shm::{
    AddressEntry, Attached, Command, Endpoint, Event, Feed, Feeding, Op, Plane, PlaneParts,
    Refusal, RegionConfig, Slot, StreamSpec, TableWriter, flag, monotonic_ns,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

type Task = Box<dyn FnOnce(&mut TableWriter) + Send>;

/// What the test may change while the plane runs.
#[derive(Default)]
struct Knobs {
    stop: AtomicBool,
    refuse: AtomicBool,
    hang: AtomicBool,
    freeze: AtomicBool,
    commands: AtomicU64,
}

pub struct TestPlane {
    knobs: Arc<Knobs>,
    tasks: mpsc::Sender<Task>,
    thread: Option<JoinHandle<()>>,
    pub resumed: bool,
    pub set_aside: bool,
}

impl TestPlane {
    pub fn start(dir: &Path) -> TestPlane {
        TestPlane::start_at(dir, &[[198, 18, 0, 1].into()])
    }

    /// With these local addresses, numbered in this order.
    pub fn start_at(dir: &Path, addresses: &[IpAddr]) -> TestPlane {
        let config = RegionConfig {
            dir: dir.into(),
            table_dir: None,
            streams: 4096,
            group: None,
        };
        let plane = Plane::open(&config).unwrap();
        let resumed = matches!(plane.attached(), Attached::Resumed { .. });
        let set_aside = matches!(plane.attached(), Attached::SetAside { .. });
        // One worker, and the steward's counters.
        let mut parts = plane.split(2);
        let entry = |&ip: &IpAddr| AddressEntry {
            ip,
            vlan: 0,
            port: 0,
            mtu: 1500,
        };
        let entries: Vec<AddressEntry> = addresses.iter().map(entry).collect();
        parts.table.set_addresses(&entries).unwrap();
        parts.pulse.start();
        let knobs: Arc<Knobs> = Arc::default();
        let (tasks, inbox) = mpsc::channel();
        let mine = knobs.clone();
        let thread = std::thread::spawn(move || steward(parts, &mine, &inbox));
        TestPlane {
            knobs,
            tasks,
            thread: Some(thread),
            resumed,
            set_aside,
        }
    }

    /// As after SIGKILL: the lock goes, the files stay.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.knobs.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            // A test that fails already is not to abort.
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }

    pub fn refuse(&self, refuse: bool) {
        self.knobs.refuse.store(refuse, Ordering::Relaxed);
    }

    /// Takes no commands, but lives.
    pub fn hang(&self, hang: bool) {
        self.knobs.hang.store(hang, Ordering::Relaxed);
    }

    /// As after SIGSTOP: its lock is held, its heart does not beat.
    pub fn freeze(&self, freeze: bool) {
        self.knobs.freeze.store(freeze, Ordering::Relaxed);
    }

    /// Commands that held more than acknowledgements.
    pub fn commands(&self) -> u64 {
        self.knobs.commands.load(Ordering::Relaxed)
    }

    pub fn with<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut TableWriter) -> T + Send + 'static,
    ) -> T {
        let (send, receive) = mpsc::channel();
        self.tasks
            .send(Box::new(move |table| drop(send.send(f(table)))))
            .unwrap();
        receive.recv().unwrap()
    }

    /// Live streams: port -> remote.
    pub fn streams(&self) -> BTreeMap<u16, Option<SocketAddr>> {
        self.with(|table| {
            let live: Vec<_> = table.live().collect();
            let port =
                |no: u32| Endpoint::from_bits(table.head(no).endpoint.load(Ordering::Relaxed)).port;
            live.into_iter()
                .map(|no| (port(no), table.slot(no).remote()))
                .collect()
        })
    }

    /// The slot of the stream at `port`.
    pub fn slot(&self, port: u16) -> Slot {
        self.with(move |table| {
            let no = table.find(Endpoint { addr: 0, port }).expect("a stream");
            table.slot(no)
        })
    }

    pub fn ended(&self) -> u32 {
        self.with(|table| table.counts().ended)
    }

    /// As if packets had passed at `port`.
    pub fn feed(&self, port: u16, packets: u64) {
        assert!(self.try_feed(port, packets), "no stream at {port}");
    }

    /// The same, but false if there is no stream.
    pub fn try_feed(&self, port: u16, packets: u64) -> bool {
        self.with(move |table| {
            let Some(no) = table.find(Endpoint { addr: 0, port }) else {
                return false;
            };
            let meter = &table.tally(no).meter;
            meter.packets.add(packets);
            meter.bytes.add(packets * 172);
            meter.last_seen_ns.set(monotonic_ns());
            true
        })
    }

    /// As if the stream had learned its source.
    pub fn latch(&self, port: u16, remote: SocketAddr) {
        self.with(move |table| {
            let no = table.find(Endpoint { addr: 0, port }).expect("a stream");
            let mut slot = table.slot(no);
            slot.flags |= flag::LATCHED | flag::LOCKED | flag::REMOTE;
            set_remote(&mut slot, remote);
            table.update(no, &slot).unwrap();
        });
    }
}

impl Drop for TestPlane {
    fn drop(&mut self) {
        self.end();
    }
}

fn steward(mut parts: PlaneParts, knobs: &Knobs, inbox: &mpsc::Receiver<Task>) {
    while !knobs.stop.load(Ordering::Relaxed) {
        let is_frozen = knobs.freeze.load(Ordering::Relaxed);
        if !is_frozen {
            parts.pulse.beat(monotonic_ns());
        }
        while let Ok(task) = inbox.try_recv() {
            task(&mut parts.table);
        }
        if is_frozen || knobs.hang.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        // The one worker takes no packets: it only has to pass quiescent points. It counts as if it
        // handed some to the steward.
        for worker in &mut parts.workers {
            worker.pin();
            worker.offline();
            worker.counters().rx.add(1);
        }
        while let Some(command) = parts.commands.next() {
            let seq = match command {
                Ok(command) => {
                    if !command
                        .ops
                        .iter()
                        .all(|op| matches!(op, Op::Acknowledge { .. }))
                    {
                        knobs.commands.fetch_add(1, Ordering::Relaxed);
                    }
                    if let Err((reason, endpoint)) = apply(&mut parts.table, &command, knobs) {
                        let seq = command.seq;
                        assert!(parts.events.push(Event::Refused {
                            seq,
                            reason,
                            endpoint
                        }));
                    }
                    command.seq
                }
                Err(bad) => panic!("{bad}"),
            };
            parts.commands.applied(seq);
        }
        parts.bell.wait(|| false, &[], Duration::from_millis(5));
    }
}

fn apply(
    table: &mut TableWriter,
    command: &Command,
    knobs: &Knobs,
) -> Result<(), (Refusal, Endpoint)> {
    let now = monotonic_ns();
    for (at, op) in command.ops.iter().enumerate() {
        match op {
            Op::Set(spec) => {
                if knobs.refuse.load(Ordering::Relaxed) {
                    return Err((Refusal::NoRoute, spec.endpoint));
                }
                let no = table
                    .insert(spec.endpoint, command.call, now)
                    .map_err(|_| (Refusal::TableFull, spec.endpoint))?;
                let slot = slot_of(table, spec, &table.slot(no));
                let ice = match command.ops.get(at + 1) {
                    Some(Op::Ice { ice, .. }) => Some(ice),
                    _ => None,
                };
                table.update_with(no, &slot, ice).unwrap();
            }
            Op::Feed(feeding) => {
                if let Some(no) = table.find(feeding.endpoint) {
                    let slot = fed(feeding, table.slot(no));
                    table.update(no, &slot).unwrap();
                }
            }
            Op::Ice { .. } => {}
            Op::Move { endpoint, from } => {
                if let Some(no) = table.find(*endpoint) {
                    let call = &table.head(no).call;
                    if call.load(Ordering::Relaxed) == *from {
                        call.store(command.call, Ordering::Relaxed);
                    }
                }
            }
            Op::Remove(endpoint) => {
                if let Some(no) = table.find(*endpoint) {
                    assert!(table.remove(no, now));
                }
            }
            Op::Acknowledge { number, generation } => {
                table.acknowledge(*number, *generation);
            }
        }
    }
    Ok(())
}

fn fed(feeding: &Feeding, mut slot: Slot) -> Slot {
    slot.links = match feeding.feed {
        Feed::Own => 0,
        Feed::CopyOf(_) => link::COPY,
        Feed::PartOf(_) => link::PART,
        Feed::AltOf(_) => link::ALT,
    };
    if feeding.drop_events {
        slot.links |= link::DROP_EVENTS;
    }
    if feeding.pierce {
        slot.links |= link::PIERCE;
    }
    if let Some(parent) = feeding.feed.parent() {
        (slot.parent_addr, slot.parent_port) = (parent.addr as u8, parent.port);
    }
    if let Some(mid) = feeding.mid {
        (slot.mid_extension, slot.mid) = (mid.extension, mid.name);
    }
    slot
}

fn slot_of(table: &TableWriter, spec: &StreamSpec, old: &Slot) -> Slot {
    // A latch stays until the leg signals anew.
    let mut slot = match old.signal == spec.signal {
        true => *old,
        false => Slot::CLOSED,
    };
    // What an op that follows says.
    slot.links = 0;
    slot.flags &= !flag::GATE_OPEN;
    if spec.gate_open {
        slot.flags |= flag::GATE_OPEN;
    }
    if let Some(remote) = spec.remote.filter(|_| slot.flags & flag::LATCHED == 0) {
        slot.flags |= flag::REMOTE;
        set_remote(&mut slot, remote);
    }
    slot.peer = table.find(spec.peer).unwrap_or(u32::MAX);
    slot.peer_endpoint = spec.peer.to_bits();
    slot.signal = spec.signal;
    (slot.leg, slot.media) = (spec.leg, spec.media);
    (slot.kind, slot.learn) = (spec.kind as u8, spec.learn as u8);
    slot.clock_hz = spec.clock_hz;
    slot.dscp = spec.dscp.to_u8();
    for (bit, is_set) in [
        (flag::HANDOVER, spec.handover),
        (flag::STRICT_PAYLOAD, spec.strict_payload),
        (flag::SECURE, spec.secure),
    ] {
        slot.flags = if is_set {
            slot.flags | bit
        } else {
            slot.flags & !bit
        };
    }
    slot.payload_types = [spec.payload_types as u64, (spec.payload_types >> 64) as u64];
    (slot.hint, slot.event_type) = (spec.hint, spec.event_type);
    (slot.accept, slot.police) = (spec.accept, spec.police);
    slot
}

fn set_remote(slot: &mut Slot, remote: SocketAddr) {
    slot.remote_port = remote.port().to_be_bytes();
    match remote.ip() {
        IpAddr::V4(ip) => slot.remote_v4 = ip.octets(),
        IpAddr::V6(ip) => slot.remote_v6 = ip.octets(),
    }
}
