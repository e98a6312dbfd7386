//! The same requests go to Penstock and to Debian's rtpengine, and the answers are compared.
//!
//! What the two are asked is in `corpus/`, what may differ and why in `accepted.txt`, what differs and
//! must not in `open.txt`. A case in neither has to be answered alike; a case in either that is answered alike fails
//! too. `DIFFERENTIAL=TEXT` shows both answers of each case whose name has that text; `DIFFERENTIAL=write` writes
//! `open.txt` anew.

mod client;
mod corpus;
mod normal;
mod rules;
mod spelling;

use client::Client;
use corpus::Case;
use normal::{Names, PORTS};
use penstock_e2e::{Daemon, Lab, Setup, skip, unable, wait_for};
use rules::{Accepted, Rule};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Addresses of the logical interfaces internal and external.
const ADDRESSES: [(&str, &str, &str); 2] = [
    ("internal", "198.18.0.1", "fd00:18::1"),
    ("external", "198.19.0.1", "fd00:19::1"),
];

/// Where Penstock and rtpengine listen.
const NG: [&str; 2] = ["127.0.0.1:2223", "127.0.0.1:2224"];

/// Both servers in a namespace: the plane has a device of its own, rtpengine the kernel's loopback.
struct Both {
    penstock: Client,
    rtpengine: Client,
    _daemons: [Daemon; 3],
    _lab: Lab,
}

/// What the two said to one step.
struct Answers {
    step: String,
    /// All bodies of the case so far.
    sent: String,
    /// The body of this step.
    body: String,
    theirs: Vec<String>,
    ours: Vec<String>,
    /// What rtpengine said to the same in its own spelling, where it does not know the case's.
    respelled: Option<Vec<String>>,
}

fn setup() -> Setup {
    let mut port = String::from("device = \"net_null0,no-rx=1\"\nmac = \"02:70:73:00:00:01\"\n");
    for (_, four, six) in ADDRESSES {
        let gateway = four.replace(".0.1", ".0.254");
        let _ = write!(
            port,
            "[[port.address]]\naddress = \"{four}/16\"\ngateway = \"{gateway}\"\n"
        );
        let gateway = six.replace("::1", "::fe");
        let _ = write!(
            port,
            "[[port.address]]\naddress = \"{six}/64\"\ngateway = \"{gateway}\"\n"
        );
    }
    let [(_, _, internal6), (_, external, external6)] = ADDRESSES;
    let more = [
        ("internal", internal6),
        ("external", external),
        ("external", external6),
    ];
    for (name, address) in more {
        let (first, last) = (PORTS.start(), PORTS.end());
        let _ = write!(
            port,
            "[[control.interface]]\nname = \"{name}\"\naddress = \"{address}\"\nports = \"{first}-{last}\"\n"
        );
    }
    Setup {
        ports: "30000-39999",
        port,
        ..Setup::default()
    }
}

