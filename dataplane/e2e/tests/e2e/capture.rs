//! `penstock capture`: what is in the file, who may end it, and what it does not disturb.

use penstock_e2e::region::{live, stream};
use penstock_e2e::{
    Daemon, Lab, Phone, Sides, Signal, converse, exchange, lab, meanwhile, phone_at, rtcp,
    rtcp_packet, rtp_packet, run, sdp, wait_for,
};
use penstock_shm::TableView;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Ten times what it should take until copies begin or end.
const SOON: Duration = Duration::from_secs(5);

/// A packet of a capture, as tshark sees it.
#[derive(Debug)]
struct Seen {
    interface: String,
    time: f64,
    from: SocketAddr,
    to: SocketAddr,
    /// Both checksums are right, as tshark says: 1 for good.
    sums: [String; 2],
    payload: Vec<u8>,
}

fn tshark(path: &Path) -> Vec<Seen> {
    let path = path.to_string_lossy();
    let mut args = vec!["-n", "-r", &path, "-T", "fields"];
    args.extend([
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "udp.check_checksum:TRUE",
    ]);
    let fields = "frame.interface_name frame.time_epoch ip.src udp.srcport ip.dst udp.dstport \
                  ip.checksum.status udp.checksum.status udp.payload";
    args.extend(fields.split_whitespace().flat_map(|field| ["-e", field]));
    run("tshark", &args).lines().map(seen).collect()
}

fn seen(line: &str) -> Seen {
    let fields: Vec<&str> = line.split('\t').collect();
    let at = |ip: usize| {
        let text = format!("{}:{}", fields[ip], fields[ip + 1]);
        text.parse().unwrap_or_else(|e| panic!("{e}: {line}"))
    };
    let digits = fields[8].replace(':', "");
    let octet = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    Seen {
        interface: fields[0].to_owned(),
        time: fields[1].parse().expect("a time"),
        from: at(2),
        to: at(4),
        sums: [fields[6].to_owned(), fields[7].to_owned()],
        payload: (0..digits.len()).step_by(2).map(octet).collect(),
    }
}

/// A capture under way, and its file.
fn start(lab: &Lab, call: &str, file: &str, more: &[&str]) -> (Daemon, PathBuf) {
    let path = lab.dir().join(file);
    let name = path.to_string_lossy().into_owned();
    let args = [&["capture", "--call", call, "-w", &name], more].concat();
    (lab.penstock_start(&args), path)
}

/// Waits until copies are made of all streams, or of none.
fn captured(table: &TableView, on: bool) -> bool {
    wait_for(SOON, || {
        let streams = live(table);
        !streams.is_empty() && streams.iter().all(|stream| stream.policy.capture == on)
    })
}

/// Waits until so many captures have begun: the second one of a call changes no stream.
fn begun(control: &Daemon, captures: usize) -> bool {
    wait_for(SOON, || {
        control.log().matches(" begins").count() == captures
    })
}

/// SIGINT; the capture ends well, and says how it went.
fn stop(mut capture: Daemon) -> String {
    let code = capture.stop(Signal::INT).and_then(|status| status.code());
    assert_eq!(code, Some(0), "{}", capture.log());
    capture.log()
}

/// Two phones that talk, with their sources locked.
fn talk(lab: &Lab, call: &str) -> (Phone, Phone, Sides) {
    let mut caller = Phone::new(lab, phone_at(4000), 0xa);
    let mut callee = Phone::new(lab, phone_at(5000), 0xb);
    let sides = lab.ng().call(call, caller.at(), callee.at());
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 20);
    (caller, callee, sides)
}

/// The packets that went this way are exactly these, in order, with right checksums.
fn check(all: &[Seen], interface: &str, from: SocketAddr, to: SocketAddr, expected: &[Vec<u8>]) {
    let is_it = |seen: &&Seen| (&*seen.interface, seen.from, seen.to) == (interface, from, to);
    let found: Vec<_> = all.iter().filter(is_it).collect();
    let same = found
        .iter()
        .zip(expected)
        .all(|(seen, packet)| seen.payload == *packet);
    assert!(
        same && found.len() == expected.len(),
        "{} of {} at {interface} from {from} to {to}",
        found.len(),
        expected.len()
    );
    assert!(
        found.iter().all(|seen| seen.sums == ["1", "1"]),
        "{interface} from {from}: {:?}",
        found.iter().map(|seen| &seen.sums).collect::<Vec<_>>()
    );
}

