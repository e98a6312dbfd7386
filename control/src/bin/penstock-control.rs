//! The control daemon.

use clap::Parser;
use penstock_config::Config;
use std::path::PathBuf;
use std::process::ExitCode;

/// A request makes and drops hundreds of small pieces: with the C library's allocator that was a third of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Answers rtpengine's ng protocol and has the media plane relay the calls.
///
/// SIGHUP has it read its configuration again. RUST_LOG says what is logged: error, warn, info (the default), debug.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The configuration, shared with penstock-dataplane.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/penstock/penstock.toml"
    )]
    config: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    penstock_control::log::start();
    let outcome = Config::load(&args.config)
        .map_err(|error| error.to_string())
        .and_then(|config| {
            penstock_control::daemon::run(&config, &args.config).map_err(|e| e.to_string())
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("penstock-control: {text}");
            ExitCode::FAILURE
        }
    }
}