impl Both {
    fn start(lab: Lab) -> Both {
        lab.edit("name = \"default\"", "name = \"internal\"");
        let mut args = vec![
            "rtpengine".to_owned(),
            "--foreground".into(),
            "--log-stderr".into(),
            "--log-level=3".into(),
            "--config-file=none".into(),
            "--table=-1".into(),
            "--num-threads=1".into(),
            // As Penstock's default.
            "--delete-delay=0".into(),
            format!("--listen-ng={}", NG[1]),
            format!("--port-min={}", PORTS.start()),
            format!("--port-max={}", PORTS.end()),
            format!("--pidfile={}", lab.dir().join("rtpengine.pid").display()),
        ];
        for (name, four, six) in ADDRESSES {
            for address in [four, six] {
                let bits = if address == four { 32 } else { 128 };
                lab.ip(&format!("addr add {address}/{bits} dev lo"));
                args.push(format!("--interface={name}/{address}"));
            }
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let rtpengine = lab.program(&args);
        let plane = lab.plane();
        let control = lab.control();
        let client = |at: &str| {
            let socket = lab.socket(SocketAddr::from(([127, 0, 0, 1], 0)));
            Client::new(socket, at.parse().expect("an address"))
        };
        let (penstock, mut other) = (client(NG[0]), client(NG[1]));
        let ping = Map::from_iter([("command".to_owned(), json!("ping"))]);
        assert!(wait_for(Duration::from_secs(10), || {
            other.ask(&ping)["result"] == "pong"
        }));
        Both {
            penstock,
            rtpengine: other,
            _daemons: [rtpengine, plane, control],
            _lab: lab,
        }
    }

    /// The case's requests to both, and the call's end.
    fn answers(&mut self, number: usize, case: &Case) -> Vec<Answers> {
        let mut names = [Names::default(), Names::default(), Names::default()];
        let mut is_respelled = false;
        let call = json!(format!("call-{number}"));
        let mut sent = String::new();
        let mut all = Vec::new();
        for step in &case.steps {
            let mut request = step.request.clone();
            if !matches!(request["command"].as_str(), Some("ping" | "list")) {
                request.entry("call-id").or_insert_with(|| call.clone());
            }
            if request.get("call-id") == Some(&json!("none")) {
                request.remove("call-id");
            }
            let sdp = request.get("sdp").and_then(Value::as_str);
            let sdp = sdp.unwrap_or_default().to_owned();
            sent.push_str(&sdp);
            names.iter_mut().for_each(|names| names.sent(&sdp));
            let [theirs, ours, respelled] = &mut names;
            let spelled = spelling::of_10_5(&request);
            is_respelled |= spelled.is_some();
            // In a call of its own, with all that came before.
            let mut spelled = spelled.unwrap_or_else(|| request.clone());
            if spelled.get("call-id") == Some(&call) {
                spelled.insert("call-id".to_owned(), json!(format!("spelled-{number}")));
            }
            all.push(Answers {
                step: step.text.clone(),
                sent: sent.clone(),
                body: sdp,
                theirs: theirs.lines(&self.rtpengine.ask(&request)),
                ours: ours.lines(&self.penstock.ask(&request)),
                respelled: Some(respelled.lines(&self.rtpengine.ask(&spelled))),
            });
        }
        if !is_respelled {
            all.iter_mut().for_each(|answers| answers.respelled = None);
        }
        let end = json!({"command": "delete", "call-id": call, "flags": ["fast"]});
        let end = end.as_object().expect("a request");
        self.rtpengine.ask(end);
        self.penstock.ask(end);
        let mut end = end.clone();
        end.insert("call-id".to_owned(), json!(format!("spelled-{number}")));
        self.rtpengine.ask(&end);
        all
    }
}

/// Whether the two say the same, as these rules see it.
fn alike(rules: &[Rule], answers: &[Answers]) -> bool {
    answers.iter().all(|a| {
        let [theirs, ours] = rules::apply(rules, a);
        theirs == ours
    })
}

/// Lines of one that the other lacks, marked `-` (rtpengine) and `+` (Penstock), among those of both.
fn compare(theirs: &[String], ours: &[String]) -> Vec<String> {
    let (n, m) = (theirs.len(), ours.len());
    let mut common = vec![vec![0; m + 1]; n + 1];
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            common[i][j] = match theirs[i] == ours[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    while i < n || j < m {
        if i < n && j < m && theirs[i] == ours[j] {
            out.push(format!("  {}", ours[j]));
            (i, j) = (i + 1, j + 1);
        } else if j == m || (i < n && common[i + 1][j] >= common[i][j + 1]) {
            out.push(format!("- {}", theirs[i]));
            i += 1;
        } else {
            out.push(format!("+ {}", ours[j]));
            j += 1;
        }
    }
    out
}

/// Steps and what differs in them; with `whole`, the lines that do not differ too.
fn show(rules: &[Rule], answers: &[Answers], whole: bool) -> Vec<String> {
    let mut out = Vec::new();
    for a in answers {
        let [theirs, ours] = rules::apply(rules, a);
        let differs = theirs != ours;
        if whole || differs {
            out.push(format!("    {}", a.step));
            let lines = compare(&theirs, &ours).into_iter();
            let lines = lines.filter(|line| whole || !line.starts_with(' '));
            out.extend(lines.map(|line| format!("        {line}")));
        }
    }
    out
}

/// Whether answers that both gave differ in what may only differ where the description of the protocol demands it.
fn is_guarded(rules: &[Rule], answers: &[Answers]) -> bool {
    const GUARDED: [&str; 10] = [
        "m=",
        "c=",
        "a=send",
        "a=recv",
        "a=inact",
        "a=rtcp:",
        "a=rtcp-mux",
        "a=ice-",
        "a=candidate",
        "a=end-of",
    ];
    let guarded = |lines: &[String]| -> Vec<String> {
        let lines = lines.iter().map(|line| normal::without_end(line));
        lines
            .filter(|line| GUARDED.iter().any(|start| line.starts_with(start)))
            .map(str::to_owned)
            .collect()
    };
    answers.iter().any(|a| {
        let [theirs, ours] = rules::apply(rules, a);
        theirs.first() == ours.first() && guarded(&theirs) != guarded(&ours)
    })
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential")
}

/// What is wrong with the lists, given how each case was answered.
fn judge(cases: &[(Case, Vec<Answers>)], accepted: &Accepted, open: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    let names: BTreeSet<&str> = cases.iter().map(|(case, _)| case.name.as_str()).collect();
    let listed = accepted.cases.keys().chain(open);
    for name in listed.filter(|name| !names.contains(name.as_str())) {
        wrong.push(format!("{name}: listed, but there is no such case"));
    }
    for (case, answers) in cases {
        let name = &case.name;
        let reason = accepted.cases.get(name);
        let is_open = open.contains(name);
        if alike(&accepted.rules, answers) {
            if reason.is_some() || is_open {
                wrong.push(format!(
                    "{name}: listed, but no longer differs (DIFFERENTIAL=write mends open.txt)"
                ));
            }
            continue;
        }
        let shown = show(&accepted.rules, answers, false);
        match reason {
            Some(reason) if is_guarded(&accepted.rules, answers) && !reason.contains("ng.md") => wrong.push(format!(
                "{name}: accepted, but media, direction, RTCP or ICE differ without ng.md's demand:\n{}",
                shown.join("\n")
            )),
            None if !is_open => wrong.push(format!("{name}: differs\n{}", shown.join("\n"))),
            _ => {}
        }
    }
    for rule in &accepted.rules {
        let others = accepted.rules.iter().copied().filter(|r| r != rule);
        let others: Vec<Rule> = others.collect();
        let needed = |answers| alike(&accepted.rules, answers) && !alike(&others, answers);
        if !cases.iter().any(|(_, answers)| needed(answers)) {
            wrong.push(format!("rule {}: no case needs it", rule.name()));
        }
    }
    wrong
}

/// The names of the cases that differ and are not accepted.
fn write_open(path: &Path, cases: &[(Case, Vec<Answers>)], accepted: &Accepted) {
    let mut text = String::from(
        "# Cases that Penstock answers otherwise than rtpengine, and should not: to be mended. Written anew by\n\
         #     DIFFERENTIAL=write cargo test -p penstock-e2e --test differential\n",
    );
    for (case, answers) in cases {
        if !alike(&accepted.rules, answers) && !accepted.cases.contains_key(&case.name) {
            text.push_str(&case.name);
            text.push('\n');
        }
    }
    std::fs::write(path, text).expect("open.txt");
}

#[test]
fn answers_are_those_of_rtpengine() {
    let version = Command::new("rtpengine").arg("--version").output();
    let why = unable().or_else(|| {
        version
            .is_err()
            .then(|| "rtpengine is not installed".into())
    });
    if let Some(why) = why {
        return skip("differential", &why);
    }
    let corpus = corpus::read(&folder().join("corpus"));
    assert!(corpus.len() >= 300, "{} cases", corpus.len());
    let accepted = rules::accepted(&folder().join("accepted.txt"));
    let open_list = folder().join("open.txt");
    assert!(
        accepted.cases.len() * 20 <= corpus.len(),
        "more than 5 % are accepted"
    );

    let mut both = Both::start(Lab::new("differential", setup()));
    let cases: Vec<(Case, Vec<Answers>)> = corpus
        .into_iter()
        .enumerate()
        .map(|(number, case)| {
            let answers = both.answers(number, &case);
            (case, answers)
        })
        .collect();
    drop(both);

    match std::env::var("DIFFERENTIAL").ok().as_deref() {
        Some("write") => write_open(&open_list, &cases, &accepted),
        Some(text) => {
            let wanted = cases.iter().filter(|(case, _)| case.name.contains(text));
            for (case, answers) in wanted {
                println!(
                    "{}\n{}\n",
                    case.name,
                    show(&accepted.rules, answers, true).join("\n")
                );
            }
        }
        None => {}
    }
    let open = rules::open(&open_list);
    let wrong = judge(&cases, &accepted, &open);
    println!(
        "{} cases: {} alike, {} accepted, {} open",
        cases.len(),
        cases
            .iter()
            .filter(|(_, a)| alike(&accepted.rules, a))
            .count(),
        accepted.cases.len(),
        open.len()
    );
    assert!(
        wrong.is_empty(),
        "{}\n\n{} in all",
        wrong.join("\n"),
        wrong.len()
    );
}

/// Lists are held to what was answered: in neither, in one without need, and accepted without the right to be.
#[test]
fn lists_that_are_not_true_are_found() {
    let case = |name: &str, theirs: &str, ours: &str| {
        let lines = |text: &str| vec!["result: ok".to_owned(), text.to_owned()];
        let answers = Answers {
            step: "offer".into(),
            sent: String::new(),
            body: String::new(),
            theirs: lines(theirs),
            ours: lines(ours),
            respelled: None,
        };
        let case = Case {
            name: name.into(),
            steps: Vec::new(),
        };
        (case, vec![answers])
    };
    let accepted = |name: &str, reason: &str| Accepted {
        rules: Vec::new(),
        cases: [(name.to_owned(), reason.to_owned())].into(),
    };
    let none = Accepted::default();
    let open = ["x".to_owned()];
    let same = [case("x", "a=foo", "a=foo")];
    let other = [case("x", "a=foo", "a=bar")];
    let guarded = [case("x", "a=sendrecv", "a=inactive")];

    assert!(judge(&same, &none, &[]).is_empty());
    assert!(judge(&other, &none, &open).is_empty());
    assert!(judge(&other, &accepted("x", "so"), &[]).is_empty());
    assert!(judge(&guarded, &accepted("x", "ng.md says so"), &[]).is_empty());
    for (cases, accepted, open) in [
        (&other, &none, &[][..]),
        (&same, &none, &open[..]),
        (&same, &accepted("x", "so"), &[]),
        (&guarded, &accepted("x", "so"), &[]),
        (&same, &accepted("y", "so"), &[]),
    ] {
        assert_eq!(judge(cases, accepted, open).len(), 1);
    }
    let unused = Accepted {
        rules: vec![Rule::Keys],
        cases: Default::default(),
    };
    assert_eq!(judge(&same, &unused, &[]).len(), 1);
}
