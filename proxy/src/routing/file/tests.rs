use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use postern_api::{CustomerKey, HostName, LinkId, LinkState, ServiceKind};

use super::{Reload, RouteFile, RouteFileError};
use crate::routing::{ClusterName, Lookup, RouteSource};

const GOOD: &str = r#"
[[accounts]]
name = "hospital-a"
kind = "dicom"
hosts = ["Hospital-A.dicom.example", "a.dicom.example"]
cluster = "dicom"
requests_per_second = 500
[[accounts.links]]
link_id = 1
state = "Approved"
[[accounts.links]]
link_id = "2"
state = "Approved"
requests_per_second = 100
[[accounts.links]]
link_id = 3
state = "Pending"

[[accounts]]
name = "hospital-b"
kind = "fhir"
hosts = ["hospital-b.fhir.example"]
cluster = "fhir"
customer_key = "not_accessible"
links = [{ link_id = 1, state = "Rejected" }, { link_id = 4294967295, state = "Approved" }]
"#;

fn clusters() -> [ClusterName; 2] {
    ["dicom", "fhir"].map(ClusterName::new)
}

fn open(path: &Path) -> Result<RouteFile, RouteFileError> {
    RouteFile::open(path, clusters())
}

/// The text of the mistake in `text`, without the path.
fn mistake(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    fs::write(&path, text).unwrap();
    let error = open(&path).unwrap_err().to_string();
    error
        .strip_prefix(&format!("{}:", path.display()))
        .unwrap_or(&error)
        .to_owned()
}

/// `GOOD` with one thing changed.
fn mistake_with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from));
    mistake(&GOOD.replacen(from, to, 1))
}

async fn lookup(file: &RouteFile, link: u32, host: &str) -> Lookup {
    file.lookup(LinkId::new(link), &HostName::parse(host).unwrap())
        .await
        .unwrap()
        .lookup
}

/// A file beside `path`, renamed onto it, last modified a minute ago.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    age(&new);
    fs::rename(new, path).unwrap();
}

fn age(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_mins(1))
        .unwrap();
}

#[tokio::test]
async fn a_link_finds_its_account_under_each_of_its_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    fs::write(&path, GOOD).unwrap();
    let file = open(&path).unwrap();
    assert_eq!(file.counts(), (2, 5));

    let Lookup::Found(route) = lookup(&file, 1, "hospital-a.dicom.example").await else {
        panic!("not found")
    };
    assert_eq!(&*route.account().name, "hospital-a");
    assert_eq!(route.kind(), ServiceKind::Dicom);
    assert_eq!(route.cluster().as_str(), "dicom");
    assert_eq!(route.customer_key(), CustomerKey::Accessible);
    assert_eq!(route.account_limit().map(Into::into), Some(500_u32));
    assert_eq!(route.link_limit(), None);
    assert!(route.reaches(b"A.DICOM.example") && !route.reaches(b"hospital-b.fhir.example"));
    assert_eq!(
        lookup(&file, 1, "a.dicom.example").await,
        Lookup::Found(route)
    );

    let Lookup::Found(limited) = lookup(&file, 2, "a.dicom.example").await else {
        panic!("not found")
    };
    assert_eq!(limited.link_limit().map(Into::into), Some(100_u32));
}

#[tokio::test]
async fn only_approved_links_of_the_hosts_account_find_a_route() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    fs::write(&path, GOOD).unwrap();
    let file = open(&path).unwrap();
    let b = "hospital-b.fhir.example";
    assert_eq!(
        lookup(&file, 3, "a.dicom.example").await,
        Lookup::NotApproved(LinkState::Pending)
    );
    assert_eq!(
        lookup(&file, 1, b).await,
        Lookup::NotApproved(LinkState::Rejected)
    );
    assert_eq!(lookup(&file, 2, b).await, Lookup::Unknown);
    assert_eq!(lookup(&file, 1, "nobody.example").await, Lookup::Unknown);
    let Lookup::Found(route) = lookup(&file, u32::MAX, b).await else {
        panic!("not found")
    };
    assert_eq!(route.customer_key(), CustomerKey::NotAccessible);
    let whoever = file
        .lookup_host(&HostName::parse(b).unwrap())
        .await
        .unwrap();
    assert_eq!(whoever, Lookup::Found(route).into());
}

