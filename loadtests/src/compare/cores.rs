//! Which core does what: the proxy under test has one for itself, everything else the other.

use std::ffi::OsStr;
use std::process::Command;

/// Two cores, if there are two.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cores {
    pair: Option<(usize, usize)>,
}

/// Who runs on a core.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    /// The proxy under test.
    Proxy,
    /// The load generator and the ingress.
    Load,
}

impl Cores {
    /// The first two cores that this process may use; none if there is only one, or no `taskset`.
    pub(super) fn find() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let mut cores = allowed(list.unwrap_or_default());
        let taskset = Command::new("taskset").arg("--version").output().is_ok();
        let pair = cores.next().zip(cores.next()).filter(|_| taskset);
        Self { pair }
    }

    /// A command for `program` on the core of its role.
    pub(super) fn command(self, role: Role, program: impl AsRef<OsStr>) -> Command {
        let Some((proxy, load)) = self.pair else {
            return Command::new(program);
        };
        let core = match role {
            Role::Proxy => proxy,
            Role::Load => load,
        };
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string()]).arg(program);
        command
    }

    /// In words.
    pub(super) fn text(self) -> String {
        match self.pair {
            Some((proxy, load)) => {
                format!("proxies on core {proxy}, load generator and ingress on core {load}")
            }
            None => "nothing pinned: this needs two cores and taskset".to_owned(),
        }
    }
}

/// The cores of a list such as `0-3,8`.
fn allowed(list: &str) -> impl Iterator<Item = usize> {
    list.trim().split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) => first..=last,
            #[expect(clippy::reversed_empty_ranges, reason = "an empty one is meant")]
            _ => 1..=0,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cores_is_read() {
        let cores = |list| allowed(list).collect::<Vec<_>>();
        assert_eq!(cores("0-1\n"), [0, 1]);
        assert_eq!(cores("2,4-5"), [2, 4, 5]);
        assert_eq!(cores(""), [0; 0]);
    }
}
