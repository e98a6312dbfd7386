//! What a file can get wrong although every value fits: one sentence per problem.

use crate::{Address, Config, Control, Interface, Limits, Police, Port, Quality};
use std::collections::HashSet;
use std::net::IpAddr;

/// Local addresses that one region has room for.
const MAX_ADDRESSES: usize = 64;
/// Policing profiles' highest number: what a stream's record has room for.
const MAX_POLICE: u8 = 15;

/// Characters of what the plane calls itself.
const MAX_SOFTWARE: usize = 64;

/// Packets a second that a limit can tell apart.
const MAX_EXCEPTION_PER_S: u32 = 10_000_000;

/// The most packets or octets that a policing profile may name: no link carries so many a second.
const MAX_RATE: u64 = 1_000_000_000_000;

/// Gateways of one address: each is asked every second.
const MAX_GATEWAYS: usize = 8;

/// Addresses at which control answers: each has a buffer.
const MAX_DOORS: usize = 16;

/// Networks that may ask: each request is held against all of them.
const MAX_ALLOW: usize = 64;

/// Requests a second that one thread will never answer.
const MAX_REQUESTS_PER_S: u32 = 1_000_000;

pub(crate) fn problems(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    plane(config, &mut found);
    ports(&config.ports, &mut found);
    rules(config, &mut found);
    control(config, &mut found);
    quality(&config.quality, &mut found);
    limits(&config.limits, &mut found);
    found
}

fn limits(limits: &Limits, found: &mut Vec<String>) {
    if !(limits.load >= 0.0 && limits.load.is_finite()) {
        found.push(format!(
            "[limits] load is {}; it must be 0 (no limit) or more",
            limits.load
        ));
    }
    if !(0.0..=100.0).contains(&limits.cpu_percent) {
        found.push(format!(
            "[limits] cpu_percent is {}; it must be 0 (no limit) to 100",
            limits.cpu_percent
        ));
    }
}

fn quality(quality: &Quality, found: &mut Vec<String>) {
    let limits = [
        ("loss_percent", quality.loss_percent, 100.0),
        ("jitter_ms", quality.jitter_ms, 60_000.0),
        ("round_trip_ms", quality.round_trip_ms, 60_000.0),
        ("mos", quality.mos, 5.0),
    ];
    for (key, value, most) in limits {
        if !(0.0..=most).contains(&value) {
            found.push(format!(
                "[quality] {key} is {value}; it must be 0 to {most}"
            ));
        }
    }
}

fn plane(config: &Config, found: &mut Vec<String>) {
    let plane = &config.plane;
    let mut seen = HashSet::new();
    if plane.cores.is_empty() || plane.cores.len() > 31 {
        found.push("[plane] cores must list 1 to 31 CPUs, one per worker".into());
    }
    for core in &plane.cores {
        if !seen.insert(core) {
            found.push(format!(
                "[plane] cores lists CPU {core} twice; name it once"
            ));
        }
    }
    if !matches!(plane.burst, 32 | 64) {
        found.push(format!(
            "[plane] burst is {}; it must be 32 or 64",
            plane.burst
        ));
    }
    if !(64..=1_048_576).contains(&plane.memory_mb) {
        found.push(format!(
            "[plane] memory_mb is {}; it must be 64 or more",
            plane.memory_mb
        ));
    }
    let software = plane.stun_software.as_bytes();
    if software.len() > MAX_SOFTWARE || !software.iter().all(|c| matches!(c, b' '..=b'~')) {
        found.push(format!(
            "[plane] stun_software must be at most {MAX_SOFTWARE} printable ASCII characters"
        ));
    }
    if !(16..=16_777_216).contains(&config.region.streams) {
        found.push(format!(
            "[region] streams is {}; it must be 16 to 16777216",
            config.region.streams
        ));
    }
}

fn ports(ports: &[Port], found: &mut Vec<String>) {
    if ports.is_empty() {
        found.push("no [[port]]: name at least one device that media arrives at".into());
    }
    let mut seen = Seen::default();
    for port in ports {
        devices(port, &mut seen, found);
        numbers(port, found);
        addresses(port, &mut seen, found);
        neighbours(port, found);
    }
    let count: usize = ports.iter().map(|port| port.addresses.len()).sum();
    if count > MAX_ADDRESSES {
        found.push(format!(
            "{count} addresses; a region has room for {MAX_ADDRESSES}"
        ));
    }
}

/// What no two ports may have.
#[derive(Default)]
struct Seen<'a> {
    names: HashSet<&'a str>,
    devices: HashSet<&'a str>,
    addresses: HashSet<(IpAddr, u16)>,
}

