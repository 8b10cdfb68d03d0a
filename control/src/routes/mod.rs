//! `postern-control routes …`: the books of account routing, for people.
//!
//! ```text
//!   arguments ──▶ options ──▶ books (the service, or its file)
//!       │                        │
//!       └──▶ look · decide · transfer ──▶ print ──▶ standard output; errors to standard error; an exit code
//!                            └── import: what is wanted, planned, then done
//! ```
//!
//! Promises: a decision is about the version that was read, so that nobody approves what has become something else
//! meanwhile; nothing is deleted unless that is asked for; standard output has results and nothing else.

mod arguments;
mod books;
mod decide;
mod error;
mod import;
mod look;
mod options;
mod print;
mod transfer;

use std::io::{self, Write as _};
use std::process::ExitCode;

use arguments::Command;
pub use arguments::RoutesArguments;
pub use options::{Config, WhereArguments};
use postern_chassis::whole;

use error::Failure;

/// Does what is asked. `env`: the environment's variables.
pub fn run(arguments: RoutesArguments, env: impl Iterator<Item = (String, String)>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(asked(arguments, env)),
        Err(error) => Err(Failure::Output(error)),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // Where standard error is closed, the exit code says it alone.
            let _ = writeln!(io::stderr().lock(), "{}", whole(&failure));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The exit code of what was done.
async fn asked(
    arguments: RoutesArguments,
    env: impl Iterator<Item = (String, String)>,
) -> Result<u8, Failure> {
    let RoutesArguments { at, json, command } = arguments;
    if matches!(command, Command::Defaults) {
        print::out(&postern_chassis::print_defaults::<Config>())?;
        return Ok(0);
    }
    let place = at.place(env).map_err(Failure::Wrong)?;
    // A file that is wrong is told before anything is opened.
    let (wanted, create) = match &command {
        Command::Import(import) => (Some(transfer::read(import)?), import.create),
        _ => (None, false),
    };
    let books = books::open(place, create).await?;
    let books = books.as_ref();
    match command {
        Command::List(list) => look::list(books, &list, json).await,
        Command::Show { which } => look::show(books, &which, json).await,
        Command::Lookup { link, host } => {
            let found = look::lookup(books, link, &host, json).await?;
            return Ok(u8::from(!found));
        }
        Command::Approve(it) => decide::approve(books, it, json).await,
        Command::Reject(it) => decide::reject(books, it, json).await,
        Command::Delete {
            which,
            recursive,
            seen,
        } => decide::delete(books, &which, recursive, seen.etag, json).await,
        Command::Defaults => Ok(()),
        Command::Export { workspace } => transfer::export(books, workspace).await,
        Command::Import(import) => {
            transfer::import(books, &wanted.unwrap_or_default(), &import, json).await
        }
    }?;
    Ok(0)
}