#[test]
fn a_misspelled_key_or_word_gets_its_place_and_the_nearest_name() {
    assert_eq!(
        mistake_with("cluster = \"dicom\"", "clutser = \"dicom\""),
        "6:1: unknown key `clutser`; did you mean `cluster`?"
    );
    assert_eq!(
        mistake_with("\"Pending\"", "\"pending\""),
        "17:9: unknown word `pending`; did you mean `Pending`?"
    );
    assert_eq!(
        mistake_with("\"not_accessible\"", "\"inaccessible\""),
        "24:16: unknown word `inaccessible`; did you mean `accessible`?"
    );
    assert_eq!(
        mistake_with("cluster = \"dicom\"", "cluster = \"dicmo\""),
        "6:11: there is no cluster `dicmo` in the configuration; did you mean `dicom`?"
    );
}

#[test]
fn two_of_what_may_be_there_once_are_refused_where_the_second_is() {
    assert_eq!(
        mistake_with("\"hospital-b.fhir.example\"", "\"A.dicom.example\""),
        "22:10: host `a.dicom.example` is there twice: a link and a host lead to one account \
         (the first is on line 5)"
    );
    assert_eq!(
        mistake_with("link_id = \"2\"", "link_id = 1"),
        "12:11: account `hospital-a` has link 1 twice (the first is on line 9)"
    );
    assert_eq!(
        mistake_with("name = \"hospital-b\"", "name = \"hospital-a\""),
        "20:8: two accounts are named `hospital-a` (the first is on line 3)"
    );
}

#[test]
fn values_out_of_range_are_refused_where_they_are() {
    for (from, to, place) in [
        ("link_id = 1\n", "link_id = 4294967296\n", "9:11: "),
        ("link_id = 1\n", "link_id = -1\n", "9:11: "),
        ("link_id = 1\n", "link_id = \"+1\"\n", "9:11: "),
        ("link_id = 1\n", "link_id = 1.0\n", "9:11: "),
        (
            "requests_per_second = 500",
            "requests_per_second = 0",
            "7:23: ",
        ),
        (
            "requests_per_second = 100",
            "requests_per_second = 0",
            "14:23: ",
        ),
        ("\"hospital-b.fhir.example\"", "\"10.0.0.4\"", "22:10: "),
        (
            "\"hospital-b.fhir.example\"",
            "\"*.fhir.example\"",
            "22:10: ",
        ),
        ("[\"hospital-b.fhir.example\"]", "[]", "22:9: "),
        ("name = \"hospital-b\"", "name = \"\"", "20:8: "),
        ("name = \"hospital-b\"", "name = \"a\\nb\"", "20:8: "),
        ("state = \"Approved\"\n", "\n", "8:1: "),
    ] {
        let mistake = mistake_with(from, to);
        assert!(mistake.starts_with(place), "{to:?}: {mistake}");
    }
}

#[test]
fn a_file_that_cannot_be_cut_into_accounts_is_read_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    let inline = r#"accounts = [{ name = "a", kind = "dicom", hosts = ["a"], cluster = "dicom" }]"#;
    let spaced = GOOD.replace("[[accounts", "  [[ accounts");
    let quoted = GOOD.replace("\"hospital-a\"", "'''\n[[accounts]]\n'''");
    for (text, place) in [
        (inline.to_owned(), ""),
        (spaced, ""),
        (quoted, ":3:8: the name of an account has"),
        (format!("{inline}\n{GOOD}"), ":3:"),
        (format!("# a comment\n\n{GOOD}"), ""),
        (format!("x = 1\n{GOOD}"), ":1:1: unknown key `x`"),
        (GOOD.replace("kind = \"fhir\"", "kind = fhir"), ":21:8: "),
        (GOOD.replacen("[[accounts]]", "[[accounts]", 1), ":2:"),
    ] {
        fs::write(&path, &text).unwrap();
        match open(&path) {
            Ok(_) => assert_eq!(place, "", "{text}"),
            Err(error) => {
                assert!(
                    !place.is_empty() && error.to_string().contains(place),
                    "{error}\n{text}"
                );
            }
        }
    }
}

