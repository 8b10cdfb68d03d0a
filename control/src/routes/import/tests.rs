use std::path::Path;

use super::*;
use crate::routes::books::{Expected, Version};
use crate::routing::model::WorkspaceName;

/// An export with these accounts: `name hosts… | connection:link:State …`.
fn wanted(accounts: &[&str]) -> Wanted {
    let accounts = accounts.iter().map(|account| {
        let (head, connections) = account.split_once('|').unwrap_or((account, ""));
        let mut words = head.split_whitespace();
        let name = words.next().unwrap();
        let hosts: Vec<_> = words.collect();
        let connections = connections.split_whitespace().map(|text| {
            let mut parts = text.split(':');
            let mut part = || parts.next().unwrap();
            serde_json::json!({"name": part(), "properties": {"linkId": part(), "state": part()}})
        });
        serde_json::json!({
            "account": name, "connections": connections.collect::<Vec<_>>(),
            "properties": {"kind": "dicom", "hosts": hosts, "cluster": "dicom"},
        })
    });
    let accounts: Vec<_> = accounts.collect();
    let text = serde_json::json!({"format": 1, "accounts": accounts}).to_string();
    parse(Path::new("books.json"), &text, None).unwrap()
}

/// The same, as if the books held it.
fn held(accounts: &[&str]) -> Present {
    let wanted = wanted(accounts);
    let kept = |value: &Account| keep(value.clone());
    Present {
        workspaces: wanted.all_workspaces(),
        accounts: wanted
            .entries
            .iter()
            .map(|entry| {
                let connections = entry.connections.iter();
                let account = PresentAccount {
                    kept: kept(&entry.properties),
                    connections: connections
                        .map(|it| (it.name.clone(), keep(it.properties.clone())))
                        .collect(),
                };
                (entry.account.clone(), account)
            })
            .collect(),
    }
}

fn keep<T>(value: T) -> Kept<T> {
    Kept {
        value,
        version: Version("\"1\"".to_owned()),
        created: None,
        changed: None,
    }
}

/// The steps, a line each.
fn steps(present: &Present, wanted: &Wanted, prune: bool) -> Vec<String> {
    let plan = plan(present, wanted, prune).unwrap();
    let steps = plan.steps.iter().map(|step| {
        let fields = step.fields.join(",");
        format!("{:?} {} {fields}", step.action, step.subject)
            .trim_end()
            .to_owned()
    });
    steps.collect()
}

fn refusals(present: &Present, wanted: &Wanted) -> Vec<String> {
    plan(present, wanted, false).unwrap_err()
}

fn refused(text: &str, workspace: Option<&str>) -> String {
    let workspace = workspace.map(|name| WorkspaceName::parse(name).unwrap());
    parse(Path::new("f"), text, workspace.as_ref()).unwrap_err()
}

const A: &str = "clinic/images a.example | one:1:Approved two:2:Pending";
const B: &str = "clinic/records b.example c.example | one:1:Rejected";

#[test]
fn into_empty_books_everything_is_created_in_an_order_that_works() {
    assert_eq!(
        steps(&Present::default(), &wanted(&[A, B]), true),
        [
            "Create workspace clinic",
            "Create account clinic/images",
            "Create account clinic/records",
            "Create connection clinic/images/one",
            "Create connection clinic/images/two",
            "Create connection clinic/records/one",
        ]
    );
}

#[test]
fn what_is_as_it_should_be_is_no_step() {
    let plan = plan(&held(&[A, B]), &wanted(&[A, B]), true).unwrap();
    assert_eq!((plan.steps.len(), plan.unchanged), (0, 6));
}

