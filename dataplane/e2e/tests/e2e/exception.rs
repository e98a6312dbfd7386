//! The exception port: a host's kernel behind the same NIC, with its SIP and its SSH, while a call runs.

use penstock_e2e::frame::{Datagram, Sum, read_capture, write_capture};
use penstock_e2e::region::{balanced, totals, worker};
use penstock_e2e::wire;
use penstock_e2e::{
    Host, Lab, PHONES, PLANE, Phone, Setup, exchange, lab, meanwhile, meet, phone_at, wait_for,
};
use penstock_shm::counters::Drop;
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// An address that is the kernel's alone.
const SIP: &str = "198.18.0.5";

fn setup() -> Setup {
    let mut setup = Setup::default();
    let exception = "queues = 1\nexception = \"net_tap9,iface=sip0,persist\"\n";
    setup.port = setup.port.replace("queues = 1\n", exception);
    setup
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), port)
}

/// A host that has the kernel's end of the exception port.
fn host(lab: &Lab) -> Host {
    let host = Host::new(lab);
    host.adopt(lab, "sip0");
    host.ip(&format!("addr add {SIP}/16 dev sip0"));
    // Shared with the plane, as where there is but one address.
    host.ip(&format!("addr add {PLANE}/16 dev sip0"));
    host.ip("link set sip0 up");
    // The kernel's end of the phones' tap must not look like the plane.
    lab.ip("link set ps0 address 02:00:00:00:00:99");
    host
}

/// One question and the answer to it, as large.
fn ask(lab: &Lab, service: &UdpSocket, to: SocketAddr, size: usize) {
    let phone = lab.socket(phone_at(0));
    for socket in [&phone, service] {
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
    }
    let question = vec![b'?'; size];
    let mut buf = vec![0; 65_536];
    phone.send_to(&question, to).expect("a question");
    let (n, from) = service
        .recv_from(&mut buf)
        .unwrap_or_else(|e| panic!("{to}: {e}"));
    assert_eq!(buf[..n], question[..]);
    service.send_to(&question, from).expect("an answer");
    let (n, from) = phone
        .recv_from(&mut buf)
        .unwrap_or_else(|e| panic!("from {to}: {e}"));
    assert_eq!((&buf[..n], from), (&question[..], to));
}

#[test]
fn the_kernel_is_reached_through_the_nic_while_a_call_runs() {
    let lab = lab!("exception", setup());
    let _plane = lab.plane();
    let _control = lab.control();
    let host = host(&lab);
    let ng = lab.ng();
    let mut caller = Phone::new(&lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(&lab, phone_at(5000), 0xb);
    let sides = ng.call("call", caller.at(), callee.at());
    meet(&mut caller, sides.caller, &mut callee, sides.callee);
    let media = || exchange(&mut caller, sides.caller, &mut callee, sides.callee);
    meanwhile(media, || {
        for address in [SIP, PLANE] {
            lab.ping(address);
            let service = host.socket(at(address, 5060));
            ask(&lab, &service, at(address, 5060), 400);
            // TCP, both ways of opening it.
            let listener =
                host.inside(|| std::net::TcpListener::bind(at(address, 5061)).expect("a listener"));
            let mut client = lab
                .inside(|| std::net::TcpStream::connect(at(address, 5061)).expect("a connection"));
            let (mut server, _) = listener.accept().expect("a connection");
            client.write_all(&[7; 100_000]).expect("octets");
            drop(client);
            let mut heard = Vec::new();
            server.read_to_end(&mut heard).expect("octets");
            assert_eq!(heard.len(), 100_000);
        }
        let listener =
            lab.inside(|| std::net::TcpListener::bind(at(PHONES, 5062)).expect("a listener"));
        host.inside(|| std::net::TcpStream::connect(at(PHONES, 5062)).expect("a connection"));
        listener.accept().expect("a connection");
        // Fragments reach an address that is the kernel's alone.
        ask(&lab, &host.socket(at(SIP, 5063)), at(SIP, 5063), 4000);
    });
    let (said, answered) = (caller.sent(), callee.sent());
    callee.heard_all(0xa, 1, said);
    caller.heard_all(0xb, 1, answered);

    // Ports where endpoints can be are the plane's alone.
    let greedy = host.socket(at(PLANE, 20_000));
    greedy
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a timeout");
    lab.socket(phone_at(0))
        .send_to(b"media?", at(PLANE, 20_000))
        .expect("a packet");
    assert!(
        greedy.recv(&mut [0; 9]).is_err(),
        "media reached the kernel"
    );
    let totals = lab.balanced();
    assert_eq!(totals.dropped(Drop::NoStream), 1, "{totals:?}");
    assert!(
        totals.to_kernel > 100 && totals.from_kernel > 50,
        "{totals:?}"
    );
}

/// A worker without a queue at the exception port leaves the kernel's packets to the one that has it.
#[test]
fn what_arrives_at_another_worker_reaches_the_kernel_unchanged() {
    let frame = |n: u16| {
        let sent = wire::datagram(
            at(PHONES, n),
            at(SIP, 5060),
            vec![n as u8; usize::from(n) * 10],
        );
        let (vlan, sum) = (n % 3, Sum::Wrong);
        Datagram { vlan, sum, ..sent }.frame()
    };
    let devices = |dir: &std::path::Path, port: &str| Setup {
        port: format!(
            "device = \"net_pcap0{port}\"\nexception = \"net_pcap9,tx_pcap={}\"\n\
             mac = \"02:70:73:00:00:01\"\n[[port.address]]\naddress = \"{PLANE}/16\"\n",
            dir.join("kernel").display()
        ),
        cores: "[0, 1]",
        ..Setup::default()
    };
    let lab = lab!("exception-two");
    let file = |name: &str| lab.dir().join(name);
    for (name, first) in [("odd", 1), ("even", 2)] {
        write_capture(&file(name), (first..=100).step_by(2).map(frame));
    }
    let queues: String = [
        ("rx", "odd"),
        ("rx", "even"),
        ("tx", "out0"),
        ("tx", "out1"),
    ]
    .map(|(way, name)| format!(",{way}_pcap={}", file(name).display()))
    .concat();
    lab.configure(&devices(lab.dir(), &queues));
    let mut plane = lab.plane();
    let table = lab.table();
    let done = wait_for(Duration::from_secs(20), || totals(&table).to_kernel == 100);
    assert!(done, "{:?}", totals(&table));
    let sum = balanced(&table);
    assert_eq!((sum.dropped_at_all(), sum.handed_over), (0, 50));
    assert_eq!(worker(&table, 1).to_kernel, 0);
    plane.stop_well();
    let mut left = read_capture(&file("kernel"));
    let mut all: Vec<_> = (1..=100).map(frame).collect();
    left.sort();
    all.sort();
    assert_eq!(left, all);
}

#[test]
fn without_an_exception_port_all_that_is_dropped() {
    let lab = lab!("no-exception");
    let _plane = lab.plane();
    let phone = lab.socket(phone_at(0));
    phone.send_to(b"sip?", at(PLANE, 5060)).expect("a packet");
    // The phone asks for our MAC first.
    let table = lab.table();
    wait_for(Duration::from_secs(10), || {
        totals(&table).dropped_at_all() > 0
    });
    let totals = lab.balanced();
    assert_eq!(
        (totals.to_kernel, totals.dropped(Drop::NoStream)),
        (0, 1),
        "{totals:?}"
    );
}
