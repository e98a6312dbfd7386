//! Ending calls, setting what can be set while running, and the totals.

use super::{CliError, client};
use penstock_config::Config;
use serde_json::{Map, Value, json};
use std::io::{self, Write};

/// Ends one call, and waits until it has ended.
pub(super) fn end(config: &Config, id: &str) -> Result<(), CliError> {
    let _: Value = client::request(config, json!({ "do": "end", "id": id }))?;
    Ok(writeln!(io::stdout(), "call {id} has ended")?)
}

/// Has every call end.
pub(super) fn end_all(config: &Config) -> Result<(), CliError> {
    let count: u64 = client::act(config, "end-all")?;
    let text = match count {
        1 => "1 call ends".to_owned(),
        _ => format!("{count} calls end"),
    };
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// Sets `key`, or shows what is set.
pub(super) fn set(config: &Config, pair: Option<(&str, &str)>) -> Result<(), CliError> {
    let request = match pair {
        Some((key, value)) => json!({ "do": "set", "key": key, "value": value }),
        None => json!({ "get": "settings" }),
    };
    let all: Map<String, Value> = client::request(config, request)?;
    let shown = |key: &str| pair.is_none_or(|(wanted, _)| wanted == key);
    let mut out = io::stdout().lock();
    for (key, value) in all.iter().filter(|(key, _)| shown(key)) {
        writeln!(out, "{key} {}", word(value))?;
    }
    Ok(())
}

fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Prints the totals: JSON, or a line for each value.
pub(super) fn statistics(config: &Config, as_json: bool) -> Result<(), CliError> {
    let groups: Map<String, Value> = client::request(config, json!({ "get": "statistics" }))?;
    let mut out = io::stdout().lock();
    if as_json {
        return Ok(writeln!(out, "{}", Value::Object(groups))?);
    }
    let mut lines = Vec::new();
    for (name, group) in &groups {
        flatten(name, group, &mut lines);
    }
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// A line `name.key value` for each value below.
fn flatten(name: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(pairs) => pairs
            .iter()
            .for_each(|(key, value)| flatten(&format!("{name}.{key}"), value, lines)),
        Value::Array(list) => list.iter().for_each(|entry| {
            let named = ["proxy", "name"].iter().find_map(|key| entry[key].as_str());
            flatten(&format!("{name}[{}]", named.unwrap_or("?")), entry, lines);
        }),
        value => lines.push(format!("{name} {}", word(value))),
    }
}

/// Has control carry out a line of rtpengine-ctl's, and prints what it prints.
pub(super) fn ctl(config: &Config, words: &[String]) -> Result<(), CliError> {
    let request = json!({ "do": "ctl", "line": words.join(" ") });
    let text: String = client::request(config, request)?;
    Ok(write!(io::stdout(), "{text}")?)
}
