//! The differences that are accepted: rules for a class of lines, and single cases.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A class of differences that `accepted.txt` may name. What each does is in [`apply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A connection line of the session part is one of each section's instead.
    MediaConnection,
    /// Lines of a section that are passed on may stand anywhere among those that are made anew.
    WhereTheyStood,
    /// Keys are the other side's own, not the relay's.
    Keys,
}

impl Rule {
    const ALL: [(Rule, &'static str); 3] = [
        (Rule::MediaConnection, "media-connection"),
        (Rule::WhereTheyStood, "where-they-stood"),
        (Rule::Keys, "keys"),
    ];

    /// As it is written in `accepted.txt`.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(rule, _)| *rule == self);
        found.map_or("", |(_, name)| name)
    }
}

/// What `accepted.txt` says.
#[derive(Default)]
pub struct Accepted {
    /// Rules in force.
    pub rules: Vec<Rule>,
    /// Cases by name, with the reason.
    pub cases: BTreeMap<String, String>,
}

/// Reads `accepted.txt`: `rule NAME` or `case NAME`, and below it the reason.
pub fn accepted(path: &Path) -> Accepted {
    let text = fs::read_to_string(path).expect("the accepted differences");
    let mut all = Accepted::default();
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    let mut lines = lines.filter(|l| !l.trim().is_empty()).peekable();
    while let Some(line) = lines.next() {
        let mut reason = Vec::new();
        while let Some(more) = lines.next_if(|l| l.starts_with(' ')) {
            reason.push(more.trim());
        }
        assert!(!reason.is_empty(), "{line}: no reason");
        if let Some(name) = line.strip_prefix("rule ") {
            let known = Rule::ALL.iter().find(|(_, known)| *known == name);
            all.rules
                .push(known.unwrap_or_else(|| panic!("no rule {name}")).0);
        } else if let Some(name) = line.strip_prefix("case ") {
            all.cases.insert(name.to_owned(), reason.join(" "));
        } else {
            panic!("{}: {line}", path.display());
        }
    }
    all
}

/// The cases of `open.txt`: what follows a name is for people.
pub fn open(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter(|l| !l.starts_with('#') && !l.starts_with(' ') && !l.is_empty())
        .map(str::to_owned)
        .collect()
}

/// An answer of both, as the rules let it be compared.
pub fn apply(rules: &[Rule], theirs: &[String], ours: &[String], sent: &str) -> [Vec<String>; 2] {
    let [mut theirs, mut ours] = [theirs.to_vec(), ours.to_vec()];
    if rules.contains(&Rule::MediaConnection) {
        theirs = media_connection(&theirs);
    }
    if rules.contains(&Rule::Keys) {
        theirs.retain(|line| !is_key(line));
        ours.retain(|line| !(is_key(line) && sent.lines().any(|sent| sent == line)));
    }
    if rules.contains(&Rule::WhereTheyStood) {
        [theirs, ours] = [passed_first(theirs), passed_first(ours)];
    }
    [theirs, ours]
}

fn is_key(line: &str) -> bool {
    ["a=crypto:", "a=fingerprint:", "a=setup:", "a=tls-id:"]
        .iter()
        .any(|name| line.starts_with(name))
}

/// The session's connection line goes below each m= line that has none of its own.
fn media_connection(lines: &[String]) -> Vec<String> {
    let sections = sections(lines);
    let session = sections[0].iter().find(|l| l.starts_with("c="));
    let Some(session) = session.filter(|_| sections.len() > 1) else {
        return lines.to_vec();
    };
    let mut out: Vec<String> = sections[0]
        .iter()
        .filter(|line| !line.starts_with("c="))
        .cloned()
        .collect();
    for section in &sections[1..] {
        out.push(section[0].clone());
        if !section.iter().any(|line| line.starts_with("c=")) {
            out.push(session.clone());
        }
        out.extend_from_slice(&section[1..]);
    }
    out
}

/// In each section: m=, c=, what is passed on in the order of the alphabet, what is made anew in its own.
fn passed_first(lines: Vec<String>) -> Vec<String> {
    let sections = sections(&lines);
    let mut out = sections[0].to_vec();
    for section in &sections[1..] {
        let (anew, mut passed): (Vec<_>, Vec<_>) =
            section.iter().cloned().partition(|line| is_made_anew(line));
        passed.sort();
        let head = anew.iter().take_while(|l| l.starts_with(['m', 'c']));
        let head = head.count();
        out.extend_from_slice(&anew[..head]);
        out.extend(passed);
        out.extend_from_slice(&anew[head..]);
    }
    out
}

fn is_made_anew(line: &str) -> bool {
    const NAMES: [&str; 19] = [
        "mid",
        "rtpmap",
        "fmtp",
        "sendrecv",
        "sendonly",
        "recvonly",
        "inactive",
        "rtcp",
        "rtcp-mux",
        "crypto",
        "setup",
        "fingerprint",
        "tls-id",
        "ice-ufrag",
        "ice-pwd",
        "ice-options",
        "ice-lite",
        "candidate",
        "end-of-candidates",
    ];
    let Some(attribute) = line.strip_prefix("a=") else {
        return line.starts_with("m=") || line.starts_with("c=");
    };
    let name = attribute.split([':', ' ']).next().unwrap_or_default();
    NAMES.contains(&name)
}

/// The session part and each section with its m= line.
fn sections(lines: &[String]) -> Vec<&[String]> {
    let starts = lines.iter().enumerate();
    let starts = starts.filter(|(_, line)| line.starts_with("m="));
    let mut cuts: Vec<usize> = starts.map(|(idx, _)| idx).collect();
    cuts.push(lines.len());
    let mut out = vec![&lines[..cuts[0]]];
    out.extend(cuts.windows(2).map(|pair| &lines[pair[0]..pair[1]]));
    out
}
