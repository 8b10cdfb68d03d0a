//! A log of JSON objects, one a line, that a process of the stack writes while we read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::child::tail;
use super::{Deadline, StackError};

// Limit: how long a line may take to appear after what caused it.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);

/// A file that grows by one JSON object a line.
#[derive(Debug, Clone)]
pub struct JsonLines {
    writer: String,
    path: PathBuf,
}

impl JsonLines {
    /// The log at `path`, which need not exist yet, of the process called `writer`.
    pub fn new(writer: &str, path: impl Into<PathBuf>) -> Self {
        Self {
            writer: writer.to_owned(),
            path: path.into(),
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All whole lines so far. A line that is no JSON is `Value::String`, so that a test can refuse it.
    pub fn all(&self) -> Vec<Value> {
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        let whole = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        let text = String::from_utf8_lossy(&bytes[..whole]);
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line));
        text.lines()
            .filter(|line| !line.is_empty())
            .map(parse)
            .collect()
    }

    /// Waits for a line that `matches`; the first one is returned. `awaited` says in words what it is.
    pub async fn wait_for(
        &self,
        awaited: &str,
        matches: impl Fn(&Value) -> bool,
    ) -> Result<Value, StackError> {
        let find = async || self.all().into_iter().find(|line| matches(line));
        Deadline::after(LINE_TIMEOUT)
            .poll(find)
            .await
            .ok_or_else(|| StackError::Late {
                name: self.writer.clone(),
                limit: LINE_TIMEOUT,
                awaited: format!("a log line: {awaited}"),
                log: tail(&self.path).unwrap_or_else(|| "(no line)".to_owned()),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_is_not_read_yet() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"a\":1}\n{\"a\":").unwrap();
        let lines = JsonLines::new("x", file.path());
        assert_eq!(lines.all(), [serde_json::json!({"a": 1})]);
    }
}
