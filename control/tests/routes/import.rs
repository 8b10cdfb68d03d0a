//! Books from and to files.

use std::io::{self, BufRead as _, BufReader};

use crate::scene::{At, BOOKS, Scene};

fn both() -> [(Scene, At); 2] {
    [
        (Scene::with_file(), At::File),
        (Scene::with_service(), At::Service),
    ]
}

#[test]
fn an_export_is_imported_elsewhere_and_again_as_nothing_new() {
    let [(file, at_file), (service, at_service)] = both();
    file.ask_with(at_file, &["import", "-"], BOOKS).ok();
    let exported = file.ask(at_file, "export").ok();
    let moved = service
        .ask_with(at_service, &["import", "-"], &exported)
        .ok();
    assert!(
        moved.ends_with("7 created, 0 changed, 0 deleted, 0 unchanged\n"),
        "{moved}"
    );
    assert_eq!(service.ask(at_service, "export").ok(), exported);
    for (scene, at) in [(&file, at_file), (&service, at_service)] {
        let again = scene
            .ask_with(at, &["import", "-", "--prune"], &exported)
            .ok();
        assert_eq!(again, "0 created, 0 changed, 0 deleted, 7 unchanged\n");
    }
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    for (scene, at) in both() {
        scene.ask_with(at, &["import", "-"], BOOKS).ok();
        let before = scene.ask(at, "export").ok();
        let other = BOOKS
            .replace(r#""7", "state": "Pending""#, r#""7", "state": "Approved""#)
            .replace("images.clinic.example", "pacs.clinic.example")
            .replace("\"pe-2\"", "\"pe-4\"")
            .replace(
                "\"8\", \"state\": \"Approved\"",
                "\"10\", \"state\": \"Rejected\"",
            );
        let said = scene
            .ask_with(at, &["import", "-", "--dry-run", "--prune"], &other)
            .ok();
        assert_eq!(
            said,
            "\
would delete connection clinic/images/pe-2
would change account clinic/images (hosts)
would change connection clinic/images/pe-1 (state)
would create connection clinic/images/pe-4
would be: 1 created, 2 changed, 1 deleted, 4 unchanged
"
        );
        assert_eq!(scene.ask(at, "export").ok(), before);
        let done = scene
            .ask_with(at, &["import", "-", "--prune", "--json"], &other)
            .json();
        assert_eq!(done["created"], 1);
        assert_eq!(done["deleted"], 1);
        assert_eq!(done["items"].as_array().unwrap().len(), 4);
        let again = scene.ask_with(at, &["import", "-", "--prune"], &other).ok();
        assert_eq!(again, "0 created, 0 changed, 0 deleted, 7 unchanged\n");
        let listed = scene.ask(at, "list --state rejected --json").json();
        assert_eq!(listed[0]["name"], "clinic/images/pe-4");
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_done() {
    for (scene, at) in both() {
        scene.ask_with(at, &["import", "-"], BOOKS).ok();
        let before = scene.ask(at, "export").ok();
        let other = BOOKS
            .replace(
                "\"8\", \"state\": \"Approved\"",
                "\"8\", \"state\": \"Pending\"",
            )
            .replace("for ward 3", "for ward 4");
        assert_eq!(
            scene.ask_with(at, &["import", "-"], &other).failed(1),
            "Conflict at -: nothing was done:\n\
             connection clinic/images/pe-2: it is Approved and cannot become Pending: delete it and import again\n"
        );
        assert_eq!(scene.ask(at, "export").ok(), before);
    }
}

const TAKEN: &str = r#"{"format": 1, "accounts": [
    {"account": "other/aaa", "properties": {"kind": "dicom", "hosts": ["a.other.example"], "cluster": "dicom"}},
    {"account": "other/bbb", "properties": {"kind": "dicom", "hosts": ["images.clinic.example"], "cluster": "dicom"}}]}"#;

#[test]
fn an_import_that_the_file_refuses_has_done_nothing() {
    let scene = Scene::with_file();
    scene.ask_with(At::File, &["import", "-"], BOOKS).ok();
    let refused = scene.ask_with(At::File, &["import", "-"], TAKEN);
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.starts_with("Conflict at properties.hosts: "),
        "{refused:?}"
    );
    assert!(refused.err.contains("other/bbb"), "{refused:?}");
    assert_eq!(
        refused.out,
        "0 created, 0 changed, 0 deleted, 0 unchanged, 3 not done: import again to go on\n"
    );
    let there = scene.ask(At::File, "list --workspace other").failed(1);
    assert!(there.contains("there is no such workspace"), "{there}");
}

#[test]
fn an_import_that_the_service_refuses_tells_what_is_done_and_goes_on_later() {
    let scene = Scene::with_service();
    scene.ask_with(At::Service, &["import", "-"], BOOKS).ok();
    let refused = scene.ask_with(At::Service, &["import", "-"], TAKEN);
    assert_eq!(refused.code, 1);
    let lines: Vec<_> = refused.out.lines().collect();
    assert_eq!(
        lines[..2],
        ["created workspace other", "created account other/aaa"]
    );
    assert!(
        lines[2].starts_with("NOT DONE account other/bbb: Conflict at properties.hosts: "),
        "{refused:?}"
    );
    assert_eq!(
        lines[3],
        "2 created, 0 changed, 0 deleted, 0 unchanged, 1 not done: import again to go on"
    );
    assert!(
        refused
            .err
            .starts_with("Conflict at properties.hosts: account other/bbb: "),
        "{refused:?}"
    );
    let free = BOOKS.replace("images.clinic.example", "pacs.clinic.example");
    scene.ask_with(At::Service, &["import", "-"], &free).ok();
    let done = scene.ask_with(At::Service, &["import", "-"], TAKEN).ok();
    assert_eq!(
        done,
        "created account other/bbb\n1 created, 0 changed, 0 deleted, 2 unchanged\n"
    );
}