fn devices<'a>(port: &'a Port, seen: &mut Seen<'a>, found: &mut Vec<String>) {
    let name = &port.name;
    if !seen.names.insert(name) {
        found.push(format!(
            "two [[port]] are named \"{name}\"; give each its own name"
        ));
    }
    if !seen.devices.insert(port.device.name()) {
        found.push(format!(
            "port \"{name}\": device {} is another port's already",
            port.device.name()
        ));
    }
    let Some(exception) = &port.exception else {
        return;
    };
    if !seen.devices.insert(exception.name()) {
        found.push(format!(
            "port \"{name}\": exception device {} is another port's already",
            exception.name()
        ));
    }
    if !exception.is_virtual() {
        found.push(format!(
            "port \"{name}\": exception {} is not a virtual device (net_tap9,iface=... or net_virtio_user9,path=/dev/vhost-net)",
            exception.as_str()
        ));
    }
}

fn numbers(port: &Port, found: &mut Vec<String>) {
    let name = &port.name;
    if port.exception_per_s > MAX_EXCEPTION_PER_S {
        found.push(format!(
            "port \"{name}\": exception_per_s {} is not 0 to {MAX_EXCEPTION_PER_S}",
            port.exception_per_s
        ));
    }
    if !(576..=9600).contains(&port.mtu) {
        found.push(format!(
            "port \"{name}\": mtu {} is not 576 to 9600",
            port.mtu
        ));
    }
    if !(64..=32_768).contains(&port.descriptors) || !port.descriptors.is_power_of_two() {
        found.push(format!(
            "port \"{name}\": descriptors {} is not a power of two from 64 to 32768",
            port.descriptors
        ));
    }
    if !(1..=32).contains(&port.queues) {
        found.push(format!(
            "port \"{name}\": queues {} is not 1 to 32",
            port.queues
        ));
    }
}

fn addresses(port: &Port, seen: &mut Seen<'_>, found: &mut Vec<String>) {
    let name = &port.name;
    if port.addresses.is_empty() {
        found.push(format!(
            "port \"{name}\" has no [[port.address]]; give it one"
        ));
    }
    for address in &port.addresses {
        let ip = address.address.ip;
        if !seen.addresses.insert((ip, address.vlan)) {
            found.push(format!(
                "port \"{name}\": address {ip} (VLAN {}) stands twice; overlapping addresses need different VLANs",
                address.vlan
            ));
        }
        if address.vlan > 4094 {
            found.push(format!(
                "port \"{name}\": vlan {} is not 0 to 4094",
                address.vlan
            ));
        }
        if address.pcp > 7 {
            found.push(format!(
                "port \"{name}\": pcp {} is not 0 to 7",
                address.pcp
            ));
        }
        if address.pcp != 0 && address.vlan == 0 {
            found.push(format!(
                "port \"{name}\": address {ip} has pcp {} but no vlan; frames without a tag have no priority",
                address.pcp
            ));
        }
        gateways(name, address, found);
    }
}

fn neighbours(port: &Port, found: &mut Vec<String>) {
    for neighbour in &port.neighbours {
        let on_link =
            |a: &Address| a.vlan == neighbour.vlan && a.address.contains(neighbour.address);
        if !port.addresses.iter().any(on_link) {
            found.push(format!(
                "port \"{}\": neighbour {} (VLAN {}) is on none of the port's networks",
                port.name, neighbour.address, neighbour.vlan
            ));
        }
    }
}

fn rules(config: &Config, found: &mut Vec<String>) {
    let learning = &config.learning;
    if !(1..=60_000).contains(&learning.window_ms) {
        found.push(format!(
            "[learning] window_ms {} is not 1 to 60000",
            learning.window_ms
        ));
    }
    if !(1..=1_000_000).contains(&learning.window_packets) {
        found.push(format!(
            "[learning] window_packets {} is not 1 to 1000000",
            learning.window_packets
        ));
    }
    if config.sources.unknown_ports_per_s == 0 {
        found.push("[sources] unknown_ports_per_s must be 1 or more".into());
    }
    police(&config.police, found);
}

fn police(profiles: &[Police], found: &mut Vec<String>) {
    let mut numbers = HashSet::new();
    for police in profiles {
        let number = police.number;
        if !(1..=MAX_POLICE).contains(&number) {
            found.push(format!(
                "[[police]] number {number} is not 1 to {MAX_POLICE}; give each profile a number of its own"
            ));
        }
        if !numbers.insert(number) {
            found.push(format!(
                "two [[police]] have number {number}; give each its own"
            ));
        }
        let mut pair = |rate: u64, burst: u64, what: &str| {
            if (rate == 0) != (burst == 0) {
                found.push(format!(
                    "[[police]] number {number}: {what}_per_s and {what}_burst go together"
                ));
            }
        };
        pair(police.packets_per_s, police.packets_burst, "packets");
        pair(police.bytes_per_s, police.bytes_burst, "bytes");
        for (key, value, most) in [
            ("packets_per_s", police.packets_per_s, MAX_RATE),
            ("packets_burst", police.packets_burst, MAX_RATE),
            ("bytes_per_s", police.bytes_per_s, MAX_RATE),
            ("bytes_burst", police.bytes_burst, MAX_RATE),
            ("peak_packets_per_s", police.peak_packets_per_s, MAX_RATE),
            ("peak_bytes_per_s", police.peak_bytes_per_s, MAX_RATE),
            ("tolerance_ms", police.tolerance_ms, 60_000),
        ] {
            if value > most {
                found.push(format!(
                    "[[police]] number {number}: {key} is {value}; it must be {most} or less"
                ));
            }
        }
        if police.bytes_burst != 0 && police.bytes_burst < 1500 {
            found.push(format!(
                "[[police]] number {number}: bytes_burst {} is less than one packet; make it 1500 or more",
                police.bytes_burst
            ));
        }
    }
}

