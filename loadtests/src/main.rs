//! `postern-load`: the local stack, the Private Link Service stand-in, load and comparison, and the scenarios
//! that prove what Postern promises.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use postern_loadtests::check::with_causes;
use postern_loadtests::stack::echo::Echo;
use postern_loadtests::{bench, compare, key_vault, link_lb, prove, say, up};

// The load generator shares a core with the ingress: what it saves, both have.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The local stack of Postern, and the scenarios that prove what it promises.
///
/// Exit codes: 0 all went well; 1 something did not, and the output says what; 2 wrong arguments.
#[derive(Debug, Parser)]
#[command(name = "postern-load")]
enum Arguments {
    /// Start the whole stack, verify it, and leave it running
    Up(up::UpOptions),
    /// Run one scenario and say whether its promise held
    Prove(prove::ProveOptions),
    /// Stand for the Private Link Service: relay TCP with a PROXY v2 header and a link id before it
    LinkLb(link_lb::LinkLbOptions),
    /// Stand for Key Vault and the identity that may read it
    KeyVault(key_vault::KeyVaultOptions),
    /// Send load, over connections that begin as a Private Link Service's do, and measure the answers
    Bench(bench::BenchOptions),
    /// Measure Postern beside nginx, `HAProxy`, Envoy and pingora-proxy, all at the same job
    Compare(compare::CompareOptions),
    /// Relay bytes from TLS to TLS without reading them, as the floor under what a proxy costs
    Pipe(compare::pipe::PipeOptions),
    /// Run the back end of the stack: it echoes, streams, breaks off, and remembers what it saw
    Echo {
        /// Where to listen
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
    },
}

fn main() -> ExitCode {
    match Arguments::parse() {
        // On this thread alone, so that it can be pinned.
        Arguments::Bench(options) => bench::run(&options),
        Arguments::Compare(options) => block_on(compare::run(options)),
        Arguments::Up(options) => block_on(up::run(options)),
        Arguments::Prove(options) => block_on(prove::run(options)),
        Arguments::LinkLb(options) => block_on(async {
            match link_lb::run(options).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failure(&format!("link-lb: {error}")),
            }
        }),
        Arguments::KeyVault(options) => block_on(async {
            match key_vault::run(options).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failure(&format!("key-vault: {}", with_causes(&error))),
            }
        }),
        Arguments::Pipe(options) => match compare::pipe::run(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failure(&format!("pipe: {}", with_causes(&error))),
        },
        Arguments::Echo { listen } => block_on(async {
            match Echo::start(Some(listen)).await {
                Ok(echo) => {
                    say(&format!("echo: {}", echo.address()));
                    echo.join().await;
                    ExitCode::SUCCESS
                }
                Err(error) => failure(&with_causes(&error)),
            }
        }),
    }
}

fn block_on(command: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => failure(&format!("cannot start: {error}")),
    }
}

fn failure(text: &str) -> ExitCode {
    say(text);
    ExitCode::FAILURE
}
