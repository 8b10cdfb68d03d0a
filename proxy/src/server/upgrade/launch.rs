//! How this process was started, so that it can be started again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::TAKE_OVER;

/// The program as it was named, its arguments, and where it may put its sockets.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program. Not resolved: who replaces the file, or has a link point elsewhere, wants the new one.
    pub program: PathBuf,
    /// Its arguments, without those of an upgrade.
    pub arguments: Vec<OsString>,
    /// Where private folders are made: the service's runtime directory, or the one for temporary files.
    pub folder: PathBuf,
}

impl Launch {
    /// Of this process. Asked at start, since later the file may be another one.
    pub fn of_this_process() -> std::io::Result<Self> {
        let mut arguments = std::env::args_os();
        let program = arguments.next().map(PathBuf::from).unwrap_or_default();
        let program = if program.components().count() > 1 {
            std::path::absolute(program)?
        } else {
            // Found by the search path.
            std::env::current_exe()?
        };
        Ok(Self {
            program,
            arguments: without_take_over(arguments),
            folder: folder(std::env::var_os("RUNTIME_DIRECTORY")),
        })
    }

    /// The arguments of a process that takes over from the one that is met in `folder`.
    pub(super) fn arguments_to_take_over(&self, folder: &Path) -> Vec<OsString> {
        let mut arguments = self.arguments.clone();
        arguments.extend([TAKE_OVER.into(), folder.into()]);
        arguments
    }
}

fn without_take_over(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.collect();
    if let Some(at) = arguments.iter().position(|argument| argument == TAKE_OVER) {
        arguments.truncate(at);
    }
    arguments
}

/// The first of systemd's runtime directories (systemd.exec(5): separated by colons).
fn folder(runtime_directories: Option<OsString>) -> PathBuf {
    let given = runtime_directories.and_then(|all| std::env::split_paths(&all).next());
    given
        .filter(|folder| folder.is_absolute())
        .unwrap_or_else(std::env::temp_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_taken_over_starts_the_next_one_as_it_was_started_itself() {
        let launch = Launch {
            program: "/usr/bin/postern".into(),
            arguments: vec!["run".into(), "-c".into(), "x.toml".into()],
            folder: "/run".into(),
        };
        let next = launch.arguments_to_take_over(Path::new("/run/p"));
        assert_eq!(next, ["run", "-c", "x.toml", "--take-over", "/run/p"]);
        assert_eq!(without_take_over(next.into_iter()), launch.arguments);
    }

    #[test]
    fn the_first_runtime_directory_is_ours() {
        assert_eq!(folder(Some("/run/a:/run/b".into())), Path::new("/run/a"));
        assert_eq!(folder(None), std::env::temp_dir());
        assert_eq!(folder(Some("".into())), std::env::temp_dir());
    }
}
