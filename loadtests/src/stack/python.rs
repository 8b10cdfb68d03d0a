//! Python environments with pinned packages, for peers that are independent of us: a `DICOMweb` client,
//! Envoy, Azure's own clients of Key Vault.
//!
//! Each is made on first use under the build folder and kept: the key in its name is of the pinned packages
//! and the interpreter, so that a change of either makes another one. The system's Python is left as it is.
//!
//! Invariant: an environment without its mark is not whole, and is made again.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::Value;

use super::{Child, Deadline, StackError, make_folder, write_file};

// Limit: 80 MB of packages at 150 kB/s.
const INSTALL_TIMEOUT: Duration = Duration::from_mins(10);

// Limit: the interpreter tells its version in some 10 ms.
const VERSION_TIMEOUT: Duration = Duration::from_secs(30);

/// Scripts, and the packages that they need: a folder of `loadtests/` with a `requirements.txt`.
#[derive(Debug, Clone, Copy)]
pub struct Scripts {
    folder: &'static str,
    requirements: &'static str,
}

/// A `DICOMweb` client, and Envoy.
pub const DICOM: Scripts = Scripts {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/dicom"),
    requirements: include_str!("../../dicom/requirements.txt"),
};

/// Azure's clients of Key Vault.
pub const KEY_VAULT: Scripts = Scripts {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/key_vault"),
    requirements: include_str!("../../key_vault/requirements.txt"),
};

/// A validator of `OpenAPI` documents, and a fuzzer that goes by them.
pub const ROUTING_API: Scripts = Scripts {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/routing_api"),
    requirements: include_str!("../../routing_api/requirements.txt"),
};

/// Written last, when everything is there.
const MARK: &str = "whole";

/// An environment with all packages of [`Scripts`].
#[derive(Debug, Clone)]
pub struct Python {
    scripts: Scripts,
    folder: PathBuf,
}

/// What a script left.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// The last line of standard output as JSON; `Value::Null` if it is none.
    pub fn json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or(Value::Null)
    }
}

impl Python {
    /// The environment; made first if it is not there, which needs a package index and up to a minute.
    ///
    /// Processes and threads that ask at the same time wait for the one that makes it.
    pub async fn install(scripts: Scripts) -> Result<Self, StackError> {
        let place = build_folder().join("python");
        make_folder(&place)?;
        let scratch = scratch()?;
        let version = version(scratch.path()).await?;
        let mut key = DefaultHasher::new();
        (scripts.requirements, version).hash(&mut key);
        let name = format!("{:016x}", key.finish());
        let python = Self {
            scripts,
            folder: place.join(&name),
        };
        let _lock = lock(&place.join(format!("{name}.lock"))).await?;
        if !python.folder.join(MARK).exists() {
            python.make(scratch.path()).await?;
        }
        Ok(python)
    }

    /// Runs a script of the folder and waits at most `limit` for its end. Whether it succeeded is in the
    /// answer; only that it could not be run, or ran too long, is an error.
    pub async fn run<A: AsRef<OsStr>>(
        &self,
        script: &str,
        arguments: impl IntoIterator<Item = A>,
        limit: Duration,
    ) -> Result<Output, StackError> {
        let scratch = scratch()?;
        let mut command = self.command();
        command
            .arg(Path::new(self.scripts.folder).join(script))
            .args(arguments);
        finish(script, command, scratch.path(), limit).await
    }

    /// The Envoy binary inside its package.
    pub async fn envoy(&self) -> Result<PathBuf, StackError> {
        let ask =
            "import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / '_bin' / 'envoy')";
        let mut command = self.command();
        command.args(["-c", ask]);
        let scratch = scratch()?;
        let output = finish("envoy-path", command, scratch.path(), VERSION_TIMEOUT).await?;
        succeeded("envoy-path", "the path of Envoy", &output)?;
        Ok(PathBuf::from(output.stdout.trim()))
    }

    /// The interpreter, deaf to `PYTHON*` variables, leaving no bytecode beside the scripts.
    fn command(&self) -> Command {
        let mut command = Command::new(self.folder.join("bin/python"));
        command.args(["-E", "-B", "-u"]);
        command
    }