#[test]
fn a_change_names_its_fields_and_the_version_that_it_is_about() {
    let wanted = wanted(&[
        "clinic/images a.example d.example | one:1:Approved two:2:Approved",
        B,
    ]);
    let held = held(&[A, B]);
    assert_eq!(
        steps(&held, &wanted, false),
        [
            "Change account clinic/images hosts",
            "Change connection clinic/images/two state"
        ]
    );
    let plan = plan(&held, &wanted, false).unwrap();
    let expected = Expected::Version(Version("\"1\"".to_owned()));
    assert!(matches!(&plan.steps[0].subject, Subject::Account(.., it) if *it == expected));
    assert!(matches!(&plan.steps[1].subject, Subject::Connection(.., it) if *it == expected));
}

#[test]
fn nothing_is_deleted_unless_that_is_asked_for() {
    let wanted = wanted(&["clinic/images a.example | one:1:Approved"]);
    let held = held(&[A, B, "other/images o.example"]);
    assert_eq!(steps(&held, &wanted, false), [""; 0]);
    let pruned = [
        "Delete connection clinic/images/two",
        "Delete account clinic/records",
    ];
    // `present` reads the wanted workspaces alone, so that another one's accounts are never there to be deleted.
    let mut within = held;
    within
        .accounts
        .retain(|id, _| id.workspace.as_str() == "clinic");
    assert_eq!(steps(&within, &wanted, true), pruned);
}

#[test]
fn a_host_is_given_up_before_it_is_taken() {
    let wanted = wanted(&[
        "clinic/images a.example b.example",
        "clinic/records c.example",
    ]);
    assert_eq!(
        steps(&held(&[A, B]), &wanted, false),
        [
            "Change account clinic/records hosts",
            "Change account clinic/images hosts"
        ]
    );
    // Its holder is deleted before.
    let taken = self::wanted(&["clinic/images a.example b.example c.example"]);
    assert_eq!(
        steps(&held(&[A, B]), &taken, true)[..2],
        [
            "Delete connection clinic/images/one",
            "Delete connection clinic/images/two"
        ]
    );
    assert_eq!(
        steps(&held(&[A, B]), &taken, true)[2..],
        [
            "Delete account clinic/records",
            "Change account clinic/images hosts"
        ]
    );
}

#[test]
fn what_no_order_can_do_is_refused_with_all_its_reasons() {
    let exchanged = wanted(&["clinic/images b.example", "clinic/records a.example"]);
    assert_eq!(
        refusals(&held(&[A, B]), &exchanged),
        [
            "account clinic/images: host b.example is account clinic/records's, which does not give it up before",
            "account clinic/records: host a.example is account clinic/images's, which does not give it up before",
        ]
    );
    let illegal = wanted(&["clinic/images a.example | one:1:Pending two:3:Pending"]);
    assert_eq!(
        refusals(&held(&[A]), &illegal),
        [
            "connection clinic/images/one: it is Approved and cannot become Pending: delete it and import again",
            "connection clinic/images/two: its link id is 2 and never another one (3 is wanted): delete it and import again",
        ]
    );
}

#[test]
fn an_export_is_read_as_what_it_was() {
    let mut before = wanted(&[A, B]);
    before.workspaces.insert("empty".parse().unwrap());
    before.workspaces.insert("clinic".parse().unwrap());
    let text = export(before.clone()).unwrap();
    assert_eq!(parse(Path::new("f"), &text, None).unwrap(), before);
    assert_eq!(held(&[A, B]).into_wanted().entries, before.entries);
}

