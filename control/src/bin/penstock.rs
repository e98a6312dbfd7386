//! The command.

fn main() -> std::process::ExitCode {
    penstock_control::cli::main()
}
