//! The corpus: files that hold bodies and cases.
//!
//! ```text
//! # A comment.
//! sdp phone                          a body, by name; `sdp NAME from OTHER` begins with another's lines
//!     v=0
//! case hold, then resume             a case: steps, each one request
//!     each ice: ICE=remove | (none)  the case is made once for each value, and {ice} stands for it
//!     offer phone {ice} replace=[origin]
//!     answer phone
//!     reoffer phone                  from a to b; back-offer and back-answer go the other way
//!         + a=sendonly               a line more, at the end
//!         ^ a=sendonly               a line more, at the end of the session part
//!         - a=ptime                  every line that begins so goes
//!         ~ 4000 => 0                every such text becomes another; it has to be there
//!         ~1 a=x => a=y              the same, in the first line that has it
//! ```
//!
//! A step is a command, a body (`none` for no body) if the command takes one, and keys. A bare word is a flag;
//! `KEY=` takes a key away that is there by default, `KEY=#1` is a number, `KEY.SUB=[A B]` a dictionary, and '...'
//! keeps blanks together. `eol=lf` and `eol=cr` end the lines so, `eol=open` leaves the last one without an end.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One exchange.
#[derive(Debug, Clone)]
pub struct Step {
    /// As written, for people.
    pub text: String,
    /// All keys but `call-id`.
    pub request: Map<String, Value>,
}

/// Requests of one call.
#[derive(Debug, Clone)]
pub struct Case {
    /// File, title and what its variables stand for.
    pub name: String,
    /// In order.
    pub steps: Vec<Step>,
}

type Bodies = BTreeMap<String, Vec<String>>;

/// A line of a file: its place, its depth (0, 1 or 2) and its text.
struct Line<'a> {
    place: String,
    depth: usize,
    text: &'a str,
}

/// Every case below `dir`, by file.
pub fn read(dir: &Path) -> Vec<Case> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "txt"))
        .collect();
    paths.sort();
    let texts: Vec<(String, String)> = paths
        .iter()
        .map(|path| {
            let group = path.file_stem().expect("a name").to_string_lossy();
            let text = fs::read_to_string(path).expect("a file of the corpus");
            (group.into_owned(), text)
        })
        .collect();
    let mut bodies = Bodies::new();
    let mut cases = Vec::new();
    // Bodies of all files first: a case may use those of another.
    for (group, text) in &texts {
        for block in blocks(group, text) {
            if let Some(title) = block[0].text.strip_prefix("sdp ") {
                body(title, &block, &mut bodies);
            }
        }
    }
    for (group, text) in &texts {
        for block in blocks(group, text) {
            if let Some(title) = block[0].text.strip_prefix("case ") {
                expand(group, title, &block, &bodies, &mut cases);
            } else if !block[0].text.starts_with("sdp ") {
                panic!("{}: neither sdp nor case", block[0].place);
            }
        }
    }
    cases
}

/// Each line without indentation, with those below it.
fn blocks<'a>(group: &str, text: &'a str) -> Vec<Vec<Line<'a>>> {
    let mut blocks: Vec<Vec<Line>> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let line = Line {
            place: format!("{group}.txt:{}", number + 1),
            depth: indent / 4,
            text: line.trim_start(),
        };
        assert!(indent % 4 == 0 && line.depth < 3, "{}: indent", line.place);
        match (line.depth, blocks.last_mut()) {
            (0, _) => blocks.push(vec![line]),
            (_, Some(block)) => block.push(line),
            (_, None) => panic!("{}: below nothing", line.place),
        }
    }
    blocks
}

fn body(title: &str, block: &[Line], bodies: &mut Bodies) {
    let place = &block[0].place;
    let mut lines = Vec::new();
    let name = match title.split_once(" from ") {
        Some((name, other)) => {
            lines = bodies
                .get(other)
                .unwrap_or_else(|| panic!("{place}: no body {other} before it"))
                .clone();
            for line in &block[1..] {
                edit(&mut lines, line.text, &line.place);
            }
            name
        }
        None => {
            lines.extend(block[1..].iter().map(|line| line.text.to_owned()));
            title
        }
    };
    assert!(
        bodies.insert(name.to_owned(), lines).is_none(),
        "{place}: a second body {name}"
    );
}

/// One change to a body.
fn edit(lines: &mut Vec<String>, change: &str, place: &str) {
    let (kind, text) = change
        .split_once(' ')
        .unwrap_or_else(|| panic!("{place}: {change}"));
    let before = lines.clone();
    match kind {
        "+" => lines.push(text.to_owned()),
        "^" => {
            let first = lines.iter().position(|line| line.starts_with("m="));
            lines.insert(first.unwrap_or(lines.len()), text.to_owned());
        }
        "-" => lines.retain(|line| !line.starts_with(text)),
        "~" | "~1" => {
            let (old, new) = text
                .split_once(" => ")
                .unwrap_or_else(|| panic!("{place}: no ` => `"));
            let most = if kind == "~1" { 1 } else { usize::MAX };
            let having = lines.iter_mut().filter(|line| line.contains(old));
            for line in having.take(most) {
                *line = line.replace(old, new);
            }
        }
        _ => panic!("{place}: a change begins with + ^ - ~ or ~1"),
    }
    // Replacing a text by itself is what a variable may come to.
    let by_itself = text.split_once(" => ").is_some_and(|(old, new)| old == new);
    assert!(
        *lines != before || by_itself,
        "{place}: {change} changes nothing"
    );
}

