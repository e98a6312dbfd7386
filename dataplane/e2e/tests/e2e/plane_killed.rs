//! The plane dies in mid-call, three times, under 2,000 streams that had learned their sources: each
//! comes back by itself, with its latch and its counters.

use penstock_e2e::region::{live, stream};
use penstock_e2e::{Daemon, Lab, Ng, Phone, Sides, lab, meanwhile, phone_at, rtcp, wait_for};
use penstock_shm::TableView;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const CALLS: u32 = 500;

/// What the SDP says of every phone: an address that nobody has, as behind a NAT.
const SIGNALLED: &str = "198.18.254.1:9000";

/// One leg: its sockets, and where they send.
struct Leg {
    rtp: Phone,
    rtcp: Phone,
    to: SocketAddr,
    /// SSRC of the other leg.
    other: u32,
}

impl Leg {
    fn last_heard(&mut self) -> u16 {
        let heard = self.rtp.listen().rtp.get(&self.other);
        heard.and_then(|seqs| seqs.last().copied()).unwrap_or(0)
    }

    /// Its two streams, each with the source that the plane must have learned.
    fn streams(&self, table: &TableView) -> [(Option<penstock_shm::StreamStat>, SocketAddr); 2] {
        [
            (stream(table, self.to), self.rtp.at()),
            (stream(table, rtcp(self.to)), self.rtcp.at()),
        ]
    }

    fn is_latched(&self, table: &TableView) -> bool {
        self.streams(table).into_iter().all(|(stream, source)| {
            stream.is_some_and(|s| {
                s.policy.latched && s.policy.locked && s.policy.remote == Some(source)
            })
        })
    }

    fn packets(&self, table: &TableView) -> [u64; 2] {
        self.streams(table)
            .map(|(stream, _)| stream.map_or(0, |s| s.meter.packets))
    }
}

/// Both legs of call number `n`.
type Pair = [Leg; 2];

/// All calls, with their numbers; the phones speak on a thread of their own.
type Calls = Mutex<Vec<(u32, Pair)>>;

fn name(n: u32) -> String {
    format!("call-{n}")
}

fn place_calls(lab: &Lab) -> Vec<(u32, Pair)> {
    let ng = lab.ng();
    let signalled: SocketAddr = SIGNALLED.parse().expect("an address");
    let sides: Vec<Sides> = (0..CALLS)
        .map(|n| ng.call(&name(n), signalled, signalled))
        .collect();
    lab.inside(|| {
        let phone = |ssrc| {
            Phone::with(
                std::net::UdpSocket::bind(phone_at(0)).expect("a socket"),
                ssrc,
            )
        };
        let leg = |ssrc, to, other| Leg {
            rtp: phone(ssrc),
            rtcp: phone(ssrc),
            to,
            other,
        };
        let pair = |(n, s): (u32, &Sides)| {
            (
                n,
                [
                    leg(2 * n, s.caller, 2 * n + 1),
                    leg(2 * n + 1, s.callee, 2 * n),
                ],
            )
        };
        (0..).zip(&sides).map(pair).collect()
    })
}

/// Every phone speaks, reports if `reports`, and hears what is there.
fn speak(calls: &Calls, reports: bool) {
    for leg in calls
        .lock()
        .expect("the phones")
        .iter_mut()
        .flat_map(|(_, pair)| pair)
    {
        leg.rtp.talk_anyway(leg.to);
        if reports {
            leg.rtcp.report_anyway(rtcp(leg.to));
        }
        leg.rtp.listen();
        leg.rtcp.listen();
    }
}

/// Waits until every phone hears what its other leg said after now.
fn all_hear(calls: &Calls, limit: Duration) {
    let said: Vec<[u16; 2]> = {
        let calls = calls.lock().expect("the phones");
        calls
            .iter()
            .map(|(_, [a, b])| [a.rtp.sent(), b.rtp.sent()])
            .collect()
    };
    let mut deaf = 0;
    let all = wait_for(limit, || {
        let mut calls = calls.lock().expect("the phones");
        let both = |((_, [a, b]), said): (&mut (u32, Pair), &[u16; 2])| {
            u32::from(a.last_heard() <= said[1]) + u32::from(b.last_heard() <= said[0])
        };
        deaf = calls.iter_mut().zip(&said).map(both).sum();
        deaf == 0
    });
    assert!(
        all,
        "{deaf} of {} phones hear nothing after {limit:?}",
        2 * said.len()
    );
}

