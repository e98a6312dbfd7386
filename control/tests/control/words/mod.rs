//! Every word that the table of ng's words (control/ng, `support`) calls supported is acted upon: each has a case, which tells
//! what comes of a request with the word from what comes of the same without it. A word without a case fails.

mod bench;
mod commands;
mod flags;
mod keys;
mod values;

use bench::{Bench, Case};
use penstock_ng::{Row, SECTIONS, Section, Support};
use serde_json::{Value, json};

/// The cases of a section; a section with nothing supported has none.
fn cases(section: &Section) -> Vec<Case> {
    match section.title {
        "Commands" => commands::cases(),
        "Keys" => keys::cases(),
        "Flags" => flags::cases(),
        title => values::cases(title),
    }
}

/// The forms in which a request may hold a word.
fn forms(section: &Section, name: &str, value: &Value) -> Vec<Value> {
    // What stands between back quotes is the key.
    let key = section.title.split('`').nth(1).unwrap_or_default();
    match section.title {
        "Commands" => vec![json!({"command": name})],
        "Keys" => vec![json!({name: value})],
        "Flags" => vec![json!({"flags": [name]}), json!({"rtpp-flags": name})],
        title if title.starts_with("Lists of") => {
            let codec = value.as_str().expect("a codec");
            let flag = format!("{key}-{name}-{codec}");
            vec![json!({key: {name: [codec]}}), json!({"flags": [flag]})]
        }
        title if title.starts_with("Kinds of") => {
            let edit = json!({key: {name: {"add": ["x-word"]}}});
            match name {
                "none" | "global" | "session" => vec![edit],
                _ => vec![edit, json!({"sdp-media-remove": [name]})],
            }
        }
        title => {
            let flag = match title.split_once(", or flags") {
                // Said in an answer alone, where it is no profile.
                Some((_, "")) => (name != "accept").then(|| name.to_owned()),
                Some(_) => Some(format!("{key}-{name}")),
                None => None,
            };
            let flag = flag.map(|flag| json!({"flags": [flag]}));
            std::iter::once(json!({key: name})).chain(flag).collect()
        }
    }
}

fn is_supported(row: &&Row) -> bool {
    matches!(row.support, Support::Supported(_))
}

#[test]
fn every_word_that_is_supported_is_acted_upon() {
    let bench = Bench::new();
    let (mut faults, mut words) = (Vec::new(), 0);
    for section in SECTIONS {
        let title = section.title;
        let cases = cases(section);
        for case in &cases {
            if !section
                .rows
                .iter()
                .filter(is_supported)
                .any(|row| row.name == case.word)
            {
                faults.push(format!(
                    "{title}: {} has a case and is not supported",
                    case.word
                ));
            }
        }
        for row in section.rows.iter().filter(is_supported) {
            let Some(case) = cases.iter().find(|case| case.word == row.name) else {
                faults.push(format!("{title}: {} has no case", row.name));
                continue;
            };
            if bench.shows(case, &json!({})) {
                faults.push(format!(
                    "{title}: what {} does comes without it too",
                    row.name
                ));
            }
            for name in std::iter::once(&row.name).chain(row.also) {
                for form in forms(section, name, &case.value) {
                    words += 1;
                    if !bench.shows(case, &form) {
                        faults.push(format!("{title}: {form} does nothing"));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(words > 200, "{words}");
}
