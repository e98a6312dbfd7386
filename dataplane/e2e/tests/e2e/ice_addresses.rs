//! An agent of ICE is offered IPv4 and IPv6, and chooses by its checks: media goes where it nominates, whatever c= says.

use crate::ice::Agent;
use penstock_e2e::body::credentials;
use penstock_e2e::region::{learns, live, remote};
use penstock_e2e::stun::{Credentials, HIGHEST, NOMINATE};
use penstock_e2e::{
    Ng, PLANE, PLANE6, Phone, Setup, lab, phone_at, phone6_at, reach, sdp, wait_for,
};
use penstock_shm::TableView;
use penstock_shm::counters::Drop;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const ICE: &str = "a=ice-ufrag:caller\r\na=ice-pwd:passwordofthecalleragent\r\n";

/// The plane's IPv6 address is of the same logical interface.
fn setup() -> Setup {
    let mut setup = Setup::six();
    setup.port += &format!(
        "[[control.interface]]\nname = \"default\"\naddress = \"{PLANE6}\"\nports = \"40000-41999\"\n"
    );
    setup
}

/// An offer or an answer as it is, with nothing said about ICE.
fn signal(ng: &Ng, command: &str, body: &str) -> String {
    ng.told(&json!({
        "command": command, "call-id": "c", "from-tag": "a", "to-tag": "b", "sdp": body,
    }))
}

/// Where the plane says that a component is, by version of IP.
fn candidates(sdp: &str, component: &str) -> [SocketAddr; 2] {
    let of = |line: &str| {
        let words: Vec<&str> = line.strip_prefix("a=candidate:")?.split(' ').collect();
        let ip: IpAddr = words[4].parse().expect("an address");
        let port = words[5].parse().expect("a port");
        (words[1] == component).then(|| SocketAddr::new(ip, port))
    };
    let all: Vec<SocketAddr> = sdp.lines().filter_map(of).collect();
    match all[..] {
        [four, six] if four.is_ipv4() && six.is_ipv6() => [four, six],
        _ => panic!("{sdp}"),
    }
}

/// A component of the agent, by one version of IP.
struct Candidate {
    agent: Agent,
    plane: SocketAddr,
}

impl Candidate {
    fn checks(&mut self, of: Credentials, more: &[(u16, &[u8])]) {
        self.agent.passes(self.plane, of, more);
    }

    /// The plane takes it for where the agent is.
    fn is_chosen(&self, table: &TableView) {
        learns(table, self.plane, self.agent.phone.at());
    }

    /// The plane no longer does.
    fn is_left(&self, table: &TableView) {
        let is_left = || remote(table, self.plane) != Some(self.agent.phone.at());
        assert!(wait_for(SOON, is_left), "{}", self.plane);
    }
}

/// What either says the other hears.
fn flows(own: &mut Candidate, far: &mut Phone, far_plane: SocketAddr) {
    reach(&mut own.agent.phone, own.plane, far);
    reach(far, far_plane, &mut own.agent.phone);
}

