//! Lookups and snapshots.

use postern_api::routing::{AccountLinks, Answer, LookupAnswer, SnapshotHead};
use postern_api::{LinkId, LinkState};
use serde_json::json;

use super::client::{Client, PATIENCE};
use super::scene::{ACCOUNT, CONNECTION, Scene, account, approve};

const LOOKUP: &str = "/v1/lookup?linkId=7&host=images.example";

async fn look(client: &mut Client, path: &str) -> LookupAnswer {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn an_answer_is_a_route_or_a_definite_no() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    let mut proxy = scene.proxy().await;
    let pending = Answer::NotApproved {
        state: LinkState::Pending,
    };
    assert_eq!(look(&mut proxy, LOOKUP).await.answer, pending);
    approve(&mut people).await;
    let found = look(&mut proxy, LOOKUP).await;
    assert_eq!((found.sequence, found.max_age), (3, 60));
    let Answer::Found { account, link } = found.answer else {
        panic!("not found");
    };
    assert_eq!(
        (account.account.as_str(), link.unwrap().link_id),
        ("clinic/images", LinkId::new(7))
    );
    let whoever = look(&mut proxy, "/v1/lookup?host=IMAGES.example").await;
    assert!(matches!(whoever.answer, Answer::Found { link: None, .. }));
    for path in [
        "/v1/lookup?linkId=8&host=images.example",
        "/v1/lookup?linkId=7&host=other.example",
    ] {
        assert_eq!(look(&mut proxy, path).await.answer, Answer::Unknown);
    }
    let (_, metrics) = scene.admin("/metrics").await;
    for line in [
        "postern_routing_lookups_total{answer=\"found\"} 2\n",
        "postern_routing_lookups_total{answer=\"not_approved\"} 1\n",
        "postern_routing_lookups_total{answer=\"unknown\"} 2\n",
        "postern_routing_requests_total{operation=\"lookup\",status=\"200\"} 5\n",
        "postern_routing_head_sequence 3\n",
        "postern_routing_ready 1\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn an_answers_tag_is_its_own_whatever_else_has_changed() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    let mut proxy = scene.proxy().await;
    let first = proxy.get(LOOKUP).await;
    let tag = first.header("etag").to_owned();
    assert_eq!(first.header("cache-control"), "private, max-age=60");
    let other = ACCOUNT.replace("images", "other");
    people.put(&other, &account(&["other.example"])).await;
    for known in [tag.clone(), format!("\"x\", W/{tag}"), "*".into()] {
        let again = proxy.get_with(LOOKUP, &[("if-none-match", &known)]).await;
        assert_eq!(
            (again.status.as_u16(), again.body.len()),
            (304, 0),
            "{known}"
        );
        assert_eq!(
            (again.header("etag"), again.header("x-postern-sequence")),
            (&*tag, "3")
        );
        assert_eq!(again.header("cache-control"), "private, max-age=60");
    }
    approve(&mut people).await;
    let changed = proxy.get_with(LOOKUP, &[("if-none-match", &tag)]).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), tag);
}

#[tokio::test]
async fn a_snapshot_is_whole_and_tagged() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    for n in 0..300 {
        let name = format!("a{n:03}");
        let path = ACCOUNT.replace("images", &name);
        let host = format!("{name}.example");
        people.put(&path, &account(&[&host])).await;
    }
    let mut proxy = scene.proxy().await;
    let answer = proxy.get("/v1/snapshot").await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let text = std::str::from_utf8(&answer.body).unwrap();
    let mut lines = text.lines();
    let head: SnapshotHead = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!((head.format, head.sequence, head.accounts), (1, 302, 301));
    let accounts: Vec<AccountLinks> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(accounts.len(), 301);
    let with_link = accounts
        .iter()
        .find(|it| it.account.account == "clinic/images");
    assert_eq!(with_link.unwrap().links[0].state, LinkState::Pending);
    let tag = answer.header("etag").to_owned();
    let known = proxy
        .get_with("/v1/snapshot", &[("if-none-match", &tag)])
        .await;
    assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
    approve(&mut people).await;
    let changed = proxy
        .get_with("/v1/snapshot", &[("if-none-match", &tag)])
        .await;
    assert_eq!(changed.status, 200);
}

#[tokio::test]
async fn changes_come_in_pages() {
    let scene = Scene::with(|config| config.changes.kept = 3).await;
    let mut people = scene.filled().await;
    let mut proxy = scene.proxy().await;
    let page = proxy.get("/v1/changes?after=0&max=1").await.json();
    assert_eq!(page["head"], json!({"sequence": 2, "oldest": 1}));
    assert_eq!(page["changes"].as_array().unwrap().len(), 1);
    assert_eq!(page["changes"][0]["what"], "account.created");
    let none = proxy.get("/v1/changes?after=2").await.json();
    assert_eq!(none["changes"], json!([]));
    let future = proxy.get("/v1/changes?after=3").await;
    assert_eq!(future.error(), (410, "ChangesGone".into(), "after".into()));
    // Old changes go now and then, so it is a matter of enough of them.
    let word = |n: u32| {
        if n.is_multiple_of(2) {
            "approve"
        } else {
            "reject"
        }
    };
    let thinned = async {
        for n in 0.. {
            let answer = people.post(&format!("{CONNECTION}/{}", word(n)), "").await;
            assert_eq!(answer.status, 200);
            let answer = proxy.get("/v1/changes?after=0").await;
            if answer.status != 200 {
                return answer;
            }
        }
        unreachable!()
    };
    let answer = tokio::time::timeout(PATIENCE, thinned).await.unwrap();
    assert_eq!(answer.error(), (410, "ChangesGone".into(), "after".into()));
}
