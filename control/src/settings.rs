//! What can be set while running. It lasts until control reads its configuration again.

use crate::log;
use crate::service::Service;
use penstock_config::Config;
use serde_json::{Map, Value, json};

/// A key that can be set, its unit, and where it stands in the configuration.
struct Setting {
    key: &'static str,
    help: &'static str,
    at: fn(&mut Config) -> &mut u32,
}

const SETTINGS: [Setting; 6] = [
    Setting {
        key: "max-calls",
        help: "calls at one time",
        at: |config| &mut config.control.max_calls,
    },
    Setting {
        key: "start",
        help: "seconds without a first packet, 0 for never",
        at: |config| &mut config.timeouts.start_s,
    },
    Setting {
        key: "silence",
        help: "seconds since the last packet, 0 for never",
        at: |config| &mut config.timeouts.silence_s,
    },
    Setting {
        key: "hold",
        help: "seconds on hold or unanswered, 0 for never",
        at: |config| &mut config.timeouts.hold_s,
    },
    Setting {
        key: "one-way",
        help: "seconds of media one way only, 0 for never",
        at: |config| &mut config.timeouts.one_way_s,
    },
    Setting {
        key: "final",
        help: "seconds that a call may last, 0 for ever",
        at: |config| &mut config.timeouts.final_s,
    },
];

const LOG_LEVEL: &str = "log-level";

/// Changes a setting.
///
/// # Errors
/// A sentence: no such key, or a value that cannot be; nothing has changed then.
pub(crate) fn set(service: &Service, key: &str, value: &str) -> Result<(), String> {
    if key == LOG_LEVEL {
        log::set_level(value)?;
    } else {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            let keys: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
            return Err(format!(
                "there is no setting \"{key}\"; there are {}, {LOG_LEVEL}",
                keys.join(", ")
            ));
        };
        let number = value.parse().map_err(|_| {
            format!(
                "{key} is \"{value}\"; it must be a number: {}",
                setting.help
            )
        })?;
        service
            .reloader
            .change(service, |config| *(setting.at)(config) = number)?;
    }
    tracing::info!(
        key,
        value,
        "set, until the configuration is read again or control restarts"
    );
    Ok(())
}

/// All settings as they are.
pub(crate) fn list(service: &Service) -> Value {
    let mut config = service.reloader.running(Config::clone);
    let mut list: Map<String, Value> = SETTINGS
        .iter()
        .map(|setting| (setting.key.to_owned(), json!(*(setting.at)(&mut config))))
        .collect();
    list.insert(LOG_LEVEL.into(), log::level().into());
    Value::Object(list)
}
