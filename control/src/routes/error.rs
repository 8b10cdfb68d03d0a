//! Why a command has not done what it was asked, and the exit code that says so to a script.

use std::error::Error;
use std::io;

use postern_chassis::whole;

use crate::routing::store::{ImportError, StoreError};

/// Why a command has not done what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The books say no, or hold something else than was asked for.
    #[error("{0}")]
    Refused(Refusal),
    /// An argument, the configuration or a file to import is wrong. Nothing has been asked.
    #[error("{0}")]
    Wrong(String),
    /// There is no answer: nobody knows whether it is so, or was done.
    #[error("{0}")]
    NoAnswer(String),
    /// The answer could not be written.
    #[error("standard output")]
    Output(#[from] io::Error),
}

/// What the books say no to, in the words of Azure Resource Manager's errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What kind.
    pub(super) kind: RefusalKind,
    /// The one word, such as `Conflict`.
    pub(super) code: String,
    /// Which resource or field, if one is to blame.
    pub(super) target: Option<String>,
    /// Why, for people.
    pub(super) message: String,
}

/// What kind of refusal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusalKind {
    /// It is not there.
    NotFound,
    /// It is no longer as it was read.
    Changed,
    /// Anything else.
    Other,
}

impl std::fmt::Display for Refusal {
    /// `CODE at TARGET: message`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.code)?;
        if let Some(target) = &self.target {
            write!(f, " at {target}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Failure {
    /// A refusal of our own.
    pub(super) fn refused(code: &str, target: &impl ToString, message: impl Into<String>) -> Self {
        Self::Refused(Refusal {
            kind: RefusalKind::Other,
            code: code.to_owned(),
            target: Some(target.to_string()),
            message: message.into(),
        })
    }

    /// The same, with the item that it is about.
    pub(super) fn about(self, item: &impl std::fmt::Display) -> Self {
        match self {
            Self::Refused(refusal) => Self::Refused(Refusal {
                message: format!("{item}: {}", refusal.message),
                ..refusal
            }),
            Self::NoAnswer(why) => Self::NoAnswer(format!("{item}: {why}")),
            other => other,
        }
    }

    /// Whether it is refused for this reason.
    pub(super) fn is(&self, wanted: RefusalKind) -> bool {
        matches!(self, Self::Refused(Refusal { kind, .. }) if *kind == wanted)
    }

    /// The exit code, as [`EXIT_CODES`](super::EXIT_CODES) has it.
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Output(_) => 1,
            Self::Wrong(_) => 2,
            Self::NoAnswer(_) => 3,
        }
    }
}

impl From<StoreError> for Failure {
    /// In the same words as the service has for it.
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        let (kind, code, target) = match &error {
            StoreError::NotFound(_) => (RefusalKind::NotFound, "ResourceNotFound", None),
            StoreError::PreconditionFailed => (RefusalKind::Changed, "PreconditionFailed", None),
            StoreError::Conflict { field, .. } => {
                (RefusalKind::Other, "Conflict", Some(field.path()))
            }
            StoreError::Invalid { field, .. } => (
                RefusalKind::Other,
                "InvalidRequestContent",
                Some(field.path()),
            ),
            StoreError::Gone(_) | StoreError::Busy | StoreError::Unavailable(_) => {
                return Self::NoAnswer(whole(&error));
            }
        };
        Self::Refused(Refusal {
            kind,
            code: code.to_owned(),
            target: target.map(str::to_owned),
            message,
        })
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        let ImportError { item, source } = error;
        Self::from(source).about(&item)
    }
}

/// No answer, since `what` failed with `error`.
pub(super) fn no_answer(what: &str, error: &(dyn Error + 'static)) -> Failure {
    Failure::NoAnswer(format!("{what}: {}", whole(error)))
}
