//! An agent of ICE is offered IPv4 and IPv6, and chooses by its checks: media goes where it nominates, whatever c= says.

use penstock_e2e::region::{live, stream};
use penstock_e2e::stun::{self, Credentials, NOMINATE};
use penstock_e2e::{Lab, Ng, PLANE, Phone, Setup, lab, phone_at, sdp, wait_for};
use penstock_shm::counters::Drop;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
/// The plane's IPv6 address, of the same logical interface, and the phones'.
const PLANE6: &str = "fd00::1";
const PHONES6: &str = "fd00::ff";
/// Of the plane's port, and so of the tap.
const MAC: &str = "02:70:73:00:00:01";
const ICE: &str = "a=ice-ufrag:caller\r\na=ice-pwd:passwordofthecalleragent\r\n";

fn setup() -> Setup {
    Setup {
        port: format!(
            "device = \"net_tap0,iface=ps0,persist\"\nmac = \"{MAC}\"\nqueues = 1\n\
             [[port.address]]\naddress = \"{PLANE}/16\"\n\
             [[port.address]]\naddress = \"{PLANE6}/64\"\n\
             [[port.neighbour]]\naddress = \"{PHONES6}\"\nmac = \"{MAC}\"\n\
             [[control.interface]]\nname = \"default\"\naddress = \"{PLANE6}\"\nports = \"40000-41999\"\n"
        ),
        ..Setup::default()
    }
}

/// Gives the tap the IPv6 phones' address, and tells it the plane's MAC.
fn six(lab: &Lab) {
    let address = format!("{PHONES6}/64");
    let neighbour = [
        "-6",
        "neigh",
        "replace",
        PLANE6,
        "lladdr",
        MAC,
        "dev",
        "ps0",
        "nud",
        "permanent",
    ];
    for args in [
        &["-6", "addr", "replace", &address, "dev", "ps0", "nodad"][..],
        &neighbour,
    ] {
        let (code, _, err) = lab.run("ip", args);
        assert_eq!(code, Some(0), "ip {args:?}: {err}");
    }
}

/// The SDP that leaves, and what it says to an agent.
fn signal(ng: &Ng, command: &str, body: &str) -> String {
    let reply = ng.ask(&json!({
        "command": command, "call-id": "c", "from-tag": "a", "to-tag": "b", "sdp": body,
    }));
    assert_eq!(reply["result"], "ok", "{reply}");
    reply["sdp"].as_str().expect("an SDP").to_owned()
}

fn line<'a>(sdp: &'a str, start: &str) -> &'a [u8] {
    let mut lines = sdp.lines().filter_map(|line| line.strip_prefix(start));
    lines
        .next()
        .unwrap_or_else(|| panic!("no {start} in {sdp}"))
        .as_bytes()
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
    socket: UdpSocket,
    phone: Phone,
    plane: SocketAddr,
}

impl Candidate {
    fn new(lab: &Lab, at: SocketAddr, ssrc: u32, plane: SocketAddr) -> Candidate {
        let socket = lab.socket(at);
        let phone = Phone::with(socket.try_clone().expect("a clone"), ssrc);
        Candidate {
            socket,
            phone,
            plane,
        }
    }

    fn checks(&self, of: Credentials, more: &[(u16, &[u8])]) {
        let mut transaction = *b"transaction\0";
        transaction[10..].copy_from_slice(&self.phone.at().port().to_be_bytes());
        let request = stun::check(transaction, of, more);
        let answer = stun::ask(&self.socket, self.plane, &request, &of.pwd, SOON);
        let answer = answer.unwrap_or_else(|| panic!("{} is not answered", self.plane));
        assert_eq!((answer.code, answer.verified), (0, true));
        assert_eq!(answer.mapped, Some(self.phone.at()));
    }

    /// Whether the plane takes it for where the agent is.
    fn is_chosen(&self, lab: &Lab) -> bool {
        let stat = stream(&lab.table(), self.plane).expect("the stream");
        stat.policy.remote == Some(self.phone.at())
    }
}