#[test]
fn the_file_has_each_packet_once_as_it_came_and_as_it_left() {
    let lab = lab!("capture");
    let _plane = lab.plane();
    let control = lab.control();
    let table = lab.table();
    let began = SystemTime::now();
    let (mut caller, mut callee, sides) = talk(&lab, "one");
    let mut caller_rtcp = Phone::new(&lab, phone_at(4001), 0xa);
    let stranger = Phone::new(&lab, phone_at(6000), 0xc);
    // Another call beside it, of which nothing may be seen.
    let mut beside =
        [(7000, 0x7), (7100, 0x8)].map(|(at, ssrc)| Phone::new(&lab, phone_at(at), ssrc));
    let [left, right] = &mut beside;
    let other = lab.ng().call("two", left.at(), right.at());

    let (capture, path) = start(&lab, "one", "both.pcap", &[]);
    let (second, ingress) = start(&lab, "one", "ingress.pcap", &["--at", "ingress"]);
    let both_began = wait_for(SOON, || {
        let on = |at| stream(&table, at).is_some_and(|stream| stream.policy.capture);
        on(sides.caller) && on(rtcp(sides.caller)) && on(sides.callee) && on(rtcp(sides.callee))
    });
    assert!(both_began);
    assert!(
        !stream(&table, other.caller)
            .expect("the stream")
            .policy
            .capture
    );
    assert!(begun(&control, 2));
    for n in 1..=10 {
        stranger.send(&rtp_packet(0xc, n), sides.caller);
        caller_rtcp.report(rtcp(sides.caller));
    }
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 100);
    converse(left, other.caller, right, other.callee, 20);
    callee.heard_all(0xa, 1, 120);
    caller.heard_all(0xb, 1, 120);
    lab.balanced();
    let (said, _) = (stop(capture), stop(second));
    assert!(
        said.contains("430 packets") && said.contains(" 0 copies lost"),
        "{said}"
    );
    assert!(captured(&table, false));

    let all = tshark(&path);
    let rtp = |ssrc| -> Vec<_> { (21..=120).map(|seq| rtp_packet(ssrc, seq)).collect() };
    let reports: Vec<_> = (1..=10).map(|n| rtcp_packet(0xa, n)).collect();
    let strange: Vec<_> = (1..=10).map(|n| rtp_packet(0xc, n)).collect();
    check(&all, "ingress", caller.at(), sides.caller, &rtp(0xa));
    check(&all, "ingress", callee.at(), sides.callee, &rtp(0xb));
    check(&all, "egress", sides.callee, callee.at(), &rtp(0xa));
    check(&all, "egress", sides.caller, caller.at(), &rtp(0xb));
    check(
        &all,
        "ingress",
        caller_rtcp.at(),
        rtcp(sides.caller),
        &reports,
    );
    check(&all, "egress", rtcp(sides.callee), phone_at(5001), &reports);
    // Dropped, and seen all the same.
    check(&all, "ingress", stranger.at(), sides.caller, &strange);
    assert_eq!(all.len(), 4 * 100 + 2 * 10 + 10);
    let date = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .expect("a date")
            .as_secs_f64()
    };
    let times: Vec<f64> = all.iter().map(|seen| seen.time).collect();
    assert!(times.is_sorted());
    assert!(times[0] > date(began) && times[times.len() - 1] < date(SystemTime::now()));
    let mode = std::fs::metadata(&path)
        .expect("the file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let came = tshark(&ingress);
    let first: Vec<_> = all
        .iter()
        .filter(|seen| seen.interface == "ingress")
        .collect();
    assert!(
        came.iter()
            .map(|seen| &seen.payload)
            .eq(first.iter().map(|seen| &seen.payload))
    );
}

