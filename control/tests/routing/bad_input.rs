//! Bad input: an error in ARM's shape that names what is to blame, and nothing has changed.

use http::Method;
use serde_json::json;

use super::client::{Answer, Client, request};
use super::scene::{ACCOUNT, CONNECTION, Scene, WORKSPACE, account, approve};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn raw(client: &mut Client, method: Method, path: &str, body: &str) -> Answer {
    client.send(request(method, path, &[JSON], body)).await
}

/// Puts each body, and compares the status, the code, the target and part of the message with what is expected.
async fn refused(
    scene: &Scene,
    people: &mut Client,
    path: &str,
    cases: &[(&str, u16, &str, &str, &str)],
) {
    let before = scene.dump().await;
    for (body, status, code, target, says) in cases {
        let shown: String = body.chars().take(200).collect();
        let answer = raw(people, Method::PUT, path, body).await;
        let expected = (*status, (*code).to_owned(), (*target).to_owned());
        assert_eq!(answer.error(), expected, "{shown}: {}", answer.message());
        assert!(
            answer.message().contains(says),
            "{shown}: {}",
            answer.message()
        );
        assert_eq!(scene.dump().await, before, "{shown} has changed something");
    }
}

const CONTENT: &str = "InvalidRequestContent";

#[tokio::test]
async fn a_bad_link_id_is_refused() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    let link = "properties.linkIdentifier";
    let other = CONNECTION.replace("pe-1", "pe-2");
    let with = |value: &str| format!(r#"{{"properties": {{"linkIdentifier": {value}}}}}"#);
    let cases = [
        ("4294967296", "a number from 0 to 4294967295"),
        ("99999999999999999999", "a number from 0 to 4294967295"),
        ("-1", "a number from 0 to 4294967295"),
        ("1.0", "floating point"),
        ("1e3", "floating point"),
        ("true", "boolean `true`"),
        ("null", "invalid type: null"),
        ("[7]", "sequence"),
        ("{}", "map"),
        ("\"4294967296\"", "is not a link id"),
        ("\"-1\"", "is not a link id"),
        ("\"+1\"", "is not a link id"),
        ("\" 1\"", "is not a link id"),
        ("\"0x10\"", "is not a link id"),
        ("\"\"", "is not a link id"),
    ];
    let bodies = cases.map(|(value, says)| (with(value), says));
    let cases: Vec<_> = bodies
        .iter()
        .map(|(body, says)| (body.as_str(), 400, CONTENT, link, *says))
        .collect();
    refused(&scene, &mut people, &other, &cases).await;
    let missing = [(r#"{"properties": {}}"#, 400, CONTENT, link, "missing field")];
    refused(&scene, &mut people, &other, &missing).await;
    let taken = with("7");
    let taken = [(taken.as_str(), 409, "Conflict", link, "7")];
    refused(&scene, &mut people, &other, &taken).await;
    let moved = with("8");
    let moved = [(moved.as_str(), 409, "Conflict", link, "")];
    refused(&scene, &mut people, CONNECTION, &moved).await;
    // Both spellings that Azure knows are one number.
    for (name, value) in [("pe-3", "4294967295"), ("pe-4", "\"4294967294\"")] {
        let path = CONNECTION.replace("pe-1", name);
        let answer = raw(&mut people, Method::PUT, &path, &with(value)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let shown = answer.json()["properties"]["linkIdentifier"].clone();
        assert_eq!(shown, value.trim_matches('"'));
    }
}

#[tokio::test]
async fn a_bad_host_is_refused() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    let path = ACCOUNT.replace("images", "other");
    let long = format!("{}example", "a.".repeat(127));
    let cases = [
        ("ok.example:443", "letters, digits, hyphens and dots"),
        ("bücher.example", "international names as xn--"),
        ("*.example", "letters, digits, hyphens and dots"),
        ("a.example.", "each label"),
        ("10.0.0.4", "an IP address is not a host name"),
        ("[::1]", "letters, digits, hyphens and dots"),
        ("", "cannot be empty"),
        (&long, "at most 253 bytes"),
        ("https://a.example", "letters, digits, hyphens and dots"),
        ("a b.example", "letters, digits, hyphens and dots"),
    ];
    let bodies = cases.map(|(host, says)| (account(&["fine.example", host]).to_string(), says));
    let cases: Vec<_> = bodies
        .iter()
        .map(|(body, says)| (body.as_str(), 400, CONTENT, "properties.hosts[1]", *says))
        .collect();
    refused(&scene, &mut people, &path, &cases).await;
    let hosts = "properties.hosts";
    let many: Vec<_> = (0..17).map(|n| format!("h{n}.example")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let [none, twice, many, taken] = [
        account(&[]),
        account(&["a.example", "A.example"]),
        account(&many),
        account(&["a.example", "Images.example"]),
    ]
    .map(|body| body.to_string());
    let cases = [
        (none.as_str(), 400, CONTENT, hosts, "1 to 16 hosts"),
        (&twice, 400, CONTENT, hosts, "named twice"),
        (&many, 400, CONTENT, hosts, "1 to 16 hosts"),
        (&taken, 409, "Conflict", hosts, "images.example"),
    ];
    refused(&scene, &mut people, &path, &cases).await;
}

/// A body, what is to blame, and part of what is said of it.
const NO_ACCOUNTS: [(&str, &str, &str); 19] = [
    ("", "", "EOF"),
    ("{", "", "EOF"),
    ("[]", "", "sequence, expected an object"),
    ("null", "", "null"),
    (r#"{"properties": 7}"#, "properties", "integer `7`"),
    (r"{}", "properties", "missing field"),
    (
        r#"{"properties": {"kind": "pacs"}}"#,
        "properties.kind",
        "expected `dicom` or `fhir`",
    ),
    (
        r#"{"properties": {"kind": "dicom"}}"#,
        "properties.hosts",
        "missing field",
    ),
    (
        r#"{"properties": {"hosts": "a.example"}}"#,
        "properties.hosts",
        "sequence",
    ),
    (
        r#"{"properties": {"kind": "dicom", "kind": "fhir"}}"#,
        "properties.kind",
        "duplicate field `kind`",
    ),
    (
        r#"{"properties": {"colour": 1}}"#,
        "properties.colour",
        "unknown field `colour`",
    ),
    (r#"{"colour": 1}"#, "colour", "unknown field `colour`"),
    (
        r#"{"properties": {"customerKey": {"secret": 1}}}"#,
        "properties.customerKey.secret",
        "unknown field",
    ),
    (
        r#"{"properties": {"customerKey": {"state": "lost"}}}"#,
        "properties.customerKey.state",
        "unknown variant",
    ),
    (
        r#"{"properties": {"requestsPerSecond": 0}}"#,
        "properties.requestsPerSecond",
        "nonzero",
    ),
    (
        r#"{"properties": {"connectionsMax": 1001}}"#,
        "properties.connectionsMax",
        "1 to 1000",
    ),
    (
        r#"{"properties": {"publicNetworkAccess": "on"}}"#,
        "properties.publicNetworkAccess",
        "unknown variant",
    ),
    (
        r#"{"properties": ["dicom", ["a.example"], "dicom"]}"#,
        "properties",
        "sequence, expected an object",
    ),
    (
        r#"{"properties": {"customerKey": [null, "accessible"]}}"#,
        "properties.customerKey",
        "sequence, expected an object",
    ),
];

#[tokio::test]
async fn what_is_no_resource_is_refused() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    let cases = NO_ACCOUNTS.map(|(body, target, says)| (body, 400, CONTENT, target, says));
    refused(&scene, &mut people, ACCOUNT, &cases).await;
    let (open, close) = ("[".repeat(2000), "]".repeat(2000));
    let nested = format!(r#"{{"properties": {{"kind": {open}"dicom"{close}}}}}"#);
    let deep = format!(r#"{{"properties": {}"#, r#"{"properties":"#.repeat(4000));
    let whole = account(&["images.example"]);
    let mut renamed = whole.clone();
    renamed["name"] = json!("other");
    let trailing = format!("{whole} {whole}");
    let renamed = renamed.to_string();
    let cases = [
        (nested.as_str(), 400, CONTENT, "properties.kind", ""),
        (
            &deep,
            400,
            CONTENT,
            "properties.properties",
            "unknown field",
        ),
        (&trailing, 400, CONTENT, "", "trailing characters"),
        (
            &renamed,
            400,
            CONTENT,
            "name",
            "`other` is not what the path says",
        ),
    ];
    refused(&scene, &mut people, ACCOUNT, &cases).await;
}

#[tokio::test]
async fn a_bad_state_is_refused() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    let status = "properties.privateLinkServiceConnectionState.status";
    let with = |state: &str| {
        json!({"properties": {"linkIdentifier": 7,
            "privateLinkServiceConnectionState": {"status": state}}})
        .to_string()
    };
    let words = [with("approved"), with("Removed"), with("")];
    let cases = words.each_ref().map(|body| {
        (
            body.as_str(),
            400,
            CONTENT,
            status,
            "expected one of `Pending`",
        )
    });
    refused(&scene, &mut people, CONNECTION, &cases).await;
    assert_eq!(approve(&mut people).await.status, 200);
    let pending = with("Pending");
    let cases = [(pending.as_str(), 409, "Conflict", status, "Pending")];
    refused(&scene, &mut people, CONNECTION, &cases).await;
    let answer = raw(&mut people, Method::PUT, CONNECTION, &with("Disconnected")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let [approved, rejected] = ["Approved", "Rejected"].map(with);
    let cases = [
        (approved.as_str(), 409, "Conflict", status, "Disconnected"),
        (&rejected, 409, "Conflict", status, "Disconnected"),
    ];
    refused(&scene, &mut people, CONNECTION, &cases).await;
    let before = scene.dump().await;
    let answer = approve(&mut people).await;
    assert_eq!(answer.error(), (409, "Conflict".into(), status.into()));
    let nobody = CONNECTION.replace("pe-1", "pe-9");
    let answer = people.post(&format!("{nobody}/approve"), "").await;
    assert_eq!(answer.error(), (404, "ResourceNotFound".into(), nobody));
    let answer = people
        .post(&format!("{CONNECTION}/approve"), r#"{"reason": ""}"#)
        .await;
    assert_eq!(answer.error(), (400, CONTENT.into(), "reason".into()));
    let control = json!({"description": "two\nlines"}).to_string();
    let answer = people.post(&format!("{CONNECTION}/reject"), &control).await;
    assert_eq!(answer.error(), (400, CONTENT.into(), "description".into()));
    assert_eq!(scene.dump().await, before);
}

#[tokio::test]
async fn a_body_is_bounded_and_must_be_json() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    let before = scene.dump().await;
    let whole = account(&["images.example"]).to_string();
    let padded = |length: usize| format!("{whole}{}", " ".repeat(length - whole.len()));
    let answer = raw(&mut people, Method::PUT, ACCOUNT, &padded(65537)).await;
    assert_eq!(
        answer.error(),
        (413, "RequestEntityTooLarge".into(), String::new())
    );
    assert!(answer.message().contains("65536 bytes"));
    for kind in [
        None,
        Some("text/plain"),
        Some("application/xml"),
        Some("application/jsonx"),
    ] {
        let headers: Vec<_> = kind
            .map(|kind| ("content-type", kind))
            .into_iter()
            .collect();
        let answer = people
            .send(request(Method::PUT, ACCOUNT, &headers, &whole))
            .await;
        let expected = (415, "UnsupportedMediaType".into(), "Content-Type".into());
        assert_eq!(answer.error(), expected, "{kind:?}");
    }
    assert_eq!(scene.dump().await, before);
    let answer = raw(&mut people, Method::PUT, ACCOUNT, &padded(65536)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let utf8 = [("content-type", "Application/JSON; charset=utf-8")];
    let answer = people
        .send(request(Method::PUT, ACCOUNT, &utf8, &whole))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(scene.dump().await, before, "the same again changes nothing");
}

#[tokio::test]
async fn bad_names_paths_and_queries_are_refused() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    let mut proxy = scene.proxy().await;
    let before = scene.dump().await;
    let empty = json!({"properties": {}});
    for (path, target) in [
        ("/v1/workspaces/ab", "workspace"),
        ("/v1/workspaces/a_b", "workspace"),
        ("/v1/workspaces/%2e%2e%2fetc", "workspace"),
        ("/v1/workspaces/clinic/accounts/-ab", "account"),
        (&CONNECTION.replace("pe-1", "pe%20"), "name"),
    ] {
        let answer = people.put(path, &empty).await;
        let expected = (400, "InvalidResourceName".into(), target.into());
        assert_eq!(answer.error(), expected, "{path}");
    }
    for path in ["/", "/v2/lookup", "/v1/workspaces/", "/v1/workspaces/%ff"] {
        let answer = people.get(path).await;
        assert_eq!(answer.error().0, 404, "{path}");
    }
    let answer = people.post(WORKSPACE, "{}").await;
    assert_eq!(answer.error().0, 405);
    for (path, target) in [
        ("/v1/lookup", "host"),
        ("/v1/lookup?linkId=7", "host"),
        ("/v1/lookup?linkId=7&host=", "host"),
        ("/v1/lookup?linkId=7&host=a.example.", "host"),
        ("/v1/lookup?linkId=-7&host=a.example", "linkId"),
        ("/v1/lookup?linkId=4294967296&host=a.example", "linkId"),
        ("/v1/lookup?linkId=&host=a.example", "linkId"),
        ("/v1/lookup?linkId=7&linkId=8&host=a.example", "linkId"),
        ("/v1/lookup?linkid=7&host=a.example", "linkid"),
        ("/v1/changes", "after"),
        ("/v1/changes?after=x", "after"),
        ("/v1/changes?after=-1", "after"),
        ("/v1/changes?after=0&max=0", "max"),
        ("/v1/changes?after=0&max=1001", "max"),
    ] {
        let answer = proxy.get(path).await;
        let expected = (400, "InvalidQueryParameter".into(), target.into());
        assert_eq!(answer.error(), expected, "{path}");
    }
    for (path, target) in [
        ("/v1/workspaces?$top=0", "$top"),
        ("/v1/workspaces?$skipToken=/", "$skipToken"),
        ("/v1/workspaces?$filter=x", "$filter"),
    ] {
        let expected = (400, "InvalidQueryParameter".into(), target.into());
        assert_eq!(people.get(path).await.error(), expected, "{path}");
    }
    for (header, target) in [
        (("if-match", "1"), "If-Match"),
        (("if-match", "\"1\", \"2\""), "If-Match"),
        (("if-none-match", "\"1\""), "If-None-Match"),
    ] {
        let answer = people.put_if(WORKSPACE, header, &empty).await;
        let expected = (400, "InvalidHeaderValue".into(), target.into());
        assert_eq!(answer.error(), expected, "{header:?}");
    }
    let long = format!("/v1/lookup?host={}", "a".repeat(4000));
    let message = proxy.get(&long).await.message();
    assert!(message.len() < 600, "{message}");
    assert_eq!(scene.dump().await, before);
}