#[test]
fn an_installation_on_files_moves_to_the_service() {
    let routes = r#"
[[accounts]]
name = "hospital-a"
kind = "dicom"
hosts = ["hospital-a.dicom.example"]
cluster = "dicom"
[[accounts.links]]
link_id = 553665985
state = "Approved"
"#;
    for (scene, at) in both() {
        std::fs::write(scene.path("routes.toml"), routes).unwrap();
        let refused = scene.ask(at, "import routes.toml").failed(2);
        assert_eq!(
            refused,
            "routes.toml:3:8: account `hospital-a` is in no workspace: say --workspace NAME\n"
        );
        scene.ask(at, "import routes.toml --workspace clinic").ok();
        let found = scene
            .ask(at, "lookup 553665985 hospital-a.dicom.example")
            .ok();
        assert!(
            found.contains("account clinic/hospital-a, dicom"),
            "{found}"
        );
        scene.ask(at, "show clinic/hospital-a/link-553665985").ok();
        let again = scene.ask(at, "import routes.toml --workspace clinic").ok();
        assert_eq!(again, "0 created, 0 changed, 0 deleted, 3 unchanged\n");
    }
    let scene = Scene::with_file();
    assert_eq!(
        scene.ask(At::File, "import nothing.toml").failed(2),
        "nothing.toml: No such file or directory (os error 2)\n"
    );
}

/// An account with 500 connections that are to be Rejected, and so begin as Pending.
fn five_hundred() -> String {
    let connections = (0..500).map(|n| {
        let properties = serde_json::json!({"linkId": n, "state": "Rejected"});
        serde_json::json!({"name": format!("pe-{n}"), "properties": properties})
    });
    let connections: Vec<_> = connections.collect();
    let properties = serde_json::json!({
        "kind": "dicom", "hosts": ["i.example"], "cluster": "dicom", "connectionsMax": 500,
    });
    let account = serde_json::json!({
        "account": "clinic/images", "properties": properties, "connections": connections,
    });
    serde_json::json!({"format": 1, "accounts": [account]}).to_string()
}

#[test]
fn a_service_that_ends_its_connections_again_and_again_is_asked_over_new_ones() {
    let scene = Scene::with_service_of("[limits]\nconnection_age_max = \"250ms\"\n");
    let done = scene.ask_with(At::Service, &["import", "-", "--json"], &five_hundred());
    assert_eq!(done.json()["created"], 502);
}

#[test]
fn an_import_that_was_killed_goes_on_when_it_is_typed_again() {
    let scene = Scene::with_service();
    std::fs::write(scene.path("books.json"), five_hundred()).unwrap();
    let place = scene.service_arguments("operator");
    let place = place.iter().map(String::as_str);
    let arguments: Vec<_> = ["import", "books.json"].into_iter().chain(place).collect();
    let mut child = scene.start(&arguments);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let created = |line: io::Result<String>| line.unwrap().starts_with("created ");
    assert!(lines.by_ref().take(50).all(created));
    child.kill().unwrap();
    child.wait().unwrap();
    let done = scene.ask(At::Service, "import books.json --json").json();
    let count = |what: &str| done[what].as_u64().unwrap();
    // Of a connection that was left Pending, the rest is a change.
    assert_eq!(
        count("created") + count("changed") + count("unchanged"),
        502
    );
    assert!(count("unchanged") >= 50, "{}", count("unchanged"));
    let again = scene.ask(At::Service, "import books.json").ok();
    assert_eq!(again, "0 created, 0 changed, 0 deleted, 502 unchanged\n");
}

#[test]
fn ten_thousand_connections_go_there_and_back() {
    let account = |n: usize| {
        let connections: Vec<_> = (0..100)
            .map(|c| {
                let state = ["Approved", "Pending", "Rejected"][c % 3];
                serde_json::json!({"name": format!("pe-{c}"), "properties": {"linkId": n * 100 + c, "state": state}})
            })
            .collect();
        serde_json::json!({
            "account": format!("clinic/images-{n}"), "connections": connections,
            "properties": {"kind": "dicom", "hosts": [format!("i{n}.example")], "cluster": "dicom"},
        })
    };
    let accounts: Vec<_> = (0..100).map(account).collect();
    let books = |n: usize| serde_json::json!({"format": 1, "accounts": accounts[..n]}).to_string();
    let scene = Scene::with_service();
    // A part of them one by one, and all of them at once.
    for (at, accounts, created) in [(At::Service, 5, 506), (At::File, 100, 9595)] {
        let done = scene
            .ask_with(at, &["import", "-", "--json"], &books(accounts))
            .json();
        assert_eq!(done["created"], created);
    }
    let exports = [At::Service, At::File].map(|at| {
        let exported = scene.ask(at, "export").ok();
        let again = scene
            .ask_with(at, &["import", "-", "--prune"], &exported)
            .ok();
        assert_eq!(again, "0 created, 0 changed, 0 deleted, 10101 unchanged\n");
        exported
    });
    assert!(
        exports[0] == exports[1],
        "the same books are exported alike"
    );
}