/// Kills the plane, and checks what control says meanwhile and what stands once it is back.
fn kill_and_return(lab: &Lab, ng: &Ng, table: &TableView, calls: &Calls, plane: Daemon) -> Daemon {
    let before: Vec<_> = {
        let calls = calls.lock().expect("the phones");
        calls
            .iter()
            .map(|(_, [a, b])| [a.packets(table), b.packets(table)])
            .collect()
    };
    plane.kill();

    let asked = Instant::now();
    let refused = ng
        .offer("too-early", phone_at(4000))
        .expect_err("an offer without a plane");
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(1), "refused after {took:?}");
    assert!(refused.contains("plane"), "{refused}");
    let (gone, gone_pair) = calls.lock().expect("the phones").pop().expect("a call");
    let deleted = ng.delete(&name(gone));
    assert_eq!(deleted["result"], "ok", "{deleted}");

    let plane = lab.plane();
    all_hear(calls, Duration::from_secs(2));
    for ((n, pair), packets) in calls.lock().expect("the phones").iter().zip(before) {
        for (leg, before) in pair.iter().zip(packets) {
            let (now, streams) = (leg.packets(table), leg.streams(table));
            assert!(
                leg.is_latched(table),
                "call {n} lost its latch: {streams:?}"
            );
            assert!(
                now[0] > before[0] && now[1] >= before[1],
                "call {n}: {now:?} after {before:?}"
            );
        }
    }
    let streams = || gone_pair.iter().flat_map(|leg| leg.streams(table));
    let is_gone = || streams().all(|(stream, _)| stream.is_none());
    assert!(
        wait_for(Duration::from_secs(10), is_gone),
        "the deleted call still stands"
    );
    assert_eq!(live(table).len(), 4 * gone as usize);
    let query = |n| ng.ask(&json!({"command": "query", "call-id": name(n)}));
    assert_eq!(
        (&query(gone)["result"], &query(0)["result"]),
        (&"error".into(), &"ok".into())
    );
    plane
}

#[test]
fn every_stream_resumes_with_its_latch_and_counters() {
    let lab = lab!("plane_killed");
    // RTCP learns for five times as long.
    lab.edit("[plane]\n", "[learning]\nwindow_ms = 500\n[plane]\n");
    let sockets = Rlimit {
        current: Some(8192),
        maximum: Some(8192),
    };
    setrlimit(Resource::Nofile, sockets).expect("2,000 sockets");
    let plane = lab.plane();
    let _control = lab.control();
    let ng = lab.ng();
    let table = lab.table();
    let calls = Mutex::new(place_calls(&lab));
    assert_eq!(live(&table).len(), 4 * CALLS as usize);
    // Ten times a second, with a report once a second.
    let (mut round, start) = (0, Instant::now());
    let media = || {
        speak(&calls, round % 10 == 0);
        round += 1;
        let next = start + round * Duration::from_millis(100);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    };

    let _plane = meanwhile(media, || {
        let latched = wait_for(Duration::from_secs(60), || {
            let calls = calls.lock().expect("the phones");
            calls
                .iter()
                .flat_map(|(_, pair)| pair)
                .all(|leg| leg.is_latched(&table))
        });
        assert!(latched, "not every source was learned");
        all_hear(&calls, Duration::from_secs(20));
        (0..3).fold(plane, |plane, _| {
            kill_and_return(&lab, &ng, &table, &calls, plane)
        })
    });

    for (n, pair) in calls.lock().expect("the phones").iter_mut() {
        for leg in pair {
            let other = leg.other;
            let heard = leg.rtp.listen_until(Duration::from_millis(1));
            assert_eq!(heard.changed, 0, "call {n}");
            assert_eq!(
                heard.rtp.keys().collect::<Vec<_>>(),
                [&other],
                "call {n} hears strangers"
            );
            assert!(
                heard.rtp[&other].is_sorted_by(|a, b| a < b),
                "call {n}: {heard:?}"
            );
        }
    }
    let after = ng.offer("after", phone_at(4000));
    assert!(after.is_ok(), "{after:?}");
}
