//! Asking control.

use super::CliError;
use crate::quality::Rated;
use penstock_config::Config;
use penstock_media::Call;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long control may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A call as control lists it.
#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    pub(super) id: String,
    /// Other Call-IDs that it goes by.
    pub(super) also: Vec<String>,
    pub(super) key: u64,
    pub(super) created_us: u64,
    pub(super) tags: Vec<Option<String>>,
    pub(super) one_way: bool,
    pub(super) poor: bool,
}

/// A call as control knows it, and how its streams sound.
#[derive(Debug, Deserialize)]
pub(super) struct Particulars {
    pub(super) call: Call,
    pub(super) quality: Vec<Rated>,
}

/// All calls.
pub(super) fn calls(config: &Config) -> Result<Vec<Summary>, CliError> {
    ask(config, json!({ "get": "calls" }))
}

/// One call.
pub(super) fn call(config: &Config, id: &str) -> Result<Particulars, CliError> {
    ask(config, json!({ "get": "call", "id": id }))
}

/// Call-IDs by what the region calls the calls; nothing if control is away.
pub(super) fn names(config: &Config) -> Option<HashMap<u64, String>> {
    let calls = calls(config).ok()?;
    Some(calls.into_iter().map(|call| (call.key, call.id)).collect())
}

/// Control's own state and counters.
pub(super) fn stats<T: DeserializeOwned>(config: &Config) -> Result<T, CliError> {
    ask(config, json!({ "get": "stats" }))
}

/// Has control do what changes something.
pub(super) fn act<T: DeserializeOwned>(config: &Config, what: &str) -> Result<T, CliError> {
    ask(config, json!({ "do": what }))
}

/// As [`act`], for a request with more to it.
pub(super) fn request<T: DeserializeOwned>(config: &Config, request: Value) -> Result<T, CliError> {
    ask(config, request)
}

fn ask<T: DeserializeOwned>(config: &Config, request: Value) -> Result<T, CliError> {
    hold(config, request).map(|(reply, _)| reply)
}

/// As [`ask`], for what lasts as long as the connection does.
pub(super) fn hold<T: DeserializeOwned>(
    config: &Config,
    request: Value,
) -> Result<(T, BufReader<UnixStream>), CliError> {
    let path = &config.control.socket;
    let failed = |error: &dyn std::fmt::Display| {
        CliError::new(format!(
            "penstock-control does not answer at {}: {error}; is it running, and may you write there?",
            path.display()
        ))
    };
    let mut stream = UnixStream::connect(path).map_err(|error| failed(&error))?;
    let mut line = String::new();
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| writeln!(stream, "{request}"))
        .map_err(|error| failed(&error))?;
    let mut stream = BufReader::new(stream);
    stream
        .read_line(&mut line)
        .map_err(|error| failed(&error))?;
    let mut reply: Value = serde_json::from_str(&line).map_err(|error| failed(&error))?;
    if let Some(error) = reply["error"].as_str() {
        return Err(CliError::new(error));
    }
    let reply = serde_json::from_value(reply["ok"].take()).map_err(|error| failed(&error))?;
    Ok((reply, stream))
}
