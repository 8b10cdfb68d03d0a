//! What a service manager hears and sees: notifications, the watchdog, exit codes.

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use postern_loadtests::stack::accounts::{HOST_A, LINK_A};
use postern_loadtests::stack::binary;
use postern_loadtests::stack::client::Protocol;
use postern_loadtests::stack::local::LocalOptions;
use rustix::process::Signal;

use crate::scene::{SOON, Scene, until, with};

/// The service manager's socket.
struct Manager {
    socket: UnixDatagram,
    heard: VecDeque<String>,
}

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            heard: VecDeque::new(),
        }
    }

    /// Waits for a line that begins like this, and gives the rest. Those before it are passed over.
    async fn hears(&mut self, beginning: &str) -> String {
        let mut found = None;
        until(beginning, async || {
            let mut buffer = [0; 4096];
            while let Ok(length) = self.socket.recv(&mut buffer) {
                let text = std::str::from_utf8(&buffer[..length]).unwrap();
                self.heard.extend(text.lines().map(str::to_owned));
            }
            while let Some(line) = self.heard.pop_front() {
                if let Some(rest) = line.strip_prefix(beginning) {
                    found = Some(rest.to_owned());
                    return true;
                }
            }
            false
        })
        .await;
        found.unwrap()
    }
}

/// A program that makes the watchdog one of its own process alone, as a service manager does.
fn watched(folder: &Path) -> std::path::PathBuf {
    let program = binary("postern").unwrap();
    let script = folder.join("start");
    let text = format!(
        "#!/bin/sh\nWATCHDOG_PID=$$ exec '{}' \"$@\"\n",
        program.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[tokio::test]
async fn a_service_manager_hears_how_the_service_is_and_which_process_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let mut manager = Manager::listen(&path);
    let variables = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "1000000"),
        ("POSTERN_DRAIN__NOTICE", "2s"),
    ];
    let options = LocalOptions {
        program: Some(watched(folder.path())),
        ..with(&variables)
    };
    let mut scene = Scene::with(&options).await;
    manager.hears("READY=1").await;
    manager.hears("STATUS=ready").await;
    manager.hears("WATCHDOG=1").await;
    manager.hears("WATCHDOG=1").await;

    scene.stack.postern.reload().await.unwrap();
    manager.hears("RELOADING=1").await;
    manager.hears("MONOTONIC_USEC=").await;
    manager.hears("READY=1").await;

    let pid = scene.stack.postern.upgrade().await.unwrap();
    assert_eq!(manager.hears("MAINPID=").await, pid.to_string());
    manager.hears("READY=1").await;
    manager.hears("STATUS=ready").await;
    scene.stack.postern.previous_ended(SOON).await.unwrap();
    // The second one cannot have been on its way.
    manager.hears("WATCHDOG=1").await;
    manager.hears("WATCHDOG=1").await;

    let open = scene.connect(LINK_A, HOST_A, Protocol::Http1).await;
    scene.stack.postern.signal(Signal::TERM).unwrap();
    manager.hears("STOPPING=1").await;
    assert_eq!(
        manager.hears("STATUS=draining: ").await,
        "1 connections, not ready"
    );
    drop(open);
    let status = scene.stack.postern.ended(SOON).await.unwrap();
    assert_eq!(status.code(), Some(0), "{status:?}");
}

#[tokio::test]
async fn a_process_that_fails_says_so_by_its_exit_code() {
    let scene = Scene::start(&[]).await;
    for (arguments, code, text) in [
        (&["--take-over", "/nowhere"][..], 1, "cannot take over"),
        (&["--anything"], 2, "--anything"),
        (&[], 3, "data.listen"),
    ] {
        let mut command = Command::new(binary("postern").unwrap());
        command
            .arg("run")
            .arg("-c")
            .arg(scene.stack.postern.config());
        let output = command.args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(text), "{error}");
    }
}
