//! The plane as a lite agent of ICE: connectivity checks are answered, and they alone say where media goes. The streams are
//! put into the region as control would.

use penstock_e2e::region::{
    assert_attributed, balanced, dropped_of, endpoint, learns, stream, totals,
};
use penstock_e2e::stun::{self, CONTROLLED, Credentials, HIGHEST, NOMINATE, Response};
use penstock_e2e::{
    Lab, Phone, lab, local, meanwhile, phone_at, reach, rtp_packet, skip, wait_for,
};
use penstock_shm::counters::Drop;
use penstock_shm::{Ice, Kind, Learn, Op, StreamSpec, TableView};
use rustix::process::Signal;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
/// The side with ICE, its RTCP, and the other side.
const SIDE: u16 = 20_000;
const RTCP: u16 = 20_001;
const FAR: u16 = 20_002;
const FAR_RTCP: u16 = 20_003;
/// Where the other side's phone is, and its RTCP.
const FAR_PHONES: [u16; 2] = [5000, 5001];

const FIRST: Credentials = Credentials {
    ufrag: *b"plane+/1",
    pwd: *b"passwordofthefirstoffer0",
};
const SECOND: Credentials = Credentials {
    ufrag: *b"plane+/2",
    pwd: *b"passwordofthesecondoffer",
};

/// An agent's socket, for checks and for media.
pub(crate) struct Agent {
    pub(crate) socket: UdpSocket,
    pub(crate) phone: Phone,
    transaction: [u8; 12],
}

impl Agent {
    pub(crate) fn new(lab: &Lab, at: SocketAddr, ssrc: u32) -> Agent {
        let socket = lab.socket(at);
        let phone = Phone::with(socket.try_clone().expect("a clone"), ssrc);
        let mut transaction = *b"transaction\0";
        transaction[0] = ssrc as u8;
        Agent {
            socket,
            phone,
            transaction,
        }
    }

    fn next(&mut self) -> [u8; 12] {
        self.transaction[11] += 1;
        self.transaction
    }

    /// The response to a check with these credentials and attributes.
    pub(crate) fn check(
        &mut self,
        to: SocketAddr,
        of: Credentials,
        more: &[(u16, &[u8])],
    ) -> Response {
        let request = stun::check(self.next(), of, more);
        self.ask(to, &request, of)
    }

    fn ask(&self, to: SocketAddr, request: &[u8], of: Credentials) -> Response {
        let answered = stun::ask(&self.socket, to, request, &of.pwd, SOON);
        answered.unwrap_or_else(|| panic!("{request:x?} is not answered"))
    }

    /// A check verifies.
    pub(crate) fn passes(&mut self, to: SocketAddr, of: Credentials, more: &[(u16, &[u8])]) {
        let expected = Response {
            code: 0,
            mapped: Some(self.phone.at()),
            software: Some("penstock".into()),
            verified: true,
        };
        assert_eq!(self.check(to, of, more), expected);
    }
}

/// The four streams of a call whose one side has ICE with these credentials.
fn streams(table: &TableView, signal: u32, of: Credentials) -> Vec<Op> {
    let at = |port| endpoint(table, local(port), 0);
    let kinds = [(Kind::Rtp, SIDE, FAR), (Kind::Rtcp, RTCP, FAR_RTCP)];
    let pair = |((kind, side, other), far): ((Kind, u16, u16), SocketAddr)| {
        let near = StreamSpec {
            kind,
            learn: Learn::Checks,
            // Of the candidates, the one that nobody has.
            remote: Some(SocketAddr::from(([198, 18, 254, 1], 9))),
            signal,
            ..StreamSpec::new(at(side), at(other))
        };
        let ice = Op::Ice {
            endpoint: at(side),
            ice: Ice {
                ufrag: of.ufrag,
                pwd: of.pwd,
            },
        };
        let away = StreamSpec {
            kind,
            learn: Learn::Off,
            remote: Some(far),
            signal,
            ..StreamSpec::new(at(other), at(side))
        };
        [Op::Set(near), ice, Op::Set(away)]
    };
    kinds
        .into_iter()
        .zip(FAR_PHONES.map(phone_at))
        .flat_map(pair)
        .collect()
}

/// A call's far side, and what is counted.
struct Call {
    table: TableView,
    far: Phone,
}

impl Call {
    /// One side has the first credentials, the other is a phone.
    fn begin(lab: &Lab) -> Call {
        let table = lab.table();
        lab.install(1, &streams(&table, 1, FIRST));
        Call {
            table,
            far: Phone::new(lab, phone_at(FAR_PHONES[0]), 0xb),
        }
    }