#[test]
fn it_ends_with_whoever_asked_and_with_the_call() {
    let lab = lab!("capture-ends");
    let plane = lab.plane();
    let control = lab.control();
    let table = lab.table();
    let (mut caller, mut callee, sides) = talk(&lab, "one");

    let (first, _) = start(&lab, "one", "first", &[]);
    let (second, _) = start(&lab, "one", "second", &[]);
    assert!(begun(&control, 2));
    first.kill();
    assert!(wait_for(SOON, || control.log().contains(" ends")));
    assert!(captured(&table, true), "the other one still runs");
    second.kill();
    assert!(captured(&table, false), "copies for nobody");

    // What the call gets later is captured too.
    let (capture, path) = start(&lab, "one", "third", &[]);
    assert!(captured(&table, true));
    let more = |phone: &Phone| {
        let video = phone.at().port() + 20;
        format!(
            "{}m=video {video} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n",
            sdp(phone.at())
        )
    };
    let ng = lab.ng();
    assert_eq!(ng.offer_sdp("one", &more(&caller)), Ok(sides.callee));
    assert_eq!(ng.answer_sdp("one", &more(&callee)), Ok(sides.caller));
    assert_eq!(live(&table).len(), 8);
    assert!(captured(&table, true));

    // It outlives the plane.
    plane.kill();
    let plane = lab.plane();
    assert!(captured(&lab.table(), true));
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 20);
    let before = lab.balanced();
    converse(&mut caller, sides.caller, &mut callee, sides.callee, 50);
    let after = lab.balanced();
    assert_eq!(after.forwarded - before.forwarded, 100);
    stop(capture);
    assert!(captured(&lab.table(), false));
    let last = rtp_packet(0xa, caller.sent());
    let found = tshark(&path)
        .into_iter()
        .filter(|seen| seen.payload == last);
    assert_eq!(found.count(), 2, "as it came and as it left");

    // It ends with control, and no copies are left on.
    let table = lab.table();
    let (mut capture, _) = start(&lab, "one", "fourth", &[]);
    assert!(captured(&table, true));
    control.kill();
    let code = capture.ended(SOON).and_then(|status| status.code());
    assert_eq!(code, Some(1));
    assert!(
        capture.log().contains("penstock-control has gone"),
        "{}",
        capture.log()
    );
    let _control = lab.control();
    assert!(
        captured(&table, false),
        "the next control knows of no capture"
    );

    let (mut capture, _) = start(&lab, "one", "fifth", &[]);
    assert!(captured(&table, true));
    lab.ng().delete("one");
    let code = capture.ended(SOON).and_then(|status| status.code());
    assert_eq!(code, Some(0), "{}", capture.log());
    assert!(
        capture.log().contains("the call has ended"),
        "{}",
        capture.log()
    );
    drop(plane);
}

#[test]
fn it_can_be_piped_and_limited_and_says_what_is_wrong() {
    let lab = lab!("capture-pipe");
    let _plane = lab.plane();
    let _control = lab.control();
    let (mut caller, mut callee, sides) = talk(&lab, "one");
    let config = lab.config().to_string_lossy().into_owned();
    let penstock = penstock_e2e::binary("penstock")
        .to_string_lossy()
        .into_owned();
    let pipe = |more: &str| {
        let command = format!(
            "{penstock} --config {config} capture --call one -w - {more} | tshark -n -r - -T fields -e udp.payload"
        );
        lab.run("sh", &["-c", &command])
    };
    let media = || exchange(&mut caller, sides.caller, &mut callee, sides.callee);
    let [by_packets, by_seconds] = meanwhile(media, || {
        [pipe("--packets 40"), pipe("--seconds 1 --at egress")]
    });
    assert_eq!((by_packets.0, by_packets.1.lines().count()), (Some(0), 40));
    assert!(by_packets.2.contains("40 packets"), "{}", by_packets.2);
    assert!(by_seconds.1.lines().count() > 40, "{}", by_seconds.2);

    let fails = |args: &[&str], sentence: &str| {
        let (code, _, err) = lab.penstock(&[&["capture"], args].concat());
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(sentence), "{err}");
        assert_eq!(err.trim_end().lines().count(), 1, "{err}");
    };
    let file = lab.dir().join("file").to_string_lossy().into_owned();
    fails(
        &["--call", "none", "-w", &file],
        "there is no call \"none\"",
    );
    fails(
        &["--call", "one", "-w", "/no/such/folder"],
        "cannot write /no/such/folder",
    );
    lab.edit("control.sock", "other.sock");
    fails(&["--call", "one", "-w", &file], "is it running");
}
