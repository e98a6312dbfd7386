//! The defaults file is the manual, and every mistake gets its sentence.

use penstock_config::{Config, DEFAULTS};
use std::path::Path;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("test.toml")).map_err(|e| e.to_string())
}

/// The smallest file: what has no default.
const LEAST: &str = r#"
[[port]]
name = "media"
device = "net_tap0,iface=penstock0,persist"
[[port.address]]
address = "198.18.0.1/24"
[[control.interface]]
name = "default"
address = "198.18.0.1"
ports = "16384-32767"
"#;

#[test]
fn the_defaults_file_shows_the_defaults() {
    assert_eq!(parse(DEFAULTS).unwrap(), parse(LEAST).unwrap());
}

/// The text of a commented line `# key = value`, or of a commented table's header.
fn commented(line: &str) -> Option<&str> {
    let text = line.strip_prefix("# ")?;
    let is_key = |key: &str| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let is_one =
        text.starts_with("[[") || text.split_once(" = ").is_some_and(|(key, _)| is_key(key));
    is_one.then_some(text)
}

#[test]
fn every_commented_key_is_a_key() {
    // Uncomment each "# key = value" line in turn, where it stands, and each commented table as a whole.
    let lines: Vec<&str> = DEFAULTS.lines().collect();
    let (mut keys, mut tables) = (0, 0);
    let mut i = 0;
    while i < lines.len() {
        let Some(first) = commented(lines[i]) else {
            i += 1;
            continue;
        };
        let is_table = first.starts_with("[[");
        let end = match is_table {
            true => (i..lines.len())
                .find(|&n| lines[n].is_empty())
                .unwrap_or(lines.len()),
            false => i + 1,
        };
        let mut text = lines.clone();
        for line in &mut text[i..end] {
            *line = commented(line).unwrap_or(line);
        }
        parse(&text.join("\n")).unwrap_or_else(|e| panic!("{first}: {e}"));
        *(if is_table { &mut tables } else { &mut keys }) += 1;
        i = end;
    }
    assert_eq!((keys, tables), (10, 2));
}

