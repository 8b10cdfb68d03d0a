//! Arguments and exit codes: 0 fine, 1 it failed while running, 2 the arguments or the configuration are wrong.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use postern_chassis::whole;
use postern_control::routes::{self, RoutesArguments};
use postern_control::sidecar::{self, Sidecar, SidecarError};
use postern_control::start::{self, Failure, Threads};
use tokio::sync::watch;

/// The control plane of a private-link service.
#[derive(Parser)]
#[command(name = "postern-control", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publish certificates from Key Vault until told to stop (SIGTERM, SIGINT).
    #[command(after_help = EXIT_CODES)]
    Sidecar(Run),
    /// Prove the configuration and what it refers to, then exit. Asks no vault.
    #[command(after_help = EXIT_CODES)]
    Check(File),
    /// Look at the books of account routing and keep them by hand.
    Routes(Box<RoutesArguments>),
    /// Print every option with its default and what it does, as TOML.
    Defaults(Of),
    /// Print every metric with its type, labels and meaning, as Markdown.
    Metrics(Of),
    /// Print the version.
    Version,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    file: File,
    /// Look once at everything, then exit: 0 if all is published and the newest, 1 if not.
    #[arg(long)]
    once: bool,
}

#[derive(Args)]
struct File {
    /// The configuration file. `POSTERN_CONTROL_`* variables override it.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
}

#[derive(Args)]
struct Of {
    /// Which of the programs.
    #[arg(value_enum, default_value_t = Program::Sidecar)]
    program: Program,
}

#[derive(Clone, Copy, ValueEnum)]
enum Program {
    /// The certificate sidecar.
    Sidecar,
}

const DEFAULT_PATH: &str = "/etc/postern/postern-control.toml";
const EXIT_CODES: &str =
    "Exit codes: 0 fine; 1 failed while running; 2 the arguments or the configuration are wrong.";

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Sidecar(run) => sidecar(&run),
        Command::Check(file) => check(&file),
        Command::Routes(arguments) => return routes::run(*arguments, start::environment()),
        Command::Defaults(of) => print(&match of.program {
            Program::Sidecar => sidecar::Config::print_defaults(),
        }),
        Command::Metrics(of) => print(&match of.program {
            Program::Sidecar => sidecar::metrics::print_documentation(),
        }),
        Command::Version => print(concat!(
            env!("CARGO_PKG_NAME"),
            " ",
            env!("CARGO_PKG_VERSION"),
            "\n"
        )),
    };
    let (text, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Running(text)) => (text, 1),
        Err(Failure::Configuration(text)) => (text, 2),
    };
    // Where standard error is closed, the exit code says it alone.
    let _ = writeln!(io::stderr().lock(), "{text}");
    ExitCode::from(code)
}

fn sidecar(run: &Run) -> Result<(), Failure> {
    let config: sidecar::Config = start::load(&run.file.config)?;
    start::log(config.log.level)?;
    start::runtime(Threads::One)?.block_on(async {
        let sidecar = Sidecar::new(&config).map_err(sidecar_failure)?;
        let stop = start::stopped()?;
        if run.once {
            let not_done = until(stop, sidecar.once()).await;
            let not_done = not_done.ok_or_else(|| Failure::Running("stopped".to_owned()))?;
            if not_done.is_empty() {
                return Ok(());
            }
            let names = not_done.join(", ");
            return Err(Failure::Running(format!("not all is published: {names}")));
        }
        sidecar.run(stop).await.map_err(sidecar_failure)
    })
}

fn check(file: &File) -> Result<(), Failure> {
    let config = start::load(&file.config)?;
    let checked = start::runtime(Threads::One)?.block_on(Sidecar::check(&config));
    checked.map_err(sidecar_failure)?;
    print(&format!("{}: ok\n", file.config.display()))
}

fn sidecar_failure(error: SidecarError) -> Failure {
    let text = whole(&error);
    if error.is_configuration() {
        Failure::Configuration(text)
    } else {
        Failure::Running(text)
    }
}

/// What `work` comes to, unless it is stopped before.
async fn until<T>(mut stop: watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        _ = stop.wait_for(|stop| *stop) => None,
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::Running(format!("standard output: {error}")))
}
