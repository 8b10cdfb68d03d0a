//! What a process costs: CPU time and memory, of it and of all it started.
//!
//! Invariant: a process group is one proxy, as `stack::child` starts it.

use std::fs;
use std::io;

/// CPU time that all threads of a process group have used, in nanoseconds.
///
/// It counts what ran, whoever else ran beside it, so that a noisy machine changes it little.
pub(super) fn cpu_nanos(group: u32) -> io::Result<u64> {
    let mut sum = 0;
    for process in members(group)? {
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
            continue; // It has ended meanwhile.
        };
        for thread in threads.flatten() {
            // "time on the CPU, time waiting for it, time slices" (Documentation/scheduler/sched-stats).
            let stat = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            let nanos = stat.split(' ').next().and_then(|field| field.parse().ok());
            sum += nanos.unwrap_or(0);
        }
    }
    if sum == 0 {
        let text = "/proc/PID/task/*/schedstat shows nothing: the kernel does not count";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(sum)
}

/// Resident memory of the largest process of the group, in KiB: nginx's worker, not its idle master, whose
/// pages are mostly the same ones.
pub(super) fn resident_kib(group: u32) -> io::Result<u64> {
    let sizes = members(group)?.into_iter().map(|process| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
        kilobytes.and_then(|number| number.trim().parse().ok())
    });
    Ok(sizes.flatten().max().unwrap_or(0))
}

fn members(group: u32) -> io::Result<Vec<u32>> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // "pid (name) state parent group …" (proc(5)); a name may have anything in it.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        if rest.split(' ').nth(2) == Some(group.to_string().as_str()) {
            members.push(process);
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::stack::Child;

    #[tokio::test]
    async fn time_and_memory_of_what_a_process_started_are_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        // The work is done by a second process that stays.
        let script =
            "sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; sleep 60' & wait";
        command.arg("-c").arg(script);
        let mut child = Child::spawn("busy", command, folder.path()).unwrap();
        let out = child.stdout().to_owned();
        let done = async || fs::read_to_string(&out).is_ok_and(|text| text.contains("done"));
        let limit = crate::stack::child::READY_TIMEOUT;
        child.wait_until("the work", limit, done).await.unwrap();
        assert!(members(child.pid()).unwrap().len() >= 2);
        assert!(cpu_nanos(child.pid()).unwrap() > 1_000_000);
        assert!(resident_kib(child.pid()).unwrap() > 100);
    }
}
