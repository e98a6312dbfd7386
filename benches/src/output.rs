//! What was measured, said and kept.

use crate::{Args, Failure};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where results are kept for `report`, a JSON object a line.
const KEPT: &str = "results.jsonl";
/// A case as it was measured.
pub type Case = Map<String, Value>;

/// What every case says, even if that is nothing.
const ALWAYS: [&str; 8] = [
    "bench",
    "streams",
    "family",
    "size",
    "mpps",
    "reference",
    "reference_mpps",
    "ratio",
];
/// Numbers that say which case it is; so does every string but the ones below.
const NUMBERS: [&str; 4] = ["streams", "size", "calls", "packets"];
const NOT_NAMES: [&str; 4] = ["generator", "commit", "limited_by", "reference_version"];

impl Args {
    /// The heading of the cases' table.
    pub fn heading(&self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }

    /// Says what a case gave, as a line of the table or as the object, and keeps the object in place of an older one of the
    /// same case. A case whose rounds do not agree, or are too few to tell, is marked as inconclusive.
    pub fn case(&self, case: Value, line: &str) -> Result<(), Failure> {
        let Value::Object(mut case) = case else {
            return Err(Failure::Void("a case is an object".into()));
        };
        for key in ALWAYS {
            case.entry(key).or_insert(Value::Null);
        }
        if let Some(spread) = case.get("reference_spread").and_then(Value::as_f64) {
            case.entry("rounds").or_insert(json!(self.rounds));
            let is_few = case["rounds"].as_u64().is_none_or(|rounds| rounds < 3);
            if spread > 0.2 || is_few {
                case.insert("inconclusive".into(), json!(true));
            }
        }
        if self.json {
            println!("{}", Value::Object(case.clone()));
        } else {
            println!("{line}");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut all = kept(&self.results)?;
        all.retain(|old| identity(old) != identity(&case));
        case.insert("at".into(), json!(now.unwrap_or_default().as_secs()));
        case.insert("commit".into(), json!(commit()));
        all.push(case);
        let lines = all.into_iter().map(|c| Value::Object(c).to_string() + "\n");
        fs::create_dir_all(&self.results)?;
        let new = self.results.join("results.new");
        fs::write(&new, lines.collect::<String>())?;
        Ok(fs::rename(new, file(&self.results))?)
    }
}

fn file(results: &Path) -> PathBuf {
    results.join(KEPT)
}

/// The latest result of every case there is one of, the oldest first.
pub fn kept(results: &Path) -> Result<Vec<Case>, Failure> {
    let text = match fs::read_to_string(file(results)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// The commit that lies here, if it is one.
fn commit() -> String {
    let git = |args: &[&str]| {
        let here = ["-c", "safe.directory=*", "-C", env!("CARGO_MANIFEST_DIR")];
        let out = Command::new("git").args(here).args(args).output().ok()?;
        Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    git(&["describe", "--always", "--dirty=+"])
        .filter(|c| !c.is_empty())
        .unwrap_or_else(|| "unknown".into())
}

fn identity(case: &Case) -> Vec<(&str, &Value)> {
    let names = |(key, value): &(&String, &Value)| {
        (value.is_string() && !NOT_NAMES.contains(&key.as_str())) || NUMBERS.contains(&key.as_str())
    };
    case.iter()
        .filter(names)
        .map(|(key, value)| (key.as_str(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_measured_again_takes_the_place_of_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let results = dir.path().join("bench");
        let flag = format!("--results={}", results.display());
        let args = <Args as clap::Parser>::parse_from(["bench", &flag, "checks"]);
        for (streams, mpps) in [(200, 1.5), (2000, 2.5), (200, 3.5)] {
            let case = json!({ "bench": "relay", "streams": streams, "mpps": mpps });
            args.case(case, "a line").unwrap();
        }
        let found = kept(&results).unwrap();
        let rates: Vec<_> = found.iter().map(|case| case["mpps"].as_f64()).collect();
        assert_eq!(rates, [Some(2.5), Some(3.5)]);
    }
}
