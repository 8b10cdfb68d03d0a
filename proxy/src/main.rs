//! Arguments and exit codes: 0 fine, 1 it failed while running, 2 the arguments or the configuration are wrong, 3 an
//! address is in use.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use postern::config::{Config, ConfigError};
use postern::server::Launch;
use postern_api::{HostName, LinkId};
use postern_chassis::whole;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The data plane of a private-link service.
#[derive(Parser)]
#[command(name = "postern", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until told to stop (SIGTERM and SIGQUIT drain, SIGINT stops at once, SIGUSR2 has a new process take over).
    #[command(after_help = EXIT_CODES)]
    Run(Run),
    /// Prove the configuration and what it refers to, then exit.
    #[command(after_help = EXIT_CODES, short_flag = 't')]
    Check(File),
    /// Say what would happen to a request, and why.
    #[command(after_help = EXIT_CODES)]
    Explain(Question),
    /// Print every option with its default and what it does, as TOML.
    Defaults,
    /// Print every metric with its type, labels and meaning, as Markdown.
    Metrics,
    /// Print the version.
    Version,
}

#[derive(Args)]
struct File {
    /// The configuration file. POSTERN_* variables override it.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    file: File,
    /// Take over from the process that is met in this folder. For that process alone, which puts it last.
    #[arg(long, value_name = "FOLDER", hide = true)]
    take_over: Option<PathBuf>,
}

#[derive(Args)]
struct Question {
    #[command(flatten)]
    file: File,
    /// The private endpoint's link id, as Azure Resource Manager prints it.
    #[arg(long, value_name = "N")]
    link_id: LinkId,
    /// The server name in the TLS `ClientHello`.
    #[arg(long, value_name = "NAME")]
    sni: HostName,
    /// The Host or :authority of the request [default: the server name].
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

const DEFAULT_PATH: &str = "/etc/postern/postern.toml";
const EXIT_CODES: &str = "Exit codes: 0 fine; 1 failed while running; 2 the arguments or the configuration are wrong; 3 an address is in use.";

/// Why the process ends with a failure, and its exit code.
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    fn running(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { text, code: 1 }
    }

    fn configuration(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { text, code: 2 }
    }
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Check(file) => check(&file),
        Command::Explain(question) => explain(&question),
        Command::Defaults => print(&Config::print_defaults()),
        Command::Metrics => print(&postern::metrics::print_documentation()),
        Command::Version => print(concat!(
            env!("CARGO_PKG_NAME"),
            " ",
            env!("CARGO_PKG_VERSION"),
            "\n"
        )),
    };
    let Err(Failure { text, code }) = result else {
        return ExitCode::SUCCESS;
    };
    // Where standard error is closed, the exit code says it alone.
    let _ = writeln!(io::stderr().lock(), "{text}");
    ExitCode::from(code)
}

fn run(run: &Run) -> Result<(), Failure> {
    let launch = Launch::of_this_process()
        .map_err(|error| Failure::running(format!("this program cannot be found: {error}")))?;
    let config = load(&run.file)?;
    let path = run.file.config.clone();
    let read = Box::new(move || read(&path));
    let ran = postern::server::run(&config, read, launch, run.take_over.as_deref());
    ran.map_err(|error| Failure {
        text: whole(&error),
        code: error.exit_code(),
    })
}

fn check(file: &File) -> Result<(), Failure> {
    let config = load(file)?;
    postern::server::check(&config).map_err(|error| Failure::configuration(whole(&error)))?;
    print(&format!("{}: ok\n", file.config.display()))
}

fn explain(question: &Question) -> Result<(), Failure> {
    let config = load(&question.file)?;
    let host = question.host.as_deref().unwrap_or(question.sni.as_str());
    let explanation = postern::server::explain(&config, question.link_id, &question.sni, host)
        .map_err(|error| Failure::running(whole(&error)))?;
    if question.json {
        let json = serde_json::to_string_pretty(&explanation)
            .map_err(|error| Failure::running(error.to_string()))?;
        print(&format!("{json}\n"))
    } else {
        print(&explanation.to_string())
    }
}

fn load(file: &File) -> Result<Config, Failure> {
    read(&file.config).map_err(|error| Failure::configuration(whole(&error)))
}

fn read(path: &Path) -> Result<Config, ConfigError> {
    // What is not UTF-8 is kept, so that it is an error where it is one of ours.
    let env = std::env::vars_os().map(|(name, value)| {
        (
            name.to_string_lossy().into_owned(),
            value.to_string_lossy().into_owned(),
        )
    });
    Config::load(path, env)
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::running(format!("standard output: {error}")))
}