    async fn make(&self, scratch: &Path) -> Result<(), StackError> {
        let name = "python-environment";
        let mut command = Command::new("python3");
        command.args(["-m", "venv", "--clear"]).arg(&self.folder);
        let output = finish(name, command, scratch, INSTALL_TIMEOUT).await?;
        succeeded(
            name,
            "a virtual environment (Debian: python3-venv)",
            &output,
        )?;

        let name = "python-packages";
        let requirements = self.folder.join("requirements.txt");
        write_file(&requirements, self.scripts.requirements)?;
        let mut command = self.command();
        // `--no-deps`: what is not pinned is not installed. `--only-binary`: nothing is compiled here.
        command
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-input",
                "--disable-pip-version-check",
            ])
            .args(["--no-deps", "--only-binary", ":all:", "--requirement"])
            .arg(&requirements);
        let output = finish(name, command, scratch, INSTALL_TIMEOUT).await?;
        succeeded(
            name,
            &format!("the packages of {}/requirements.txt", self.scripts.folder),
            &output,
        )?;
        write_file(&self.folder.join(MARK), "")
    }
}

/// The folder that cargo builds into, which has a `CACHEDIR.TAG`; for a program outside of one, the folder
/// for temporary files.
fn build_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let tagged = program
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists());
    tagged.map_or_else(|| std::env::temp_dir().join("postern"), Path::to_owned)
}

async fn version(scratch: &Path) -> Result<String, StackError> {
    let mut command = Command::new("python3");
    command.args(["-E", "-c", "import sys; print(sys.executable, sys.version)"]);
    let output = finish("python-version", command, scratch, VERSION_TIMEOUT).await?;
    succeeded("python-version", "the version of python3", &output)?;
    Ok(output.stdout)
}

/// Holds the lock on `path` until the value is dropped.
async fn lock(path: &Path) -> Result<File, StackError> {
    let failed = |source| StackError::File {
        action: "lock",
        path: path.to_owned(),
        source,
    };
    let file = File::create(path).map_err(failed)?;
    let locked = Deadline::after(INSTALL_TIMEOUT).poll(async || match file.try_lock() {
        Ok(()) => Some(Ok(())),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(source)) => Some(Err(source)),
    });
    match locked.await {
        Some(outcome) => outcome.map_err(failed).map(|()| file),
        None => Err(StackError::Late {
            name: "python-environment".to_owned(),
            limit: INSTALL_TIMEOUT,
            awaited: format!("another process that holds {}", path.display()),
            log: String::new(),
        }),
    }
}

fn scratch() -> Result<tempfile::TempDir, StackError> {
    tempfile::tempdir().map_err(|source| StackError::File {
        action: "create",
        path: std::env::temp_dir(),
        source,
    })
}

/// Runs a command to its end.
async fn finish(
    name: &str,
    command: Command,
    folder: &Path,
    limit: Duration,
) -> Result<Output, StackError> {
    let mut child = Child::spawn(name, command, folder)?;
    let status = child.wait_for_exit(limit).await?;
    Ok(Output {
        status,
        stdout: read(child.stdout())?,
        stderr: read(child.stderr())?,
    })
}

fn succeeded(name: &str, awaited: &str, output: &Output) -> Result<(), StackError> {
    if output.status.success() {
        return Ok(());
    }
    Err(StackError::Ended {
        name: name.to_owned(),
        status: output.status,
        awaited: awaited.to_owned(),
        log: output.stderr.clone(),
    })
}

fn read(path: &Path) -> Result<String, StackError> {
    let bytes = std::fs::read(path).map_err(|source| StackError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned() {
        let packages = [DICOM, KEY_VAULT, ROUTING_API]
            .into_iter()
            .flat_map(|scripts| scripts.requirements.lines())
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        for package in packages {
            let (name, version) = package
                .split_once("==")
                .unwrap_or_else(|| panic!("{package}"));
            assert!(
                !name.is_empty() && version.starts_with(|c: char| c.is_ascii_digit()),
                "{package}"
            );
        }
    }

    #[tokio::test]
    async fn wrong_arguments_are_reported_by_the_script_itself() {
        let python = Python::install(DICOM).await.unwrap();
        let output = python
            .run(
                "session.py",
                ["--url", "https://a.example/"],
                VERSION_TIMEOUT,
            )
            .await
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            output.stderr.contains("--ca is needed for https"),
            "{output:?}"
        );
        assert_eq!(output.json(), Value::Null);
    }

    #[tokio::test]
    async fn two_at_once_share_one_environment() {
        let (one, two) = tokio::join!(Python::install(DICOM), Python::install(DICOM));
        assert_eq!(one.unwrap().folder, two.unwrap().folder);
    }
}
