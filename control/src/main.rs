//! Arguments and exit codes: 0 fine, 1 it failed while running, 2 the arguments or the configuration are wrong.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use postern_chassis::{log, whole};
use postern_control::routes::{self, RoutesArguments};
use postern_control::sidecar::{Config, Sidecar, SidecarError, metrics};
use tokio::signal::unix::{SignalKind, signal};
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
    Defaults,
    /// Print every metric with its type, labels and meaning, as Markdown.
    Metrics,
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

const DEFAULT_PATH: &str = "/etc/postern/postern-control.toml";
const EXIT_CODES: &str =
    "Exit codes: 0 fine; 1 failed while running; 2 the arguments or the configuration are wrong.";

/// Libraries that say at `info` what we would say at `debug`.
const NOISY: [&str; 9] = [
    "azure_core",
    "azure_identity",
    "h2",
    "hyper",
    "hyper_util",
    "reqwest",
    "rustls",
    "tokio",
    "typespec_client_core",
];

/// Why the process ends with a failure.
enum Failure {
    /// Exit code 1.
    Running(String),
    /// Exit code 2.
    Configuration(String),
}

impl From<SidecarError> for Failure {
    fn from(error: SidecarError) -> Self {
        let text = whole(&error);
        if error.is_configuration() {
            Self::Configuration(text)
        } else {
            Self::Running(text)
        }
    }
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Sidecar(run) => sidecar(&run),
        Command::Check(file) => check(&file),
        Command::Routes(arguments) => return routes::run(*arguments, environment()),
        Command::Defaults => print(&Config::print_defaults()),
        Command::Metrics => print(&metrics::print_documentation()),
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
    let config = load(&run.file)?;
    let failed = |error: &dyn std::error::Error| Failure::Running(whole(error));
    let level = config.log.level;
    let (subscriber, _) = log::subscriber(level, &NOISY, io::stderr);
    log::install(subscriber, level).map_err(|error| failed(&error))?;
    runtime()?.block_on(async {
        let sidecar = Sidecar::new(&config)?;
        let stop = stopped().map_err(|error| failed(&error))?;
        if run.once {
            let not_done = until(stop, sidecar.once()).await;
            let not_done = not_done.ok_or_else(|| Failure::Running("stopped".to_owned()))?;
            if not_done.is_empty() {
                return Ok(());
            }
            let names = not_done.join(", ");
            return Err(Failure::Running(format!("not all is published: {names}")));
        }
        Ok(sidecar.run(stop).await?)
    })
}

fn check(file: &File) -> Result<(), Failure> {
    let config = load(file)?;
    runtime()?.block_on(Sidecar::check(&config))?;
    print(&format!("{}: ok\n", file.config.display()))
}

/// One thread: there is little to do, and a sidecar should be small.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| Failure::Running(whole(&error)))
}

/// Turns true at the first SIGTERM or SIGINT.
fn stopped() -> io::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
        // Kept, since a sender that is gone stops as well.
        stop.closed().await;
    });
    Ok(stopped)
}

/// What `work` comes to, unless it is stopped before.
async fn until<T>(mut stop: watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        _ = stop.wait_for(|stop| *stop) => None,
    }
}

fn load(file: &File) -> Result<Config, Failure> {
    Config::load(&file.config, environment()).map_err(|error| Failure::Configuration(whole(&error)))
}

/// The environment. What is not UTF-8 is kept, so that it is an error where it is one of ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        (
            name.to_string_lossy().into_owned(),
            value.to_string_lossy().into_owned(),
        )
    })
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::Running(format!("standard output: {error}")))
}