#[test]
fn mistakes_get_a_sentence() {
    let cases = [
        ("[plane]\ncorse = [1]", "corse"),
        ("[plane]\nburst = 33", "burst is 33"),
        (
            "[plane]\nstun_software = \"p\u{e9}n\"",
            "stun_software must be",
        ),
        ("[plane]\ncores = [1, 1]", "CPU 1 twice"),
        (
            "[control]\nng = \"192.0.2.1:2223\"",
            "[control] ng 192.0.2.1:2223 is not a loopback address, and ng has no authentication: list in allow",
        ),
        (
            "[control]\nng_tcp = [\"127.0.0.1:1\", \"0.0.0.0:2224\"]",
            "[control] ng_tcp 0.0.0.0:2224 is not a loopback address",
        ),
        (
            "[control]\nhttp = \"[::]:8080\"",
            "[control] http [::]:8080 is not a loopback address",
        ),
        (
            "[control]\nng = \"0.0.0.0:2223\"\nallow = [\"192.0.2.0/24\"]",
            "[control] ng 0.0.0.0:2223 is any address",
        ),
        (
            "[control]\nng_tcp = \"127.0.0.1:7\"\nhttp = \"127.0.0.1:7\"",
            "[control] http 127.0.0.1:7 stands twice",
        ),
        ("[control]\nng = []", "neither ng nor ng_tcp nor http"),
        ("[control]\nng = 7", "an address or a list of addresses"),
        ("[control]\nallow = [\"192.0.2.0/33\"]", "is not a network"),
        (
            "[control]\nrequests_per_s = 1000000",
            "requests_per_s is 1000000",
        ),
        ("[control]\ncore = 1", "belongs to a worker"),
        (
            "[[port]]\nname = \"b\"\ndevice = \"net_null0\"",
            "no [[port.address]]",
        ),
        (
            "[[port]]\nname = \"b\"\ndevice = \"net_null0\"\n[[port.address]]\naddress = \"198.18.0.1/16\"",
            "stands twice",
        ),
        (
            "[[port]]\nname = \"b\"\ndevice = \"eth0\"\n[[port.address]]\naddress = \"198.18.1.1/16\"",
            "neither a PCI address",
        ),
        (
            "[[port]]\nname = \"b\"\ndevice = \"net_null0\"\n[[port.address]]\naddress = \"198.18.1.1/24\"\ngateway = \"198.19.1.1\"",
            "gateway 198.19.1.1 is not a neighbour",
        ),
        (
            "[[port]]\nname = \"b\"\ndevice = \"net_null0\"\n[[port.address]]\naddress = \"198.18.1.1/24\"\ngateway = [\"198.18.1.2\", \"198.18.1.2\"]",
            "198.18.1.2 stands twice",
        ),
        (
            "[[port]]\nname = \"b\"\ndevice = \"net_null0\"\n[[port.address]]\naddress = \"198.18.1.1/24\"\ngateway = [\"fe80::1\"]",
            "gateway fe80::1 is not a neighbour",
        ),
        (
            "[[port]]\nname = \"b\"\ndevice = \"net_null0\"\n[[port.address]]\naddress = \"198.18.1.1/24\"\ngateway = 7",
            "an address or a list of addresses",
        ),
        (
            "[[port]]\nname = \"b\"\ndevice = \"net_null0\"\nexception = \"net_tap0,iface=x\"\n[[port.address]]\naddress = \"198.18.1.1/16\"",
            "exception device net_tap0 is another port's",
        ),
        (
            "[[port]]\nname = \"b\"\ndevice = \"net_null0\"\nexception = \"0000:3b:00.0\"\n[[port.address]]\naddress = \"198.18.1.1/16\"",
            "is not a virtual device",
        ),
        (
            "[[port]]\nname = \"b\"\ndevice = \"net_null0\"\nexception_per_s = 10000001\n[[port.address]]\naddress = \"198.18.1.1/16\"",
            "exception_per_s 10000001 is not 0 to 10000000",
        ),
        (
            "[[port.address]]\naddress = \"198.18.1.1/24\"\ndscp = 64",
            "dscp is a number from 0 to 63, or \"copy\"",
        ),
        (
            "[[port.address]]\naddress = \"198.18.1.1/24\"\ndscp = \"keep\"",
            "dscp is a number from 0 to 63, or \"copy\"",
        ),
        (
            "[[port.address]]\naddress = \"198.18.1.1/24\"\nvlan = 5\npcp = 8",
            "pcp 8 is not 0 to 7",
        ),
        (
            "[[port.address]]\naddress = \"198.18.1.1/24\"\npcp = 5",
            "address 198.18.1.1 has pcp 5 but no vlan",
        ),
        ("[[police]]\nmedia = \"audio\"", "number 0 is not 1 to 15"),
        ("[[police]]\nnumber = 16", "number 16 is not 1 to 15"),
        (
            "[[police]]\nnumber = 2\n[[police]]\nnumber = 2",
            "two [[police]] have number 2",
        ),
        (
            "[[police]]\nnumber = 7\npackets_per_s = 1",
            "[[police]] number 7: packets_per_s and packets_burst go together",
        ),
        (
            "[[control.interface]]\nname = \"b\"\naddress = \"198.18.0.9\"\nports = \"4000-4999\"",
            "no [[port]] has the address 198.18.0.9",
        ),
        (
            "[[control.interface]]\nname = \"b\"\naddress = \"198.18.0.1\"\nports = \"30000-40000\"",
            "overlap: both give out ports 30000-32767",
        ),
    ];
    for (extra, want) in cases {
        // [plane] and [control] may stand only once and must come before the array tables' parts.
        let text = if extra.starts_with("[[") {
            format!("{LEAST}\n{extra}")
        } else {
            format!("{extra}\n{LEAST}")
        };
        let error = parse(&text).expect_err(extra);
        assert!(error.contains(want), "{extra}:\n{error}");
        assert!(error.starts_with("test.toml: "), "{error}");
    }
    assert!(parse("").unwrap_err().contains("no [[port]]"));
    assert!(parse("[plane").unwrap_err().contains("test.toml"));
}

#[test]
fn ng_is_answered_at_one_address_or_several() {
    let text = |ng: &str| {
        format!("[control]\nng = {ng}\nallow = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n{LEAST}")
    };
    for (ng, count) in [
        ("\"192.0.2.1:2223\"", 1),
        ("[\"127.0.0.1:2223\", \"[2001:db8::1]:2223\"]", 2),
    ] {
        assert_eq!(parse(&text(ng)).unwrap().control.ng.len(), count);
    }
}

#[test]
fn gateways_are_one_or_a_list() {
    for (gateway, count) in [
        ("\"198.18.0.2\"", 1),
        ("[\"198.18.0.2\", \"198.18.0.3\"]", 2),
        ("[]", 0),
    ] {
        let text = LEAST.replace("/24\"", &format!("/24\"\ngateway = {gateway}"));
        assert_eq!(
            parse(&text).unwrap().ports[0].addresses[0].gateways.len(),
            count
        );
    }
    let text = LEAST.replace("198.18.0.1/24\"", "2001:db8::1/64\"\ngateway = \"fe80::1\"");
    let text = text.replace("198.18.0.1", "2001:db8::1");
    assert_eq!(
        parse(&text).unwrap().ports[0].addresses[0].gateways.len(),
        1
    );
}