#[test]
fn mistakes_of_an_export_are_told_with_their_place() {
    for (text, message) in [
        ("{", "f:1:1: EOF while parsing an object"),
        ("{}", "f:1:2: missing field `format`"),
        (r#"{"format": 2, "accounts": []}"#, "f: format 2 is not 1"),
        (
            "{\"format\": 1,\n \"acounts\": []}",
            "f:2:10: unknown field `acounts`, expected one of `format`, `workspaces`, `accounts`",
        ),
    ] {
        assert_eq!(refused(text, None), message);
    }
    let text = export(wanted(&[A])).unwrap();
    let two = text.replace("\"2\"", "\"1\"").replace("\"two\"", "\"one\"");
    assert_eq!(
        refused(&two, None),
        "f: connection clinic/images/one is there twice\n\
         f: link 1 is of connection clinic/images/one and of connection clinic/images/one"
    );
    let mut twice = wanted(&[A]);
    twice.entries.extend(wanted(&[A]).entries);
    let twice = export(twice).unwrap();
    assert_eq!(
        refused(&twice, None),
        "f: account clinic/images is there twice"
    );
    let taken = export(Wanted {
        entries: [A, "other/images a.example"]
            .iter()
            .flat_map(|it| wanted(&[it]).entries)
            .collect(),
        ..Wanted::default()
    });
    assert_eq!(
        refused(&taken.unwrap(), None),
        "f: host a.example is of account clinic/images and of account other/images"
    );
    assert!(refused(&text, Some("clinic")).starts_with("--workspace is for route files"));
}

const ROUTES: &str = r#"
[[accounts]]
name = "images"
kind = "dicom"
hosts = ["a.example"]
cluster = "dicom"
requests_per_second = 9
[[accounts.links]]
link_id = 7
state = "Approved"
requests_per_second = 5
[[accounts.links]]
link_id = "8"
state = "Disconnected"
[[accounts]]
name = "other/records"
kind = "fhir"
hosts = ["b.example"]
cluster = "fhir"
customer_key = "not_accessible"
"#;

#[test]
fn a_route_file_of_the_data_plane_becomes_books() {
    let workspace = WorkspaceName::parse("clinic").unwrap();
    let wanted = parse(Path::new("routes.toml"), ROUTES, Some(&workspace)).unwrap();
    let text = serde_json::to_value(&wanted.entries).unwrap();
    assert_eq!(
        text,
        serde_json::json!([
            {
                "account": "clinic/images",
                "properties": {
                    "kind": "dicom", "hosts": ["a.example"], "cluster": "dicom", "publicNetworkAccess": "Disabled",
                    "customerKey": {"state": "accessible"}, "requestsPerSecond": 9,
                },
                "connections": [
                    {"name": "link-7", "properties": {"linkId": "7", "state": "Approved", "requestsPerSecond": 5}},
                    {"name": "link-8", "properties": {"linkId": "8", "state": "Disconnected"}},
                ],
            },
            {
                "account": "other/records",
                "properties": {
                    "kind": "fhir", "hosts": ["b.example"], "cluster": "fhir", "publicNetworkAccess": "Disabled",
                    "customerKey": {"state": "not_accessible"},
                },
                "connections": [],
            },
        ])
    );
    let names = wanted.all_workspaces();
    assert_eq!(
        names.iter().map(WorkspaceName::as_str).collect::<Vec<_>>(),
        ["clinic", "other"]
    );
}

#[test]
fn mistakes_of_a_route_file_are_told_with_their_place() {
    assert_eq!(
        refused(ROUTES, None),
        "f:3:8: account `images` is in no workspace: say --workspace NAME"
    );
    let with = |from: &str, to: &str| refused(&ROUTES.replace(from, to), Some("clinic"));
    for (from, to, message) in [
        (
            "\"images\"",
            "\"im\"",
            "f:3:8: account `im`: an account's name has 3 to 24",
        ),
        (
            "other/records",
            "other/",
            "f:16:8: account `other/`: an account's name has",
        ),
        (
            "[\"a.example\"]",
            "[]",
            "f:5:9: an account has 1 to 16 hosts, not 0",
        ),
        (
            "\"Approved\"",
            "\"Aproved\"",
            "f:10:9: unknown word `Aproved`; did you mean `Approved`?",
        ),
        (
            "link_id = 7",
            "link = 7",
            "f:9:1: unknown key `link`; did you mean `link_id`?",
        ),
        (
            "\"8\"",
            "\"7\"",
            "f: connection clinic/images/link-7 is there twice",
        ),
    ] {
        let told = with(from, to);
        assert!(told.starts_with(message), "{told}");
    }
    assert!(refused("", Some("clinic")).starts_with("f:1:1: missing field `accounts`"));
}
