//! Programs to compare with: found, or installed by the name of their package.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::check::with_causes;
use crate::say;
use crate::stack::{Child, binary};

/// Installs a Debian package unless `program` is there.
pub(super) async fn debian(package: &str, program: &str) -> Result<(), String> {
    if Path::new(program).exists() {
        return Ok(());
    }
    say(&format!("installing the Debian package {package}"));
    let mut command = Command::new("sh");
    command.args(["-c", APT, "apt", package]);
    finish("apt", command).await
}

/// Builds `pingora-peer` beside this program. Quick when nothing has changed.
pub(super) async fn pingora_peer() -> Result<PathBuf, String> {
    built(
        "pingora-peer",
        &["-p", "postern-loadtests", "--features", "peer"],
    )
    .await
}

/// `postern` beside this program; built if it is not there.
pub(super) async fn postern() -> Result<PathBuf, String> {
    match binary("postern") {
        Ok(program) => Ok(program),
        Err(_) => built("postern", &["-p", "postern"]).await,
    }
}

async fn built(name: &str, package: &[&str]) -> Result<PathBuf, String> {
    let here = binary("postern-load").map_err(|error| with_causes(&error))?;
    let folder = here.parent().unwrap_or(Path::new("."));
    let program = folder.join(name);
    let mut command = Command::new("cargo");
    command
        .args(["build", "--locked", "--quiet"])
        .args(package)
        .args(["--bin", name])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--target-dir")
        .arg(folder.parent().unwrap_or(folder));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    if !program.exists() {
        say(&format!("building {name} (some minutes the first time)"));
    }
    match finish("cargo", command).await {
        Ok(()) => Ok(program),
        // Moved to a machine that cannot build.
        Err(_) if program.exists() => Ok(program),
        Err(error) => Err(error),
    }
}

/// What a program says its version is: the first line.
pub(super) fn version(program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<String, String> {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    // nginx says it on standard error.
    let both = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&both).into_owned();
    let line = text.lines().find(|line| !line.trim().is_empty());
    Ok(line.unwrap_or("(it says nothing)").trim().to_owned())
}

async fn finish(name: &str, command: Command) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let text = |error: crate::stack::StackError| with_causes(&error);
    let mut child = Child::spawn(name, command, folder.path()).map_err(text)?;
    let status = child.wait_for_exit(INSTALL_TIMEOUT).await.map_err(text)?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{name} ended with {status}\n{}", child.tail()))
    }
}

/// Installs `$1` without starting its service: while it is unpacked, `policy-rc.d` forbids that (exit 101).
const APT: &str = r#"
set -eu
policy=/usr/sbin/policy-rc.d
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
if [ ! -e "$policy" ]; then
  trap 'as_root rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
fi
as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$1" ||
  { as_root apt-get -q update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$1"; }
"#;

// Limit: a release build of pingora-proxy on two busy cores is the slow case.
const INSTALL_TIMEOUT: Duration = Duration::from_mins(30);
