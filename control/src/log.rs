//! What is logged, and changing that while running.

use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// The levels, quietest first.
pub(crate) const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Logs to stderr from now on, as RUST_LOG says, or else from `info` on. Called once, at the start.
pub fn start() {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let (filter, handle) = reload::Layer::new(filter);
    let text = fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(filter)
        .with(text)
        .init();
    // It is the first: a second `init` would have panicked.
    let _ = FILTER.set(handle);
}

/// What is logged at present, as RUST_LOG would say it.
pub(crate) fn level() -> String {
    let filter = FILTER.get().and_then(|f| f.clone_current());
    filter.map_or_else(|| "info".to_owned(), |filter| filter.to_string())
}

/// Logs from a level on, all parts alike.
///
/// # Errors
/// A sentence: there is no such level.
pub(crate) fn set_level(word: &str) -> Result<(), String> {
    if !LEVELS.contains(&word) {
        return Err(format!(
            "log-level is \"{word}\"; it must be one of {}",
            LEVELS.join(", ")
        ));
    }
    let filter = FILTER.get().map(|f| f.reload(EnvFilter::new(word)));
    match filter {
        Some(Ok(())) => Ok(()),
        _ => Err("the log cannot be changed".into()),
    }
}
