//! Looking and deciding: the same words from the service and from the file.

use postern_control::routing::model::ConnectionId;
use postern_control::routing::store::{Condition, Decision};

use crate::scene::{At, BOOKS, Done, Scene};

/// Both kinds of books, with [`BOOKS`].
fn scenes() -> [(Scene, At); 2] {
    let scenes = [
        (Scene::with_file(), At::File),
        (Scene::with_service(), At::Service),
    ];
    for (scene, at) in &scenes {
        let imported = scene.ask_with(*at, &["import", "-"], BOOKS).ok();
        assert!(
            imported.ends_with("7 created, 0 changed, 0 deleted, 0 unchanged\n"),
            "{imported}"
        );
    }
    scenes
}

/// The text without what differs from run to run: versions, ages, and how wide they make a column.
fn steady(text: &str) -> String {
    let lines = text.lines().filter(|line| {
        !["created", "changed", "etag"]
            .iter()
            .any(|it| line.starts_with(it))
    });
    let lines = lines.map(|line| {
        let mut words: Vec<_> = line.split_whitespace().collect();
        for at in 1..words.len() {
            if ["s", "min"].contains(&words[at]) {
                words[at - 1] = "N";
            }
        }
        words.join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn etag(scene: &Scene, at: At, which: &str) -> String {
    let shown = scene.ask(at, &format!("show {which}")).ok();
    let line = shown.lines().find_map(|line| line.strip_prefix("etag"));
    line.unwrap().trim().to_owned()
}

#[test]
fn what_is_listed_and_shown() {
    for (scene, at) in scenes() {
        assert_eq!(
            scene.ask(at, "list").ok(),
            "\
ACCOUNT         KIND   CLUSTER  KEY             HOSTS
clinic/images   dicom  dicom    none            images.clinic.example
clinic/records  fhir   fhir     not accessible  records.clinic.example
"
        );
        let listed = scene.ask(at, "list --state pending").ok();
        assert_eq!(
            steady(&listed),
            "\
CONNECTION STATE LINK ID CHANGED MESSAGE
clinic/images/pe-1 Pending 7 N s for ward 3
clinic/records/pe-1 Pending 8 N s"
        );
        let shown = scene.ask(at, "show clinic/images/pe-1").ok();
        assert_eq!(
            steady(&shown),
            "\
connection clinic/images/pe-1
state Pending
link id 7
request for ward 3"
        );
        let shown = scene.ask(at, "show clinic/images").ok();
        assert!(shown.contains("connections     3\n"), "{shown}");
        assert!(shown.contains("\npe-3  Disconnected  9        "), "{shown}");
        assert!(
            scene
                .ask(at, "show clinic")
                .ok()
                .contains("accounts        2\n")
        );
    }
}

#[test]
fn json_has_times_and_entity_tags() {
    for (scene, at) in scenes() {
        let all = scene
            .ask(at, "list --connections --link-id 8 --json")
            .json();
        let names: Vec<_> = all
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["name"])
            .collect();
        assert_eq!(names, ["clinic/images/pe-2", "clinic/records/pe-1"]);
        let one = scene.ask(at, "show clinic/images/pe-2 --json").json();
        assert_eq!(one, all[0]);
        assert_eq!(one["linkId"], "8");
        assert_eq!(
            one["etag"],
            format!("\"{}\"", etag(&scene, at, "clinic/images/pe-2"))
        );
        let time = one["changed"].as_str().unwrap();
        assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
        let account = scene.ask(at, "show clinic/records --json").json();
        assert_eq!(account["customerKey"]["state"], "not_accessible");
        assert_eq!(account["connections"][0]["name"], "pe-1");
        let accounts = scene.ask(at, "list --json").json();
        assert_eq!(accounts[0]["hosts"][0], "images.clinic.example");
    }
}

#[test]
fn a_connection_is_approved_and_rejected_and_the_lookup_says_so() {
    for (scene, at) in scenes() {
        let lookup = |link: u32| scene.ask(at, &format!("lookup {link} images.clinic.example"));
        let first_line = |done: Done| (done.code, done.out.lines().next().unwrap().to_owned());
        let pending =
            "no: the account of images.clinic.example knows link 7, and its connection is Pending";
        assert_eq!(first_line(lookup(7)), (1, pending.to_owned()));
        let why = "agreed on the phone";
        let approve = ["approve", "clinic/images/pe-1", "--description", why];
        let approved = scene.ask_with(at, &approve, "").ok();
        assert_eq!(
            steady(&approved),
            "\
clinic/images/pe-1 was Pending and is Approved now

connection clinic/images/pe-1
state Approved
link id 7
description agreed on the phone
request for ward 3"
        );
        let yes = "yes: link 7 reaches images.clinic.example: account clinic/images, dicom, cluster dicom";
        assert_eq!(first_line(lookup(7)), (0, yes.to_owned()));
        let again = scene.ask(at, "approve --link-id 7").ok();
        assert!(again.starts_with("clinic/images/pe-1 is Approved already; nothing was changed\n"));
        let rejected = scene.ask(at, "reject clinic/images/pe-1 --json").json();
        assert_eq!(rejected["state"], "Rejected");
        assert_eq!(rejected["description"], why);
        assert_eq!(lookup(7).code, 1);
        assert_eq!(
            first_line(lookup(70)),
            (
                1,
                "no: no account knows link 70 for images.clinic.example".to_owned()
            )
        );
        let found = scene
            .ask(at, "lookup 8 images.clinic.example --json")
            .json();
        assert_eq!(found["answer"], "found");
        assert_eq!(found["account"]["account"], "clinic/images");
    }
}

#[test]
fn a_decision_is_about_what_was_seen() {
    for (scene, at) in scenes() {
        let seen = etag(&scene, at, "clinic/images/pe-1");
        // Somebody else decides between show and approve.
        scene.ask(at, "reject clinic/images/pe-1").ok();
        let now = etag(&scene, at, "clinic/images/pe-1");
        let refused = scene.ask(at, &format!("approve clinic/images/pe-1 --etag {seen}"));
        assert_eq!(
            refused.failed(1),
            format!(
                "PreconditionFailed at connection clinic/images/pe-1: it has changed since it was seen with etag {seen} \
                 (it is Rejected now, etag {now}). Nothing was done: look at it (`routes show clinic/images/pe-1`) and \
                 decide again\n"
            )
        );
        let deleted = scene.ask(at, &format!("delete clinic/images/pe-1 --etag {seen}"));
        assert!(deleted.failed(1).contains("it is Rejected now"));
        scene
            .ask(at, &format!("approve clinic/images/pe-1 --etag {now}"))
            .ok();
    }
}

#[test]
fn a_link_id_of_several_connections_is_told_with_their_names() {
    for (scene, at) in scenes() {
        assert_eq!(
            scene.ask(at, "approve --link-id 8").failed(1),
            "Ambiguous at --link-id 8: several connections have it, so name one: \
             clinic/images/pe-2 (Approved), clinic/records/pe-1 (Pending)\n"
        );
        assert_eq!(
            scene.ask(at, "approve --link-id 70").failed(1),
            "ResourceNotFound at --link-id 70: no connection has this link id\n"
        );
    }
}

#[test]
fn what_the_rules_forbid_is_refused_in_the_same_words() {
    let refused = scenes().map(|(scene, at)| {
        [
            "approve clinic/images/pe-3",
            "approve clinic/images/pe-9",
            "show clinic/nothing",
            "show nothing",
            "list --workspace nothing",
            "export --workspace nothing",
            "delete clinic",
            "delete clinic/images",
            "delete clinic/images/pe-9",
            "delete nothing",
        ]
        .map(|words| scene.ask(at, words).failed(1))
    });
    let [of_file, of_service] = refused;
    for (file, service) in of_file.iter().zip(&of_service) {
        // The service names the path of what is not there, too.
        let words = |text: &str| text.rsplit_once(": ").unwrap().1.to_owned();
        let code = |text: &str| text.split([' ', ':']).next().unwrap().to_owned();
        assert_eq!((code(file), words(file)), (code(service), words(service)));
    }
    assert!(
        of_file[0].starts_with("Conflict at properties.privateLinkServiceConnectionState.status: ")
    );
    assert_eq!(
        of_file[2],
        "ResourceNotFound: account clinic/nothing does not exist\n"
    );
}

#[test]
fn what_is_deleted_is_gone() {
    for (scene, at) in scenes() {
        let deleted = scene.ask(at, "delete clinic/images/pe-1").ok();
        assert_eq!(deleted, "connection clinic/images/pe-1 is deleted\n");
        let deleted = scene.ask(at, "delete clinic/images --recursive").ok();
        assert_eq!(
            deleted,
            "account clinic/images is deleted with 2 connections\n"
        );
        let deleted = scene
            .ask(at, "delete clinic/records --recursive --json")
            .json();
        assert_eq!(deleted["connections"], 1);
        assert_eq!(
            scene.ask(at, "delete clinic").ok(),
            "workspace clinic is deleted\n"
        );
        assert_eq!(
            scene.ask(at, "list").ok(),
            "ACCOUNT  KIND  CLUSTER  KEY  HOSTS\n"
        );
    }
}

#[test]
fn the_file_is_kept_beside_a_service_that_runs() {
    let mut scene = Scene::with_service();
    scene.ask_with(At::Service, &["import", "-"], BOOKS).ok();
    // By the file, and the service knows at once.
    scene.ask(At::File, "approve clinic/images/pe-1").ok();
    let found = scene.ask(At::Service, "lookup 7 images.clinic.example");
    assert_eq!(found.code, 0);
    // By the service, and the file knows at once.
    let id = ConnectionId {
        account: "clinic/images".parse().unwrap(),
        name: "pe-1".parse().unwrap(),
    };
    let decision = Decision {
        state: postern_api::LinkState::Rejected,
        description: None,
    };
    scene
        .block_on(scene.store().decide(&id, decision, Condition::Any))
        .unwrap();
    assert_eq!(
        scene.ask(At::File, "lookup 7 images.clinic.example").code,
        1
    );
    // And without the service.
    scene.end_service();
    scene.ask(At::File, "approve clinic/images/pe-1").ok();
}