#[test]
fn media_goes_by_the_version_of_ip_that_the_agent_nominates() {
    let lab = lab!("ice_addresses", setup());
    let mut plane = lab.plane();
    lab.six();
    let _control = lab.control();
    let (ng, table) = (lab.ng(), lab.table());
    let mut far = Phone::new(&lab, phone_at(5000), 0xb);
    let mut far_rtcp = Phone::new(&lab, phone_at(5001), 0xb1);

    let offered = signal(&ng, "offer", &(sdp(phone_at(4000)) + ICE));
    let answered = signal(&ng, "answer", &sdp(far.at()));
    let far_plane = candidates(&offered, "1")[0];
    assert!(
        answered.contains(&format!("c=IN IP4 {PLANE}\r\n")),
        "{answered}"
    );
    let of = credentials(&answered);
    let agent = |n: usize, component: &str, port: u16, ssrc: u32| {
        let at = [phone_at(port), phone6_at(port)][n];
        Candidate {
            agent: Agent::new(&lab, at, ssrc),
            plane: candidates(&answered, component)[n],
        }
    };
    let (mut four, mut six_rtp) = (agent(0, "1", 4000, 0xa4), agent(1, "1", 4000, 0xa6));
    let mut rtcp = agent(1, "2", 4001, 0xa7);
    // The called leg did not speak ICE: its other candidates are gone.
    assert_eq!(
        live(&table).len(),
        6,
        "two more for the agent's other address"
    );

    // The first check is enough, and another elsewhere moves nothing.
    six_rtp.checks(of, &[]);
    six_rtp.is_chosen(&table);
    flows(&mut six_rtp, &mut far, far_plane);
    four.checks(of, &[]);
    flows(&mut six_rtp, &mut far, far_plane);
    six_rtp.checks(of, &[NOMINATE]);
    rtcp.checks(of, &[NOMINATE]);
    rtcp.is_chosen(&table);
    rtcp.agent.phone.report(rtcp.plane);
    assert!(
        far_rtcp
            .listen_for(|heard| heard.rtcp.contains_key(&0xa7))
            .rtcp
            .contains_key(&0xa7)
    );
    far_rtcp.report(penstock_e2e::rtcp(far_plane));
    let heard = rtcp
        .agent
        .phone
        .listen_for(|heard| heard.rtcp.contains_key(&0xb1));
    assert!(heard.rtcp.contains_key(&0xb1));
    flows(&mut six_rtp, &mut far, far_plane);

    // By IPv4, in a plane that starts anew, and back.
    four.checks(of, &[NOMINATE]);
    four.is_chosen(&table);
    six_rtp.is_left(&table);
    flows(&mut four, &mut far, far_plane);
    let refused = lab.balanced().dropped(Drop::Source);
    six_rtp.agent.phone.talk(six_rtp.plane);
    assert!(lab.balanced().dropped(Drop::Source) > refused);
    // Of two that the agent ranks alike, the first of the plane's addresses is chosen, whichever is nominated last.
    six_rtp.checks(of, &[NOMINATE]);
    flows(&mut four, &mut far, far_plane);
    six_rtp.checks(of, &[NOMINATE, HIGHEST]);
    six_rtp.is_chosen(&table);
    four.is_left(&table);
    plane.stop_well();
    let _plane = lab.plane();
    lab.six();
    flows(&mut six_rtp, &mut far, far_plane);

    reported(&ng, &six_rtp);
    assert_eq!(live(&lab.table()), [], "streams after the call's end");
}

/// An agent that checks nothing (RFC 8445, 2.5) is heard at either address from its candidate, and nobody else is; it is sent to where
/// c= says.
#[test]
fn a_lite_agent_is_heard_at_either_address() {
    let lab = lab!("ice_lite", setup());
    let _plane = lab.plane();
    lab.six();
    let _control = lab.control();
    let ng = lab.ng();
    let mut far = Phone::new(&lab, phone_at(5000), 0xb);
    let (at4, at6, other6) = (phone_at(4000), phone6_at(4000), phone6_at(4100));
    let own = format!(
        "{ICE}a=candidate:1 1 UDP 2130706431 {} 4000 typ host\r\n\
         a=candidate:2 1 UDP 2130706175 {} 4000 typ host\r\n",
        at4.ip(),
        at6.ip()
    );
    let body = (sdp(at4) + &own).replacen("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n", 1);
    let offered = signal(&ng, "offer", &body);
    let answered = signal(&ng, "answer", &sdp(far.at()));
    let planes = candidates(&answered, "1");
    let agent = |at, ssrc, plane| Candidate {
        agent: Agent::new(&lab, at, ssrc),
        plane,
    };
    let mut four = agent(at4, 0xa4, planes[0]);
    let [mut six, mut stranger] =
        [(at6, 0xa6), (other6, 0xa7)].map(|(at, ssrc)| agent(at, ssrc, planes[1]));
    let far_plane = candidates(&offered, "1")[0];
    // What comes at IPv6 goes on; what goes to the agent leaves by IPv4.
    reach(&mut six.agent.phone, six.plane, &mut far);
    reach(&mut far, far_plane, &mut four.agent.phone);
    stranger.agent.phone.talk(stranger.plane);
    assert_eq!(lab.balanced().dropped(Drop::Source), 1);
    flows(&mut four, &mut far, far_plane);
}

/// A report has what came at either address, and says where the agent is.
fn reported(ng: &Ng, agent: &Candidate) {
    let report = ng.delete("c");
    assert_eq!(report["result"], "ok", "{report}");
    let own = &report["tags"]["a"]["medias"][0]["streams"][0];
    // Four times by IPv6, twice by IPv4; what the plane refused is an error.
    assert_eq!(own["stats"]["packets"], json!(6), "{own}");
    assert_eq!(own["stats"]["errors"], json!(1), "{own}");
    let at = agent.agent.phone.at();
    let endpoint = (&own["endpoint"]["address"], &own["endpoint"]["port"]);
    let expected: (Value, Value) = (json!(at.ip().to_string()), json!(at.port()));
    assert_eq!(endpoint, (&expected.0, &expected.1));
    let local = (&own["local address"], &own["local port"]);
    let expected: (Value, Value) = (json!(PLANE6), json!(agent.plane.port()));
    assert_eq!(local, (&expected.0, &expected.1));
}
