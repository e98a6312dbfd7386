//! Both rings and both doorbells, from control's push to the plane's answer; and hostile bytes.
#![cfg(not(loom))]

mod common;

use common::{Random, config, endpoint, spec, temp_dir};
use penstock_shm::{
    Command, Control, ControlParts, Dscp, Endpoint, Event, Feed, Feeding, Ice, Kind, Learn,
    MAX_OPS, Mid, Op, Plane, PlaneParts, PushError, Refusal, RegionConfig, StreamSpec,
};
use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

fn both(config: &RegionConfig) -> (PlaneParts, ControlParts) {
    let plane = Plane::open(config).unwrap().split(1);
    (plane, Control::attach(&config.dir).unwrap().split())
}

fn an_endpoint() -> impl Strategy<Value = Endpoint> {
    (0..64u16, any::<u16>()).prop_map(|(addr, port)| Endpoint { addr, port })
}

fn a_spec() -> impl Strategy<Value = StreamSpec> {
    let remote = prop::option::of(prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
    ]);
    let kind = prop::sample::select(vec![Kind::Rtp, Kind::Rtcp, Kind::Raw]);
    let learn = (0..5u8).prop_map(|n| Learn::from_u8(n).unwrap());
    let dscp = (0..66u8).prop_map(|n| Dscp::from_u8(n).unwrap());
    let flags = any::<[bool; 5]>();
    let numbers = (0..=1_000_000u32, 0..128u8, 0..8u8, 0..16u8);
    let words = (
        any::<u32>(),
        any::<u32>(),
        any::<u128>(),
        any::<u16>(),
        any::<u8>(),
    );
    let rest = (learn, dscp, flags, numbers, words);
    (an_endpoint(), an_endpoint(), remote, kind, rest).prop_map(
        |(endpoint, peer, remote, kind, (learn, dscp, flags, numbers, words))| {
            let [handover, gate_open, strict_payload, secure, capture] = flags;
            let (clock_hz, event_type, accept, police) = numbers;
            let (hint, signal, payload_types, leg, media) = words;
            StreamSpec {
                endpoint,
                peer,
                remote,
                kind,
                learn,
                handover,
                hint,
                gate_open,
                signal,
                clock_hz,
                payload_types,
                strict_payload,
                event_type,
                accept,
                secure,
                police,
                capture,
                dscp,
                leg,
                media,
                ..StreamSpec::new(endpoint, peer)
            }
        },
    )
}

fn a_feeding() -> impl Strategy<Value = Feeding> {
    let mid = (1..=255u8, "[!-~]{1,8}").prop_map(|(extension, text)| {
        let mut name = [0; 8];
        name[..text.len()].copy_from_slice(text.as_bytes());
        Mid { extension, name }
    });
    let flags = (0..3u8, any::<(bool, bool)>(), prop::option::of(mid));
    (an_endpoint(), an_endpoint(), flags).prop_map(
        |(endpoint, parent, (feed, (drop_events, pierce), mid))| {
            let feed = match feed {
                1 if parent != endpoint => Feed::CopyOf(parent),
                2 if parent != endpoint => Feed::PartOf(parent),
                _ => Feed::Own,
            };
            Feeding {
                endpoint,
                feed,
                mid,
                drop_events,
                pierce,
            }
        },
    )
}