fn gateways(port: &str, address: &Address, found: &mut Vec<String>) {
    let ip = address.address.ip;
    for (i, &gateway) in address.gateways.iter().enumerate() {
        let is_link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let on_link = address.address.contains(gateway) || is_link_local && ip.is_ipv6();
        if !on_link || gateway == ip {
            found.push(format!(
                "port \"{port}\": gateway {gateway} is not a neighbour on {}",
                address.address
            ));
        }
        if address.gateways[..i].contains(&gateway) {
            found.push(format!(
                "port \"{port}\": gateway {gateway} stands twice at {ip}"
            ));
        }
    }
    if address.gateways.len() > MAX_GATEWAYS {
        found.push(format!(
            "port \"{port}\": {} gateways at {ip}; {MAX_GATEWAYS} are enough",
            address.gateways.len()
        ));
    }
}

fn control(config: &Config, found: &mut Vec<String>) {
    let control = &config.control;
    doors(control, found);
    if control.interfaces.is_empty() {
        found.push("no [[control.interface]]: calls need an address and a range of ports".into());
    }
    if let Some(core) = control.core.filter(|c| config.plane.cores.contains(c)) {
        found.push(format!(
            "[control] core {core} belongs to a worker; choose one that is not in [plane] cores"
        ));
    }
    let mut names = HashSet::new();
    for (i, interface) in control.interfaces.iter().enumerate() {
        let name = &interface.name;
        if !names.insert((name, interface.address, interface.vlan)) {
            found.push(format!(
                "two [[control.interface]] are named \"{name}\" and have the address {}",
                interface.address
            ));
        }
        if !has_address(&config.ports, interface.address, interface.vlan) {
            found.push(format!(
                "interface \"{name}\": no [[port]] has the address {} (VLAN {})",
                interface.address, interface.vlan
            ));
        }
        if interface
            .advertise
            .is_some_and(|a| a.is_ipv4() != interface.address.is_ipv4())
        {
            found.push(format!(
                "interface \"{name}\": advertise and address must be of one family"
            ));
        }
        if let Some(other) = control.interfaces[..i]
            .iter()
            .find(|o| overlap(o, interface))
        {
            found.push(format!(
                "interfaces \"{}\" and \"{name}\" overlap: both give out ports {}-{} of {}",
                other.name,
                interface.ports.first.max(other.ports.first),
                interface.ports.last.min(other.ports.last),
                interface.address
            ));
        }
    }
}

/// Where ng is answered, and whom.
fn doors(control: &Control, found: &mut Vec<String>) {
    let udp = control.ng.iter().map(|at| ("ng", at));
    let tcp = control.ng_tcp.iter().map(|at| ("ng_tcp", at));
    let http = control.http.iter().map(|at| ("http", at));
    let doors: Vec<_> = udp.chain(tcp).chain(http).collect();
    if doors.is_empty() {
        found.push("[control] has neither ng nor ng_tcp nor http: name an address".into());
    }
    if doors.len() > MAX_DOORS {
        found.push(format!(
            "[control] ng, ng_tcp and http list {} addresses; {MAX_DOORS} are enough",
            doors.len()
        ));
    }
    let mut seen = HashSet::new();
    for (key, at) in doors {
        if !seen.insert((key == "ng", at)) {
            found.push(format!("[control] {key} {at} stands twice; name it once"));
        }
        if key == "ng" && at.ip().is_unspecified() {
            found.push(format!(
                "[control] ng {at} is any address, and a reply must leave from the one that was asked: list the addresses"
            ));
        }
        if !at.ip().is_loopback() && control.allow.is_empty() {
            found.push(format!(
                "[control] {key} {at} is not a loopback address, and ng has no authentication: list in allow who may ask (allow = [\"192.0.2.0/24\"])"
            ));
        }
    }
    if control.allow.len() > MAX_ALLOW {
        found.push(format!(
            "[control] allow lists {} networks; {MAX_ALLOW} are enough",
            control.allow.len()
        ));
    }
    if let Some(rate @ MAX_REQUESTS_PER_S..) = control.requests_per_s {
        found.push(format!(
            "[control] requests_per_s is {rate}; it must be below {MAX_REQUESTS_PER_S}, or 0 for any number"
        ));
    }
}

fn has_address(ports: &[Port], ip: IpAddr, vlan: u16) -> bool {
    ports
        .iter()
        .flat_map(|p| &p.addresses)
        .any(|a| a.address.ip == ip && a.vlan == vlan)
}

fn overlap(a: &Interface, b: &Interface) -> bool {
    a.address == b.address
        && a.vlan == b.vlan
        && a.ports.first <= b.ports.last
        && b.ports.first <= a.ports.last
}