    fn dropped(&self, reason: Drop) -> u64 {
        totals(&self.table).dropped(reason)
    }

    /// What was dropped was dropped of streams, but for what the kernel says by itself.
    fn attributed(&self) {
        let strays = [Drop::NotOurMac, Drop::NotOurAddress, Drop::Protocol];
        assert_attributed(
            &self.table,
            &strays.map(|reason| (reason, self.dropped(reason))),
        );
    }

    /// What the agent says arrives, and what the far side says arrives there.
    fn flows(&mut self, agent: &mut Agent) {
        reach(&mut agent.phone, local(SIDE), &mut self.far);
        reach(&mut self.far, local(FAR), &mut agent.phone);
    }

    /// What the agent says is dropped for its source.
    fn refuses(&self, agent: &mut Agent) {
        let before = self.dropped(Drop::Source);
        agent.phone.talk(local(SIDE));
        assert!(wait_for(SOON, || self.dropped(Drop::Source) == before + 1));
    }

    fn settles(&self, at: SocketAddr, agent: &Agent) {
        learns(&self.table, at, agent.phone.at());
    }
}

#[test]
fn checks_are_answered_and_say_where_media_goes() {
    let lab = lab!("ice");
    let mut plane = lab.plane();
    let mut call = Call::begin(&lab);
    let [mut host, mut other] =
        [(4000, 0xa0), (4002, 0xa1)].map(|(port, ssrc)| Agent::new(&lab, phone_at(port), ssrc));

    // Nobody has checked.
    call.refuses(&mut host);
    call.far.talk(local(FAR));
    assert!(wait_for(SOON, || call.dropped(Drop::NoRoute) == 1));

    strangers_are_refused(&call, &mut other);

    host.passes(local(SIDE), FIRST, &[]);
    call.settles(local(SIDE), &host);
    call.flows(&mut host);
    call.refuses(&mut other);
    other.passes(local(SIDE), FIRST, &[]);
    call.refuses(&mut other);
    call.flows(&mut host);
    other.passes(local(SIDE), FIRST, &[NOMINATE]);
    call.settles(local(SIDE), &other);
    call.flows(&mut other);
    call.refuses(&mut host);
    // Consent, and a keep-alive.
    other.passes(local(SIDE), FIRST, &[]);
    let before = totals(&call.table).consumed;
    let keeps = stun::message(0x0011, other.next(), &[], None);
    other.phone.send(&keeps, local(SIDE));
    assert!(wait_for(SOON, || totals(&call.table).consumed == before + 1));
    call.flows(&mut other);
    let sum = lab.balanced();
    call.attributed();
    assert_eq!(sum.dropped(Drop::StunLimit), 0);

    // A component of its own (RFC 8445, 2).
    let mut rtcp = Agent::new(&lab, phone_at(4001), 0xa2);
    let mut far_rtcp = Phone::new(&lab, phone_at(FAR_PHONES[1]), 0xb1);
    rtcp.phone.report(local(RTCP));
    let source = |port| {
        let stat = stream(&call.table, local(port)).expect("the stream");
        dropped_of(&stat, Drop::Source)
    };
    assert!(wait_for(SOON, || source(RTCP) == 1));
    rtcp.passes(local(RTCP), FIRST, &[NOMINATE]);
    call.settles(local(RTCP), &rtcp);
    rtcp.phone.report(local(RTCP));
    let heard = far_rtcp.listen_for(|heard| heard.rtcp.contains_key(&0xa2));
    assert!(heard.rtcp.contains_key(&0xa2));
    call.flows(&mut other);

    // A restart of the plane, and one of ICE.
    plane.kill();
    plane = lab.plane();
    call.flows(&mut other);
    other.passes(local(SIDE), FIRST, &[]);
    lab.install(1, &streams(&call.table, 2, SECOND));
    call.flows(&mut other);
    assert_eq!(host.check(local(SIDE), FIRST, &[NOMINATE]).code, 401);
    call.flows(&mut other);
    host.passes(local(SIDE), SECOND, &[]);
    call.settles(local(SIDE), &host);
    call.flows(&mut host);
    call.refuses(&mut other);
    plane.stop_well();
}