#[test]
fn an_empty_file_is_a_mistake_and_no_accounts_are_not() {
    assert_eq!(mistake(""), "1:1: missing field `accounts`");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    fs::write(&path, "accounts = []").unwrap();
    assert_eq!(open(&path).unwrap().counts(), (0, 0));
}

#[tokio::test]
async fn a_new_file_holds_as_soon_as_the_generation_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    replace(&path, GOOD);
    let file = open(&path).unwrap();
    let mut generation = file.generation();
    let before = *generation.borrow_and_update();
    assert_eq!(file.reload(), Reload::Unchanged);

    replace(&path, &GOOD.replacen("Approved", "Disconnected", 1));
    assert_eq!(
        file.reload(),
        Reload::Loaded {
            accounts: 2,
            links: 5
        }
    );
    assert!(generation.has_changed().unwrap());
    assert!(*generation.borrow_and_update() > before);
    assert_eq!(
        lookup(&file, 1, "a.dicom.example").await,
        Lookup::NotApproved(LinkState::Disconnected)
    );
    assert_eq!(file.reload(), Reload::Unchanged);
    assert!(!generation.has_changed().unwrap());
}

#[tokio::test]
async fn a_refused_file_leaves_the_last_good_one_in_place_and_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    replace(&path, GOOD);
    let file = open(&path).unwrap();
    let mut generation = file.generation();
    generation.mark_unchanged();

    replace(&path, "accounts = 3");
    let Reload::Refused(error) = file.reload() else {
        panic!("accepted")
    };
    assert!(error.to_string().contains("routes.toml:1:12: "), "{error}");
    assert_eq!(file.reload(), Reload::Unchanged);
    assert_eq!(file.refusal(), Some(error));
    assert!(matches!(
        lookup(&file, 1, "a.dicom.example").await,
        Lookup::Found(_)
    ));

    fs::remove_file(&path).unwrap();
    assert!(matches!(
        file.reload(),
        Reload::Refused(RouteFileError::Unreadable { .. })
    ));
    assert_eq!(file.reload(), Reload::Unchanged);
    assert!(matches!(
        lookup(&file, 1, "a.dicom.example").await,
        Lookup::Found(_)
    ));

    replace(&path, GOOD);
    assert_eq!(
        file.reload(),
        Reload::Loaded {
            accounts: 2,
            links: 5
        }
    );
    assert_eq!(file.refusal(), None);
    assert!(
        !generation.has_changed().unwrap(),
        "the same routes hold as before"
    );
}

#[test]
fn a_change_in_place_within_one_time_stamp_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    fs::write(&path, GOOD).unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let file = open(&path).unwrap();
    fs::write(&path, GOOD.replacen("link_id = 1", "link_id = 9", 1)).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    assert_eq!(
        file.reload(),
        Reload::Loaded {
            accounts: 2,
            links: 5
        }
    );
}

#[test]
fn touching_the_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    replace(&path, GOOD);
    let file = open(&path).unwrap();
    let generation = file.generation();
    replace(&path, GOOD);
    assert_eq!(file.reload(), Reload::Unchanged);
    assert!(!generation.has_changed().unwrap());
}

#[test]
fn a_missing_file_is_refused_with_its_path() {
    let error = open(Path::new("/nonexistent/routes.toml")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nonexistent/routes.toml: cannot read"),
        "{error}"
    );
}