fn an_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        a_spec().prop_map(Op::Set),
        a_feeding().prop_map(Op::Feed),
        an_endpoint().prop_map(Op::Remove),
        (an_endpoint(), any::<u64>()).prop_map(|(endpoint, from)| Op::Move { endpoint, from }),
        (an_endpoint(), "[a-zA-Z0-9+/]{32}").prop_map(|(endpoint, chars)| {
            let (ufrag, pwd) = chars.as_bytes().split_at(8);
            let [ufrag, pwd] = [ufrag.to_vec(), pwd.to_vec()];
            let ice = Ice {
                ufrag: ufrag.try_into().unwrap(),
                pwd: pwd.try_into().unwrap(),
            };
            Op::Ice { endpoint, ice }
        }),
        any::<(u32, u32)>().prop_map(|(number, generation)| Op::Acknowledge { number, generation }),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Push(u64, Vec<Op>),
    Take,
    Apply,
    RestartPlane,
    RestartControl,
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u64>(), prop::collection::vec(an_op(), 0..5)).prop_map(|(call, ops)| Step::Push(call, ops)),
        1 => (any::<u64>(), an_op()).prop_map(|(call, op)| Step::Push(call, vec![op; MAX_OPS])),
        6 => Just(Step::Take),
        3 => Just(Step::Apply),
        1 => Just(Step::RestartPlane),
        1 => Just(Step::RestartControl),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    /// Commands come out as they went in, in order; what was not applied comes again after a restart.
    #[test]
    fn the_command_ring_is_a_queue(steps in prop::collection::vec(a_step(), 1..80)) {
        let dir = temp_dir();
        let config = config(&dir, 4);
        let (plane, control) = both(&config);
        let (mut plane, mut control) = (Some(plane), Some(control));
        let mut waiting: VecDeque<Command> = VecDeque::new();
        let (mut taken, mut used, mut last) = (0, 0, 0);
        for step in steps {
            let commands = &mut plane.as_mut().unwrap().commands;
            match step {
                Step::Push(call, ops) => match control.as_mut().unwrap().commands.push(call, &ops) {
                    Ok(seq) => {
                        used += 1 + ops.len();
                        last += 1 + ops.len() as u64;
                        prop_assert_eq!(seq, last);
                        waiting.push_back(Command { seq, call, ops });
                    }
                    Err(error) => {
                        prop_assert_eq!(error, PushError::Full);
                        prop_assert!(used + 1 + ops.len() > 8192);
                    }
                },
                Step::Take => {
                    let expected = waiting.get(taken).cloned().map(Ok);
                    taken += usize::from(expected.is_some());
                    prop_assert_eq!(commands.next(), expected);
                }
                Step::Apply => if let Some(command) = taken.checked_sub(1).map(|n| &waiting[n]) {
                    commands.applied(command.seq);
                    prop_assert_eq!(control.as_ref().unwrap().applied.get(), command.seq);
                    used -= waiting.drain(..taken).map(|c| 1 + c.ops.len()).sum::<usize>();
                    taken = 0;
                },
                Step::RestartPlane => {
                    drop(plane.take());
                    plane = Some(Plane::open(&config).unwrap().split(1));
                    taken = 0;
                }
                Step::RestartControl => {
                    drop(control.take());
                    let parts = Control::attach(&config.dir).unwrap().split();
                    prop_assert_eq!(parts.commands.last_pushed(), last);
                    control = Some(parts);
                }
            }
        }
    }

    /// Whatever another process writes into the rings, neither side panics, and each goes on.
    #[test]
    fn hostile_bytes_end_in_errors(seed in any::<u64>(), claim in 0..9000u64, near in any::<bool>()) {
        let dir = temp_dir();
        let config = config(&dir, 4);
        let (mut plane, mut control) = both(&config);
        let file = OpenOptions::new().write(true).open(config.dir.join("rings")).unwrap();
        let mut random = Random(seed);
        let mut bytes = vec![0u8; (8192 + 4096) * 64];
        for slot in bytes.chunks_exact_mut(64) {
            slot.fill_with(|| random.next() as u8);
            if near {
                // Close to what is valid: a small tag and mostly zeros.
                slot[0] %= 4;
                slot[17..].fill_with(|| if random.below(40) == 0 { random.next() as u8 } else { 0 });
            }
        }
        // A first header that reaches the body, so that ops are decoded.
        let count = claim.min(MAX_OPS as u64 + 1);
        bytes[..64].fill(0);
        bytes[..8].copy_from_slice(&(count + 1).to_le_bytes());
        bytes[16..18].copy_from_slice(&(count as u16).to_le_bytes());
        file.write_all_at(&bytes, 448).unwrap();
        for head in [64, 192] {
            file.write_all_at(&claim.to_le_bytes(), head).unwrap();
        }
        let mut commands = 0;
        while let Some(command) = plane.commands.next() {
            commands += 1;
            prop_assert!(commands <= 8192);
            if let Ok(command) = &command {
                prop_assert!(command.ops.len() <= MAX_OPS);
            }
            plane.commands.applied(command.map_or_else(|bad| bad.seq, |good| good.seq));
        }
        let mut events = 0;
        while control.events.next().is_some() {
            events += 1;
            prop_assert!(events <= 4096);
        }
        // Control's own head overrules what was written over it; the plane follows.
        let mut last = 0;
        for n in 0..3 {
            last = control.commands.push(n, &[Op::Set(spec(endpoint(0, 4000), n as u32))]).unwrap_or(last);
        }
        while let Some(command) = plane.commands.next() {
            plane.commands.applied(command.map_or_else(|bad| bad.seq, |good| good.seq));
        }
        prop_assert_eq!(control.applied.get(), control.commands.last_pushed());
    }
}

