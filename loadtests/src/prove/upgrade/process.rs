//! A process and its program, as the kernel sees them.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::check::Broken;
use crate::stack::postern::Postern;
use crate::stack::{StackError, binary, make_folder};

/// A process, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process(u32);

impl Process {
    pub(super) const fn new(pid: u32) -> Self {
        Self(pid)
    }

    /// The newest one.
    pub(super) fn of(postern: &Postern) -> Self {
        Self(postern.pid())
    }

    /// Whether it is there and no mere entry in the table of processes.
    pub(super) fn is_running(self) -> bool {
        let stat = std::fs::read_to_string(self.path("stat")).unwrap_or_default();
        // `PID (NAME) STATE …`: proc(5).
        let state = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.chars().next());
        state.is_some_and(|state| state != 'Z')
    }

    /// Which file it runs.
    pub(super) fn program_inode(self) -> Result<u64, Broken> {
        Ok(std::fs::metadata(self.path("exe"))?.ino())
    }

    /// How many descriptors it has open.
    pub(super) fn descriptors(self) -> Result<usize, Broken> {
        Ok(std::fs::read_dir(self.path("fd"))?.count())
    }

    /// Its memory, in kilobytes.
    pub(super) fn resident_kilobytes(self) -> Result<u64, Broken> {
        let status = std::fs::read_to_string(self.path("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        number.ok_or_else(|| Broken::Unexpected(status.clone()))
    }

    fn path(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }
}

/// The program that is started, in a place of its own.
pub(super) struct Program {
    built: PathBuf,
    path: PathBuf,
}

impl Program {
    /// A copy of the one that was built, in `folder`.
    pub(super) fn copy_to(folder: &Path) -> Result<Self, Broken> {
        make_folder(folder)?;
        let program = Self {
            built: binary("postern")?,
            path: folder.join("postern"),
        };
        program.replace()?;
        Ok(program)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a copy of the one that was built in its place. Tells by which number the kernel knows the file.
    pub(super) fn replace(&self) -> Result<u64, Broken> {
        let copy = |new: &Path| std::fs::copy(&self.built, new).map(drop);
        self.put(copy)
    }

    /// Puts a shell script in its place.
    pub(super) fn replace_by(&self, script: &str) -> Result<u64, Broken> {
        self.put(|new| {
            std::fs::write(new, format!("#!/bin/sh\n{script}\n"))?;
            std::fs::set_permissions(new, Permissions::from_mode(0o755))
        })
    }

    fn put(&self, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<u64, Broken> {
        let new = self.path.with_extension("new");
        let failed = |source| StackError::File {
            action: "replace",
            path: self.path.clone(),
            source,
        };
        write(&new).map_err(failed)?;
        let inode = std::fs::metadata(&new)?.ino();
        std::fs::rename(&new, &self.path).map_err(failed)?;
        Ok(inode)
    }
}