/// The case for each combination of its variables' values.
fn expand(group: &str, title: &str, block: &[Line], bodies: &Bodies, cases: &mut Vec<Case>) {
    let mut variants: Vec<Vec<(&str, &str)>> = vec![Vec::new()];
    let mut rest = &block[1..];
    while let Some((each, values)) = rest
        .first()
        .and_then(|line| line.text.strip_prefix("each "))
        .map(|text| text.split_once(':').expect("`each NAME: VALUES`"))
    {
        let values = values.split('|').map(str::trim);
        variants = values
            .flat_map(|value| {
                variants.iter().map(move |variant| {
                    let mut variant = variant.clone();
                    variant.push((each, value));
                    variant
                })
            })
            .collect();
        rest = &rest[1..];
    }
    for variant in variants {
        let fill = |text: &str| {
            variant.iter().fold(text.to_owned(), |text, (name, value)| {
                let value = if *value == "(none)" { "" } else { value };
                text.replace(&format!("{{{name}}}"), value)
            })
        };
        let values: Vec<&str> = variant.iter().map(|(_, value)| *value).collect();
        let mut name = format!("{group}: {title}");
        if !values.is_empty() {
            name = format!("{name} [{}]", values.join(", "));
        }
        assert!(
            cases.iter().all(|case| case.name != name),
            "two cases {name}"
        );
        let mut steps = Vec::new();
        let mut lines = rest.iter().peekable();
        while let Some(line) = lines.next() {
            assert_eq!(line.depth, 1, "{}: a change without a step", line.place);
            let mut changes = Vec::new();
            while let Some(change) = lines.next_if(|line| line.depth == 2) {
                changes.push((fill(change.text), change.place.as_str()));
            }
            steps.push(step(&fill(line.text), &line.place, &changes, bodies));
        }
        assert!(!steps.is_empty(), "{}: no steps", block[0].place);
        cases.push(Case { name, steps });
    }
}

fn step(text: &str, place: &str, changes: &[(String, &str)], bodies: &Bodies) -> Step {
    let mut words = words(text).into_iter();
    let verb = words.next().unwrap_or_default();
    let (command, from, to) = match verb.as_str() {
        "offer" => ("offer", "a", ""),
        "answer" => ("answer", "a", "b"),
        "reoffer" => ("offer", "a", "b"),
        "back-offer" => ("offer", "b", "a"),
        "back-answer" => ("answer", "b", "a"),
        "delete" => ("delete", "a", ""),
        other => (other, "", ""),
    };
    let mut request = Map::new();
    request.insert("command".into(), command.into());
    for (key, tag) in [("from-tag", from), ("to-tag", to)] {
        if !tag.is_empty() {
            request.insert(key.into(), tag.into());
        }
    }
    let takes_body = matches!(command, "offer" | "answer" | "publish" | "subscribe answer");
    let name = match takes_body {
        true => words.next().unwrap_or_else(|| panic!("{place}: no body")),
        false => "none".into(),
    };
    let mut lines = match name.as_str() {
        "none" => None,
        name => Some(
            bodies
                .get(name)
                .unwrap_or_else(|| panic!("{place}: no body {name}"))
                .clone(),
        ),
    };
    for (change, place) in changes {
        edit(lines.as_mut().expect("a body to change"), change, place);
    }
    let mut eol = String::from("crlf");
    for word in words {
        match word.split_once('=') {
            Some(("eol", how)) => eol = how.to_owned(),
            Some((key, "")) => drop(request.remove(key)),
            Some((key, value)) => insert(&mut request, key, value_of(value)),
            None => {
                let flags = request.entry("flags").or_insert_with(|| json!([]));
                flags.as_array_mut().expect("a list").push(word.into());
            }
        }
    }
    if let Some(lines) = lines {
        let end = match eol.as_str() {
            "lf" => "\n",
            "cr" => "\r",
            _ => "\r\n",
        };
        let mut text = lines.join(end);
        if eol != "open" {
            text.push_str(end);
        }
        request.insert("sdp".into(), text.into());
    }
    Step {
        text: text.to_owned(),
        request,
    }
}

/// Blanks part words, but not within brackets or quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut depth, mut quoted) = (0, false);
    for c in text.chars() {
        match c {
            '\'' if depth == 0 => quoted = !quoted,
            ' ' if depth == 0 && !quoted => words.push(String::new()),
            _ => {
                depth += i32::from(c == '[') - i32::from(c == ']');
                words.last_mut().expect("a word").push(c);
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A word, a list `[A B]`, or a number `#1`.
fn value_of(text: &str) -> Value {
    if let Some(list) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return words(&list.replace(['[', ']'], "'")).into();
    }
    match text.strip_prefix('#').and_then(|t| t.parse::<i64>().ok()) {
        Some(number) => number.into(),
        None => text.into(),
    }
}

fn insert(dict: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        Some((key, rest)) => {
            let inner = dict.entry(key).or_insert_with(|| json!({}));
            insert(inner.as_object_mut().expect("a dictionary"), rest, value);
        }
        None => drop(dict.insert(key.to_owned(), value)),
    }
}