#[test]
fn events_come_out_as_they_went_in_and_none_is_dropped() {
    let dir = temp_dir();
    let (mut plane, mut control) = both(&config(&dir, 4));
    let refused = |seq: u64| Event::Refused {
        seq,
        reason: Refusal::ALL[seq as usize % Refusal::ALL.len()],
        endpoint: endpoint(3, 5),
    };
    let latched = |signal, remote: &str| Event::Latched {
        endpoint: endpoint(1, 2),
        remote: remote.parse().unwrap(),
        signal,
    };
    let event = |n: u64| match n % 3 {
        0 => refused(n),
        1 => latched(n as u32, "192.0.2.1:9"),
        _ => latched(n as u32, "[2001:db8::1]:65535"),
    };
    assert_eq!(plane.events.room(), 4096);
    for n in 0..4096 {
        assert!(plane.events.push(event(n)));
    }
    assert!(!plane.events.push(event(4096)), "full");
    // A command waits until its refusals have room.
    control.commands.push(1, &[]).unwrap();
    assert_eq!(plane.commands.next(), None);
    for n in 0..4096 {
        assert_eq!(control.events.next(), Some(Ok(event(n))));
        assert_eq!(plane.commands.next().is_some(), n + 1 == MAX_OPS as u64);
    }
    assert_eq!(control.events.next(), None);
    assert!(plane.events.push(event(1)));
}

#[test]
fn too_large_a_command_is_refused_whole() {
    let dir = temp_dir();
    let (mut plane, mut control) = both(&config(&dir, 4));
    let ops = vec![Op::Remove(endpoint(0, 1)); MAX_OPS + 1];
    assert_eq!(control.commands.push(1, &ops), Err(PushError::TooLarge));
    assert_eq!(plane.commands.next(), None);
    assert_eq!(control.commands.push(1, &ops[1..]), Ok(MAX_OPS as u64 + 1));
}

/// A time that no sleep in these tests comes near unless its bell is lost.
const LOST: Duration = Duration::from_secs(20);

#[test]
fn the_bells_end_every_sleep() {
    let dir = temp_dir();
    let (mut plane, mut control) = both(&config(&dir, 4));
    let rounds = 2000;
    let steward = std::thread::spawn(move || {
        let mut seen = 0;
        while seen < rounds {
            let start = Instant::now();
            plane.bell.wait(|| false, &[], LOST);
            assert!(start.elapsed() < LOST, "the steward missed its bell");
            while let Some(command) = plane.commands.next() {
                seen += 1;
                plane.commands.applied(command.unwrap().seq);
            }
        }
    });
    // One command at a time: each push meets a steward about to sleep, each wait one about to answer.
    for call in 0..rounds {
        let before = control.applied.get();
        let seq = control
            .commands
            .push(call, &[Op::Remove(endpoint(0, 1))])
            .unwrap();
        let mut seen = before;
        while seen < seq {
            if control.bell.arm(seen) {
                let mut fds = [PollFd::new(&control.bell, PollFlags::IN)];
                let timeout = Timespec::try_from(LOST).unwrap();
                assert!(
                    poll(&mut fds, Some(&timeout)).unwrap() > 0,
                    "control missed its bell"
                );
                control.bell.drain();
            }
            seen = control.applied.get();
        }
    }
    steward.join().unwrap();
    assert!(control.events.next().is_none());
}

#[test]
fn workers_and_descriptors_wake_the_steward() {
    let dir = temp_dir();
    let (mut plane, _control) = both(&config(&dir, 4));
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    let start = Instant::now();
    assert!(
        !plane.bell.wait(|| true, &[reader.as_fd()], LOST),
        "busy: no sleep"
    );
    assert!(
        !plane.bell.wait(|| false, &[], Duration::from_millis(1)),
        "the timeout"
    );
    let ringer = plane.bell.ringer();
    ringer.ring();
    let worker = std::thread::spawn(move || {
        // Those that meet an awake steward wake nobody; one meets it asleep.
        for _ in 0..200 {
            ringer.ring();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    plane.bell.wait(|| false, &[reader.as_fd()], LOST);
    assert!(start.elapsed() < LOST);
    worker.join().unwrap();
    std::io::Write::write_all(&mut &writer, b"x").unwrap();
    assert!(plane.bell.wait(|| false, &[reader.as_fd()], LOST));
    assert!(start.elapsed() < LOST);
}
