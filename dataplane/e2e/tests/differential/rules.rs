//! The differences that are accepted: rules for a class of lines, and single cases.

use crate::Answers;
use crate::normal::without_end;
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
    /// An error's text goes on after a colon.
    ErrorDetail,
    /// Keys of a report that today's rtpengine has, and 10.5 has not.
    TodaysKeys,
    /// A media without ICE is called `ICE controlling`.
    IdleIceFlag,
    /// What 10.5 cannot read is asked of it in its own spelling.
    Spelling,
    /// What a relay without codecs and recordings cannot do is refused in a sentence.
    NotSupported,
    /// Encryption on one side alone is refused in a sentence.
    NoKeys,
    /// Where ICE is removed, nothing of it is left.
    IceRemoved,
    /// A body with ICE says `a=ice-lite`.
    IceLite,
}

impl Rule {
    const ALL: [(Rule, &'static str); 11] = [
        (Rule::MediaConnection, "media-connection"),
        (Rule::WhereTheyStood, "where-they-stood"),
        (Rule::Keys, "keys"),
        (Rule::ErrorDetail, "error-detail"),
        (Rule::TodaysKeys, "todays-keys"),
        (Rule::IdleIceFlag, "idle-ice-flag"),
        (Rule::Spelling, "spelling"),
        (Rule::NotSupported, "not-supported"),
        (Rule::NoKeys, "no-keys"),
        (Rule::IceRemoved, "ice-removed"),
        (Rule::IceLite, "ice-lite"),
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
pub fn apply(rules: &[Rule], answers: &Answers) -> [Vec<String>; 2] {
    let [mut theirs, mut ours] = [answers.theirs.clone(), answers.ours.clone()];
    if rules.contains(&Rule::Spelling)
        && let Some(respelled) = &answers.respelled
    {
        theirs.clone_from(respelled);
    }
    if rules.contains(&Rule::NotSupported) && theirs.first() == ours.first() {
        let is_refusal = |line: &String| line.contains(" is not supported: ");
        if ours.iter().any(is_refusal) {
            theirs.clone_from(&ours);
        }
    }
    if rules.contains(&Rule::NoKeys) {
        let is_refusal =
            |line: &String| line.ends_with(": media is not encrypted or decrypted here");
        if ours.iter().any(is_refusal) {
            theirs.clone_from(&ours);
        }
    }
    if rules.contains(&Rule::IceRemoved) && !theirs.iter().any(|l| l.starts_with("a=ice-ufrag")) {
        let is_left =
            |line: &String| line == "a=ice-options:trickle" || line == "a=end-of-candidates";
        theirs.retain(|line| !is_left(line));
    }
    if rules.contains(&Rule::MediaConnection) {
        theirs = media_connection(&theirs);
        let is_crlf = answers.body.contains("\r\n");
        for line in theirs.iter_mut().filter(|l| is_crlf && l.starts_with("c=")) {
            *line = without_end(line).to_owned();
        }
    }
    if rules.contains(&Rule::Keys) {
        theirs.retain(|line| !is_key(line));
        ours.retain(|line| !(is_key(line) && answers.sent.lines().any(|l| l == line)));
    }
    if rules.contains(&Rule::ErrorDetail) {
        for text in theirs
            .iter()
            .filter(|line| line.starts_with("error-reason: "))
        {
            let more = format!("{text}: ");
            for line in ours.iter_mut().filter(|line| line.starts_with(&more)) {
                line.clone_from(text);
            }
        }
    }
    if rules.contains(&Rule::TodaysKeys) {
        const TODAYS: [&str; 4] = [
            "/created_ts",
            "/last redis update",
            "/last kernel packet",
            "/last user packet",
        ];
        let is_todays = |line: &str| {
            TODAYS.iter().any(|key| line.ends_with(key)) || line.contains("/stats_out/")
        };
        ours.retain(|line| !is_todays(line));
        for line in ours.iter_mut().filter(|line| line.contains("/flags: ")) {
            *line = line.replace(", kernelized", "");
        }
        theirs.retain(|line| !is_todays(line));
    }
    if rules.contains(&Rule::IdleIceFlag) {
        for line in theirs.iter_mut().filter(|line| line.contains("/flags: ")) {
            if !line.contains("ICE,") {
                *line = line.replace("ICE controlling, ", "");
            }
        }
    }
    if rules.contains(&Rule::IceLite) && ours.iter().any(|line| line.starts_with("a=ice-ufrag")) {
        ours.retain(|line| line != "a=ice-lite");
        theirs.retain(|line| line != "a=ice-lite");
    }
    if rules.contains(&Rule::WhereTheyStood) {
        if !is_in_order(&ours, &answers.body) {
            ours.push("(lines passed on are not in the order in which they came)".into());
        }
        let step = &answers.step;
        let has_direction = !step.contains("original-sendrecv");
        [theirs, ours] = [theirs, ours].map(|lines| passed_first(lines, has_direction));
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
/// The direction is made anew unless `has_direction` says that it passes.
fn passed_first(lines: Vec<String>, has_direction: bool) -> Vec<String> {
    const DIRECTIONS: [&str; 4] = ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"];
    let is_anew = |line: &str| is_made_anew(line) && (has_direction || !DIRECTIONS.contains(&line));
    let sections = sections(&lines);
    let mut out = sections[0].to_vec();
    for section in &sections[1..] {
        let (anew, mut passed): (Vec<_>, Vec<_>) =
            section.iter().cloned().partition(|line| is_anew(line));
        passed.sort();
        let head = anew.iter().take_while(|l| l.starts_with(['m', 'c']));
        let head = head.count();
        out.extend_from_slice(&anew[..head]);
        out.extend(passed);
        out.extend_from_slice(&anew[head..]);
    }
    out
}

/// Whether lines that are passed on follow each other as in the body that came.
fn is_in_order(ours: &[String], body: &str) -> bool {
    let came: Vec<&str> = body.lines().collect();
    // What is said of feedback goes with its payload type.
    let passed = ours
        .iter()
        .filter(|line| !is_made_anew(line) && !line.starts_with("a=rtcp-fb:"));
    let mut rest = came.as_slice();
    passed
        .filter(|line| came.contains(&line.as_str()))
        .all(|line| match rest.iter().position(|l| l == line) {
            Some(at) => {
                rest = &rest[at + 1..];
                true
            }
            None => false,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split('|').map(str::to_owned).collect()
    }

    fn answers(theirs: &str, ours: &str, body: &str) -> Answers {
        Answers {
            step: String::new(),
            sent: body.replace('|', "\r\n"),
            body: body.replace('|', "\r\n"),
            theirs: lines(theirs),
            ours: lines(ours),
            respelled: None,
        }
    }

    fn alike(rule: Rule, theirs: &str, ours: &str, body: &str) -> bool {
        let [theirs, ours] = apply(&[rule], &answers(theirs, ours, body));
        theirs == ours
    }

    #[test]
    fn a_session_connection_moves_and_no_other() {
        let rule = Rule::MediaConnection;
        assert!(alike(
            rule,
            "s=-|c=A|t=0|m=a|m=b|c=B",
            "s=-|t=0|m=a|c=A|m=b|c=B",
            ""
        ));
        assert!(!alike(rule, "c=A|t=0|m=a|x", "t=0|m=a|c=B|x", ""));
        assert!(!alike(rule, "t=0|m=a|c=A", "c=A|t=0|m=a", ""));
    }

    #[test]
    fn passed_lines_may_stand_elsewhere_but_keep_their_order() {
        let rule = Rule::WhereTheyStood;
        let theirs = "t=0|m=a|c=A|a=x|b=1|a=rtcp:1|a=rtcp-mux";
        assert!(alike(
            rule,
            theirs,
            "t=0|m=a|c=A|a=rtcp:1|b=1|a=rtcp-mux|a=x",
            "m=a|b=1|a=x"
        ));
        assert!(!alike(
            rule,
            theirs,
            "t=0|m=a|c=A|a=rtcp:1|a=x|a=rtcp-mux|b=1",
            "m=a|b=1|a=x"
        ));
        assert!(!alike(
            rule,
            theirs,
            "t=0|m=a|c=A|a=x|b=1|a=rtcp-mux|a=rtcp:1",
            ""
        ));
        assert!(!alike(
            rule,
            theirs,
            "t=0|m=a|c=A|b=1|a=rtcp:1|a=rtcp-mux",
            ""
        ));
    }

    #[test]
    fn keys_have_to_be_those_that_came() {
        let rule = Rule::Keys;
        assert!(alike(
            rule,
            "m=a|a=crypto:1 own",
            "m=a|a=crypto:1 k",
            "m=a|a=crypto:1 k"
        ));
        assert!(!alike(
            rule,
            "m=a|a=crypto:1 own",
            "m=a|a=crypto:1 j",
            "m=a|a=crypto:1 k"
        ));
    }

    #[test]
    fn an_error_may_only_go_on() {
        let rule = Rule::ErrorDetail;
        assert!(alike(
            rule,
            "error-reason: Bad",
            "error-reason: Bad: line 1",
            ""
        ));
        assert!(!alike(rule, "error-reason: Bad", "error-reason: Worse", ""));
    }

    #[test]
    fn a_lite_body_may_say_so_and_has_to_have_ice() {
        let rule = Rule::IceLite;
        let ice = "m=a|a=ice-ufrag:x";
        assert!(alike(rule, ice, &format!("a=ice-lite|{ice}"), ""));
        assert!(!alike(rule, "m=a|c=b", "a=ice-lite|m=a|c=b", ""));
    }

    #[test]
    fn a_spelling_that_is_known_is_compared() {
        let mut asked = answers("c=A", "c=B", "");
        assert_ne!(apply(&[Rule::Spelling], &asked)[0], asked.ours);
        asked.respelled = Some(lines("c=B"));
        assert_eq!(apply(&[Rule::Spelling], &asked)[0], asked.ours);
        assert_ne!(apply(&[], &asked)[0], asked.ours);
    }

    #[test]
    fn an_error_may_say_that_there_is_no_codec() {
        let rule = Rule::NotSupported;
        let theirs = "result: error|error-reason: Unknown call-ID";
        let ours = "result: error|error-reason: play media is not supported: no codecs";
        assert!(alike(rule, theirs, ours, ""));
        assert!(!alike(rule, "result: ok", ours, ""));
        assert!(!alike(rule, ours, theirs, ""));
    }

    #[test]
    fn an_offer_may_be_refused_for_want_of_keys() {
        let refused = "result: error|error-reason: Cannot convert A to B: media is not encrypted or decrypted here";
        assert!(alike(Rule::NoKeys, "result: ok|m=a", refused, ""));
        assert!(!alike(
            Rule::NoKeys,
            "result: ok|m=a",
            "result: error|error-reason: No",
            ""
        ));
    }

    #[test]
    fn what_is_left_of_ice_may_go() {
        let rule = Rule::IceRemoved;
        let left = "m=a|c=b|a=ice-options:trickle|a=end-of-candidates";
        assert!(alike(rule, left, "m=a|c=b", ""));
        assert!(!alike(
            rule,
            &format!("{left}|a=ice-ufrag:x"),
            "m=a|c=b|a=ice-ufrag:x",
            ""
        ));
    }

    #[test]
    fn todays_reports_say_more_and_no_less() {
        let rule = Rule::TodaysKeys;
        assert!(alike(
            rule,
            "/created",
            "/created|/created_ts|/x/stats_out/bytes: 0",
            ""
        ));
        assert!(!alike(rule, "/created|/x/stats/bytes: 0", "/created", ""));
        let rule = Rule::IdleIceFlag;
        assert!(alike(
            rule,
            "/flags: ICE controlling, recv",
            "/flags: recv",
            ""
        ));
        assert!(!alike(
            rule,
            "/flags: ICE, ICE controlling, recv",
            "/flags: recv",
            ""
        ));
    }
}
