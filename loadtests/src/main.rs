//! `postern-load`: the local stack, the Private Link Service stand-in, and the scenarios that prove what
//! Postern promises.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use postern_loadtests::check::with_causes;
use postern_loadtests::stack::echo::Echo;
use postern_loadtests::{link_lb, prove, say, up};

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
    /// Run the back end of the stack: it echoes, streams, breaks off, and remembers what it saw
    Echo {
        /// Where to listen
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: SocketAddr,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match Arguments::parse() {
        Arguments::Up(options) => up::run(options).await,
        Arguments::Prove(options) => prove::run(options).await,
        Arguments::LinkLb(options) => match link_lb::run(options).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failure(&format!("link-lb: {error}")),
        },
        Arguments::Echo { listen } => match Echo::start(Some(listen)).await {
            Ok(echo) => {
                say(&format!("echo: {}", echo.address()));
                echo.join().await;
                ExitCode::SUCCESS
            }
            Err(error) => failure(&with_causes(&error)),
        },
    }
}

fn failure(text: &str) -> ExitCode {
    say(text);
    ExitCode::FAILURE
}
