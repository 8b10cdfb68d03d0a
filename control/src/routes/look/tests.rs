use super::*;
use crate::routes::books::Version;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn kept<T>(value: T, version: &str) -> Kept<T> {
    Kept {
        value,
        version: Version(format!("\"{version}\"")),
        created: Some("2026-11-18T12:00:00Z".parse().unwrap()),
        changed: Some("2026-11-21T09:00:00Z".parse().unwrap()),
    }
}

fn account(more: &str) -> Kept<Account> {
    let text = format!(
        r#"{{"kind": "dicom", "hosts": ["images.clinic.example", "pacs.clinic.example"], "cluster": "dicom"{more}}}"#
    );
    kept(serde_json::from_str(&text).unwrap(), "1f")
}

fn connection(link: u32, state: &str, description: &str, request: &str) -> Kept<Connection> {
    let value = serde_json::json!({
        "linkId": link, "state": state, "description": description, "requestMessage": request,
    });
    kept(serde_json::from_value(value).unwrap(), "2a")
}

fn id(text: &str) -> ConnectionId {
    let Ok(Which::Connection(id)) = text.parse() else {
        panic!("{text}");
    };
    id
}

fn found() -> Vec<Found> {
    vec![
        (
            id("clinic/images/pe-1"),
            connection(553_665_985, "Approved", "agreed on the phone", "please"),
        ),
        (
            id("clinic/images/pe-2.a_very_long_name-of-an-endpoint"),
            connection(7, "Pending", "", "for the new scanner\u{202e} of ward 3"),
        ),
    ]
}

#[test]
fn accounts_are_listed_a_line_each() {
    let (one, two) = (
        account(r#", "customerKey": {"state": "not_accessible"}"#),
        account(""),
    );
    let ids: [AccountId; 2] = [
        "clinic/images".parse().unwrap(),
        "hospital/images".parse().unwrap(),
    ];
    assert_eq!(
        account_table(&[(&ids[0], &one), (&ids[1], &two)], None),
        "\
ACCOUNT          KIND   CLUSTER  KEY             HOSTS
clinic/images    dicom  dicom    not accessible  images.clinic.example, pacs.clinic.example
hospital/images  dicom  dicom    none            images.clinic.example, pacs.clinic.example
"
    );
}

#[test]
fn connections_are_listed_with_what_was_decided_or_asked() {
    assert_eq!(
        connection_table(&found(), now(), None),
        "\
CONNECTION                                          STATE     LINK ID    CHANGED  MESSAGE
clinic/images/pe-1                                  Approved  553665985  3 h      agreed on the phone
clinic/images/pe-2.a_very_long_name-of-an-endpoint  Pending   7          3 h      for the new scanner\\u{202e} of ward 3
"
    );
    let narrow = connection_table(&found(), now(), Some(80));
    assert!(narrow.lines().all(|line| line.len() <= 80), "{narrow}");
}

#[test]
fn an_account_is_shown_with_its_connections() {
    let more = r#", "customerKey": {"keyUrl": "https://v.vault.azure.net/keys/k"}, "requestsPerSecond": 50,
        "connectionsMax": 200"#;
    let id = "clinic/images".parse().unwrap();
    assert_eq!(
        account_page(&id, &account(more), &found()[..1], now(), None),
        "\
account         clinic/images
kind            dicom
hosts           images.clinic.example
                pacs.clinic.example
cluster         dicom
customer key    accessible
                https://v.vault.azure.net/keys/k
public access   Disabled
limit           50 requests a second, all links together
connections     1 of at most 200
created         3 d ago
changed         3 h ago
etag            1f

NAME  STATE     LINK ID    CHANGED  MESSAGE
pe-1  Approved  553665985  3 h      agreed on the phone
"
    );
}

#[test]
fn a_connection_is_shown_with_all_that_a_decision_needs() {
    let (id, kept) = &found()[1];
    assert_eq!(
        connection_page(id, kept, now()),
        "\
connection      clinic/images/pe-2.a_very_long_name-of-an-endpoint
state           Pending
link id         7
request         for the new scanner\\u{202e} of ward 3
created         3 d ago
changed         3 h ago
etag            2a
"
    );
}

#[test]
fn a_lookup_is_told_in_words() {
    let host = HostName::parse("images.clinic.example").unwrap();
    let told = |answer: &Answer| decision(LinkId::new(7), &host, answer);
    let mut route = account("").value.route(&"clinic/images".parse().unwrap());
    let yes = Answer::Found {
        account: route.clone(),
        link: None,
    };
    assert_eq!(
        told(&yes),
        "yes: link 7 reaches images.clinic.example: account clinic/images, dicom, cluster dicom"
    );
    route.customer_key = CustomerKey::NotAccessible;
    let locked = Answer::Found {
        account: route,
        link: None,
    };
    assert!(told(&locked).starts_with("yes, but each request is answered with 403"));
    let state = postern_api::LinkState::Pending;
    assert_eq!(
        told(&Answer::NotApproved { state }),
        "no: the account of images.clinic.example knows link 7, and its connection is Pending"
    );
    assert_eq!(
        told(&Answer::Unknown),
        "no: no account knows link 7 for images.clinic.example"
    );
}
