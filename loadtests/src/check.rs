//! What a check found, for the lines that `up` and `prove` print.

use std::error::Error;
use std::fmt::Write as _;

use crate::stack::StackError;
use crate::stack::client::ClientError;
use crate::stack::operator::OperatorError;

/// Why a check did not hold.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// Something else came than was promised.
    #[error("{0}")]
    Unexpected(String),
    /// The stack is not there, or did not show something in time.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The client could not do its part.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Account routing did not do what it was asked to.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// A request could not be built.
    #[error(transparent)]
    Request(#[from] http::Error),
    /// A socket failed.
    #[error("a socket failed")]
    Socket(#[from] std::io::Error),
}

/// Fails with `text` unless `holds`.
pub fn expect(holds: bool, text: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds {
        Ok(())
    } else {
        Err(Broken::Unexpected(text()))
    }
}

/// An error with all its causes in one text.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a `String` cannot fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