/// An agent that nominates every pair with each of its checks (RFC 5245, 8.1.1.2) has its media where priority says, and not
/// where it checked last; once that way is dead, by another.
#[test]
fn an_agent_that_nominates_all_pairs_has_the_best() {
    let lab = lab!("ice_aggressive");
    let _plane = lab.plane();
    let mut call = Call::begin(&lab);
    let [mut low, mut high] =
        [(4000, 0xa0), (4002, 0xa1)].map(|(port, ssrc)| Agent::new(&lab, phone_at(port), ssrc));
    low.passes(local(SIDE), FIRST, &[NOMINATE]);
    call.settles(local(SIDE), &low);
    call.flows(&mut low);
    high.passes(local(SIDE), FIRST, &[NOMINATE, HIGHEST]);
    call.settles(local(SIDE), &high);
    for _ in 0..5 {
        low.passes(local(SIDE), FIRST, &[NOMINATE]);
        call.flows(&mut high);
        high.passes(local(SIDE), FIRST, &[NOMINATE, HIGHEST]);
    }
    call.refuses(&mut low);
    // Nothing comes from the better one for as long as a nomination stands by itself.
    std::thread::sleep(Duration::from_secs(5));
    low.passes(local(SIDE), FIRST, &[NOMINATE]);
    call.settles(local(SIDE), &low);
    call.flows(&mut low);
    let sum = balanced(&call.table);
    call.attributed();
    assert_eq!(sum.dropped(Drop::Source), 1);
}

/// Whoever knows less than the credentials changes nothing, and is told so.
fn strangers_are_refused(call: &Call, agent: &mut Agent) {
    let refused = || call.dropped(Drop::StunCheck);
    let other_pwd = Credentials {
        pwd: SECOND.pwd,
        ..FIRST
    };
    for (of, more, code) in [
        (SECOND, &[NOMINATE][..], 401),
        (other_pwd, &[NOMINATE], 401),
        (FIRST, &[(0x7001, &[]), NOMINATE], 420),
        (FIRST, &[CONTROLLED, NOMINATE], 487),
    ] {
        let response = agent.check(local(SIDE), of, more);
        let expected = Response {
            code,
            verified: code > 401,
            ..Response::default()
        };
        assert_eq!(response, expected, "{of:?} {more:x?}");
    }
    let anonymous = stun::message(0x0001, agent.next(), &[NOMINATE], None);
    assert_eq!(agent.ask(local(SIDE), &anonymous, FIRST).code, 400);
    assert!(refused() >= 5);
    let answers = stun::message(0x0101, agent.next(), &[], None);
    let mut damaged = stun::check(agent.next(), FIRST, &[NOMINATE]);
    damaged[30] ^= 1;
    for none in [answers, damaged] {
        let before = call.dropped(Drop::Stun);
        agent.phone.send(&none, local(SIDE));
        assert!(wait_for(SOON, || call.dropped(Drop::Stun) == before + 1));
    }
    let policy = stream(&call.table, local(SIDE)).expect("the stream").policy;
    assert_eq!((policy.remote, policy.locked), (None, false));
    call.refuses(agent);
}

/// Who knows the user name fragment alone floods a stream: its own agent waits, all others are as before.
#[test]
fn a_flood_of_checks_is_bounded_and_harms_no_other_call() {
    const FLOOD: u64 = 50_000;
    let lab = lab!("ice_flood");
    let _plane = lab.plane();
    let mut call = Call::begin(&lab);
    let mut agent = Agent::new(&lab, phone_at(4000), 0xa0);
    agent.passes(local(SIDE), FIRST, &[NOMINATE]);
    call.settles(local(SIDE), &agent);
    call.flows(&mut agent);
    let attacker = lab.socket(phone_at(6000));
    let guess = Credentials {
        pwd: SECOND.pwd,
        ..FIRST
    };
    let seen = |call: &Call| call.dropped(Drop::StunCheck) + call.dropped(Drop::StunLimit);
    let mut sent = 0;
    let flood = || {
        let transaction = u128::to_be_bytes(sent.into());
        let forged = stun::check(*transaction.last_chunk().expect("12"), guess, &[NOMINATE]);
        // What a full tap does not take was not sent.
        sent += u64::from(sent < FLOOD && attacker.send_to(&forged, local(RTCP)).is_ok());
    };
    let start = std::time::Instant::now();
    meanwhile(flood, || {
        while seen(&call) < FLOOD / 2 {
            assert!(start.elapsed() < SOON * 3, "the flood does not arrive");
            call.flows(&mut agent);
            agent.passes(local(SIDE), FIRST, &[]);
        }
    });
    let sum = lab.balanced();
    let seconds = start.elapsed().as_secs() + 2;
    assert!(sum.dropped(Drop::StunLimit) > FLOOD / 4, "{sum:?}");
    assert!(sum.dropped(Drop::StunCheck) <= 50 * seconds, "{sum:?}");
    call.flows(&mut agent);
    call.attributed();
    let flooded = stream(&call.table, local(RTCP)).expect("the stream");
    assert_eq!(flooded.policy.remote, None);
}

