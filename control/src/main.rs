//! Arguments and exit codes: 0 fine, 1 it failed while running, 2 the arguments or the configuration are wrong.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use postern_control::routes::{self, RoutesArguments};
use postern_control::routing::{self, Service};
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
    /// Answer who may reach what, and keep the books of it, until told to stop (SIGTERM, SIGINT).
    #[command(after_help = EXIT_CODES)]
    Routing(RoutingFile),
    /// Look at the books of account routing and keep them by hand.
    Routes(Box<RoutesArguments>),
    /// Prove the configuration and what it refers to, then exit. Asks no vault, opens no database.
    #[command(after_help = EXIT_CODES)]
    Check(Check),
    /// Print every option with its default and what it does, as TOML.
    Defaults(Of),
    /// Print every metric with its type, labels and meaning, as Markdown.
    Metrics(Of),
    /// Print what `routing` can be asked over HTTP, as an `OpenAPI` document.
    Openapi,
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
struct RoutingFile {
    /// The configuration file. `POSTERN_ROUTING_`* variables override it.
    #[arg(short, long, value_name = "FILE", default_value = ROUTING_PATH)]
    config: PathBuf,
}

#[derive(Args)]
struct Check {
    #[command(flatten)]
    of: Of,
    /// The configuration file; otherwise where the program looks for it.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    /// The account-routing service.
    Routing,
}

const DEFAULT_PATH: &str = "/etc/postern/postern-control.toml";
const ROUTING_PATH: &str = "/etc/postern/postern-routing.toml";
const EXIT_CODES: &str =
    "Exit codes: 0 fine; 1 failed while running; 2 the arguments or the configuration are wrong.";

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Sidecar(run) => sidecar(&run),
        Command::Routing(file) => routing(&file),
        Command::Routes(arguments) => return routes::run(*arguments, start::environment()),
        Command::Check(it) => check(&it),
        Command::Defaults(of) => print(&match of.program {
            Program::Sidecar => sidecar::Config::print_defaults(),
            Program::Routing => routing::Config::print_defaults(),
        }),
        Command::Metrics(of) => print(&match of.program {
            Program::Sidecar => sidecar::metrics::print_documentation(),
            Program::Routing => routing::metrics::print_documentation(),
        }),
        Command::Openapi => print(&routing::print_openapi()),
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
        let failed = |error: SidecarError| Failure::of(&error, error.is_configuration());
        let sidecar = Sidecar::new(&config).map_err(failed)?;
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
        sidecar.run(stop).await.map_err(failed)
    })
}

fn routing(file: &RoutingFile) -> Result<(), Failure> {
    let config: routing::Config = start::load(&file.config)?;
    start::log(config.log.level)?;
    start::runtime(Threads::OneACore)?.block_on(async {
        let service = Service::new(&config).await;
        let service = service.map_err(|error| Failure::of(&error, error.is_configuration()))?;
        service.run(start::stopped()?).await;
        Ok(())
    })
}

fn check(check: &Check) -> Result<(), Failure> {
    let or = |default: &str| check.config.clone().unwrap_or_else(|| default.into());
    let path = match check.of.program {
        Program::Sidecar => {
            let path = or(DEFAULT_PATH);
            let config = start::load(&path)?;
            let checked = start::runtime(Threads::One)?.block_on(Sidecar::check(&config));
            checked.map_err(|error| Failure::of(&error, error.is_configuration()))?;
            path
        }
        Program::Routing => {
            let path = or(ROUTING_PATH);
            let checked = Service::check(&start::load(&path)?);
            checked.map_err(|error| Failure::of(&error, error.is_configuration()))?;
            path
        }
    };
    print(&format!("{}: ok\n", path.display()))
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