/// What either says the other hears.
fn flows(own: &mut Candidate, far: &mut Phone, far_plane: SocketAddr) {
    let heard = |phone: &mut Phone, ssrc: u32, seq: u16| {
        let has = |heard: &penstock_e2e::Received| {
            heard.rtp.get(&ssrc).is_some_and(|seqs| seqs.contains(&seq))
        };
        let all = phone.listen_for(has);
        assert!(has(all), "{ssrc:x} {seq}");
    };
    own.phone.talk(own.plane);
    heard(far, own.phone.ssrc(), own.phone.sent());
    far.talk(far_plane);
    heard(&mut own.phone, far.ssrc(), far.sent());
}

#[test]
fn media_goes_by_the_version_of_ip_that_the_agent_nominates() {
    let lab = lab!("ice_addresses", setup());
    let mut plane = lab.plane();
    six(&lab);
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
    let of = Credentials {
        ufrag: line(&answered, "a=ice-ufrag:").try_into().expect("eight"),
        pwd: line(&answered, "a=ice-pwd:").try_into().expect("24"),
    };
    let agent = |n: usize, component: &str, port: u16, ssrc: u32| {
        let ip: IpAddr = [phone_at(0).ip(), PHONES6.parse().expect("an address")][n];
        let plane = candidates(&answered, component)[n];
        Candidate::new(&lab, SocketAddr::new(ip, port), ssrc, plane)
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
    assert!(wait_for(SOON, || six_rtp.is_chosen(&lab)));
    flows(&mut six_rtp, &mut far, far_plane);
    four.checks(of, &[]);
    flows(&mut six_rtp, &mut far, far_plane);
    six_rtp.checks(of, &[NOMINATE]);
    rtcp.checks(of, &[NOMINATE]);
    assert!(wait_for(SOON, || rtcp.is_chosen(&lab)));
    rtcp.phone.report(rtcp.plane);
    assert!(
        far_rtcp
            .listen_for(|heard| heard.rtcp.contains_key(&0xa7))
            .rtcp
            .contains_key(&0xa7)
    );
    far_rtcp.report(penstock_e2e::rtcp(far_plane));
    let heard = rtcp
        .phone
        .listen_for(|heard| heard.rtcp.contains_key(&0xb1));
    assert!(heard.rtcp.contains_key(&0xb1));
    flows(&mut six_rtp, &mut far, far_plane);

    // By IPv4, in a plane that starts anew, and back.
    four.checks(of, &[NOMINATE]);
    assert!(wait_for(SOON, || four.is_chosen(&lab) && !six_rtp.is_chosen(&lab)));
    flows(&mut four, &mut far, far_plane);
    let refused = lab.balanced().dropped(Drop::Source);
    six_rtp.phone.talk(six_rtp.plane);
    assert!(lab.balanced().dropped(Drop::Source) > refused);
    six_rtp.checks(of, &[NOMINATE]);
    assert!(wait_for(SOON, || six_rtp.is_chosen(&lab) && !four.is_chosen(&lab)));
    plane.stop_well();
    let _plane = lab.plane();
    six(&lab);
    flows(&mut six_rtp, &mut far, far_plane);

    reported(&ng, &six_rtp);
    assert_eq!(live(&lab.table()), [], "streams after the call's end");
}

/// A report has what came at either address, and says where the agent is.
fn reported(ng: &Ng, agent: &Candidate) {
    let report = ng.delete("c");
    assert_eq!(report["result"], "ok", "{report}");
    let own = &report["tags"]["a"]["medias"][0]["streams"][0];
    // Five times by IPv6, once by IPv4; what the plane refused is an error.
    assert_eq!(own["stats"]["packets"], json!(5), "{own}");
    assert_eq!(own["stats"]["errors"], json!(1), "{own}");
    let at = agent.phone.at();
    let endpoint = (&own["endpoint"]["address"], &own["endpoint"]["port"]);
    let expected: (Value, Value) = (json!(at.ip().to_string()), json!(at.port()));
    assert_eq!(endpoint, (&expected.0, &expected.1));
    let local = (&own["local address"], &own["local port"]);
    let expected: (Value, Value) = (json!(PLANE6), json!(agent.plane.port()));
    assert_eq!(local, (&expected.0, &expected.1));
}