/// A check whose answer the port does not take is a drop of its stream, and its agent asks again.
#[test]
fn an_answer_that_is_not_sent_is_counted() {
    const CHECKS: u64 = 20;
    let lab = lab!("ice_unsent");
    let plane = lab.plane();
    let mut call = Call::begin(&lab);
    let mut agent = Agent::new(&lab, phone_at(4000), 0xa0);
    agent.passes(local(SIDE), FIRST, &[NOMINATE]);
    call.settles(local(SIDE), &agent);
    let link = |state| {
        let (code, _, err) = lab.run("ip", &["link", "set", "ps0", state]);
        assert_eq!(code, Some(0), "{err}");
    };
    // A tap that is down gives what it holds, and takes nothing.
    plane.signal(Signal::STOP);
    for _ in 0..CHECKS {
        let check = stun::check(agent.next(), FIRST, &[]);
        agent.phone.send(&check, local(SIDE));
    }
    link("down");
    plane.signal(Signal::CONT);
    let all = wait_for(SOON, || call.dropped(Drop::TxFull) == CHECKS);
    assert!(all, "{:?}", totals(&call.table));
    balanced(&call.table);
    call.attributed();
    let side = stream(&call.table, local(SIDE)).expect("the stream");
    assert_eq!(dropped_of(&side, Drop::TxFull), CHECKS);
    link("up");
    agent.passes(local(SIDE), FIRST, &[]);
    call.flows(&mut agent);
}

/// An agent of another make: it gathers, checks, nominates, and sends media where the plane answered.
#[test]
fn another_agent_connects() {
    const AGENT: &str = r#"
import asyncio, sys, aioice

async def main(port, ufrag, pwd, packet):
    ice = aioice.Connection(ice_controlling=True, components=1, use_ipv6=False)
    ice.remote_is_lite = True
    await ice.gather_candidates()
    ice.remote_username, ice.remote_password = ufrag, pwd
    await ice.add_remote_candidate(aioice.Candidate(
        foundation="1", component=1, transport="udp", priority=2130706431,
        host="198.18.0.1", port=port, type="host"))
    await ice.add_remote_candidate(None)
    await ice.connect()
    for _ in range(200):
        await ice.send(bytes.fromhex(packet))
        try:
            print((await asyncio.wait_for(ice.recv(), 0.1)).hex())
            break
        except asyncio.TimeoutError:
            pass
    await ice.close()

asyncio.run(asyncio.wait_for(main(int(sys.argv[1]), *sys.argv[2:]), 60))
"#;
    const PYTHON: &str = "/usr/bin/python3";
    let lab = lab!("ice_agent");
    if lab.run(PYTHON, &["-c", "import aioice"]).0 != Some(0) {
        return skip("ice_agent", "no python3-aioice");
    }
    let _plane = lab.plane();
    let table = lab.table();
    lab.install(1, &streams(&table, 1, FIRST));
    let mut phone = Phone::new(&lab, phone_at(FAR_PHONES[0]), 0xb);
    let answers = || {
        if !phone.listen().rtp.is_empty() {
            phone.talk_anyway(local(FAR));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let hex = |octets: &[u8]| {
        octets
            .iter()
            .map(|o| format!("{o:02x}"))
            .collect::<String>()
    };
    let packet = rtp_packet(0xa, 1);
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let (ufrag, pwd, port) = (text(&FIRST.ufrag), text(&FIRST.pwd), SIDE.to_string());
    let (code, out, err) = meanwhile(answers, || {
        lab.run(PYTHON, &["-c", AGENT, &port, &ufrag, &pwd, &hex(&packet)])
    });
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("80"), "no media came: {out} {err}");
    assert!(phone.listen().rtp.contains_key(&0xa));
    let stat = stream(&table, local(SIDE)).expect("the stream");
    assert!(stat.policy.latched && stat.policy.locked, "{stat:?}");
    let refused = totals(&table).dropped(Drop::StunCheck);
    assert_eq!(refused, 0, "{stat:?}");
}
