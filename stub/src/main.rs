//! The stub server as a program of its own: parse, run, exit code. Nothing else prints.

#![allow(clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;

/// A stand-in for an inference API: known work, chosen threading
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(flatten)]
    args: hairspring_stub::Args,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap also reports --help and --version this way; those are no errors.
            let code = if error.use_stderr() { 64 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match hairspring_stub::run(cli.args, &mut std::io::stdout(), &mut std::io::stderr()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hairspring-stub: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
