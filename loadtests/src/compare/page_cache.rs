//! Memory for what the proxies log.
//!
//! A file that grows takes free memory. In a virtual machine that gives free memory back to its host, the first
//! touch of it costs ten times what the write costs, so the length of a line and the luck of the moment would be
//! measured, not the proxy.

use std::fs::{File, remove_file};
use std::io::{self, Write as _};
use std::path::Path;

/// Has the machine hold as much free memory of its own as a measurement writes of a log.
pub(super) fn warm(folder: &Path) -> io::Result<()> {
    let path = folder.join("warm");
    let written = File::create(&path).and_then(|mut file| {
        let piece = vec![0; PIECE_BYTES];
        (0..PIECES).try_for_each(|_| file.write_all(&piece))
    });
    remove_file(&path)?;
    written
}

const PIECE_BYTES: usize = 1024 * 1024;
// Limit: 256 MiB, which is 5 s of 80,000 lines of 650 bytes.
const PIECES: usize = 256;
