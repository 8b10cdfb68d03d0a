//! The books: versions, lists, deletions, decisions.

use serde_json::json;

use super::client::Answer;
use super::scene::{ACCOUNT, CONNECTION, Scene, WORKSPACE, account, approve, connection};

#[tokio::test]
async fn a_put_is_201_then_200_and_the_same_again_changes_nothing() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    let before = scene.dump().await;
    for (path, body) in [
        (WORKSPACE, json!({"properties": {}})),
        (ACCOUNT, account(&["images.example"])),
        (CONNECTION, connection(7)),
    ] {
        let first = people.get(path).await;
        assert_eq!(first.json()["id"], path);
        assert_eq!(first.json()["etag"], first.header("etag"));
        let again = people.put(path, &body).await;
        assert_eq!(again.status, 200, "{again:?}");
        assert_eq!(again.body, first.body);
        // What a get shows may be put as it is.
        let shown = people.put(path, &first.json()).await;
        assert_eq!(
            (shown.status.as_u16(), &shown.body),
            (200, &first.body),
            "{shown:?}"
        );
    }
    assert_eq!(scene.dump().await, before);
    let changed = people.put(ACCOUNT, &account(&["new.example"])).await;
    assert_eq!(changed.status, 200);
    assert_ne!(scene.dump().await, before);
}

#[tokio::test]
async fn of_two_writers_with_the_same_version_one_wins() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    let etag = people.get(ACCOUNT).await.header("etag").to_owned();
    let (mut one, mut other) = (scene.people().await, scene.people().await);
    let (a, b) = (account(&["a.example"]), account(&["b.example"]));
    let header = ("if-match", etag.as_str());
    let (one, other) = tokio::join!(
        one.put_if(ACCOUNT, header, &a),
        other.put_if(ACCOUNT, header, &b)
    );
    let (won, lost) = if one.status == 200 {
        (one, other)
    } else {
        (other, one)
    };
    assert_eq!(won.status, 200);
    assert_eq!(
        lost.error(),
        (412, "PreconditionFailed".into(), String::new())
    );
    assert_eq!(people.get(ACCOUNT).await.body, won.body);
    let is_there = people.put_if(ACCOUNT, ("if-none-match", "*"), &a).await;
    assert_eq!(is_there.error().0, 412);
    let nothing = ACCOUNT.replace("images", "nothing");
    for tag in ["*", "\"1\"", "\"of another service\""] {
        let answer = people
            .put_if(&nothing, ("if-match", tag), &account(&["n.example"]))
            .await;
        assert_eq!(answer.error().0, 412, "{tag}");
    }
    let etag = won.header("etag").to_owned();
    let known = people.get_with(ACCOUNT, &[("if-none-match", &etag)]).await;
    assert_eq!((known.status.as_u16(), known.body.len()), (304, 0));
    let header = [("if-match", "\"0\"")];
    let delete = super::client::request(http::Method::DELETE, ACCOUNT, &header, "");
    assert_eq!(people.send(delete).await.error().0, 412);
}

#[tokio::test]
async fn a_connection_is_decided_and_keeps_its_state_when_it_is_put_without_one() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    let status = |answer: &Answer| {
        answer.json()["properties"]["privateLinkServiceConnectionState"]["status"].clone()
    };
    assert_eq!(status(&people.get(CONNECTION).await), "Pending");
    let approved = approve(&mut people).await;
    assert_eq!(
        (approved.status.as_u16(), status(&approved)),
        (200, json!("Approved"))
    );
    let etag = approved.header("etag").to_owned();
    assert_eq!(approve(&mut people).await.header("etag"), etag);
    // Who made the private endpoint says the same again, and undoes no decision.
    let again = people.put(CONNECTION, &connection(7)).await;
    assert_eq!(
        (again.header("etag"), status(&again)),
        (etag.as_str(), json!("Approved"))
    );
    let stale = people
        .put_if(CONNECTION, ("if-match", "\"0\""), &connection(7))
        .await;
    assert_eq!(stale.error().0, 412);
    let body = r#"{"description": "not ours"}"#;
    let rejected = people.post(&format!("{CONNECTION}/reject"), body).await;
    assert_eq!(status(&rejected), "Rejected");
    let state = &rejected.json()["properties"]["privateLinkServiceConnectionState"];
    assert_eq!(state["description"], "not ours");
}

#[tokio::test]
async fn a_delete_is_200_then_204_and_takes_an_accounts_connections_with_it() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    let refused = people.delete(WORKSPACE).await;
    assert_eq!(refused.error().0, 409);
    assert_eq!(people.delete(ACCOUNT).await.status, 200);
    let before = scene.dump().await;
    for path in [ACCOUNT, CONNECTION] {
        let gone = people.get(path).await;
        assert_eq!(gone.error().0, 404, "{path}");
        assert_eq!(people.delete(path).await.status, 204, "{path}");
    }
    let orphan = people.put(CONNECTION, &connection(7)).await;
    assert_eq!(
        orphan.error(),
        (404, "ResourceNotFound".into(), ACCOUNT.into())
    );
    assert_eq!(scene.dump().await, before);
    assert_eq!(people.delete(WORKSPACE).await.status, 200);
    assert_eq!(people.delete(WORKSPACE).await.status, 204);
}

#[tokio::test]
async fn a_list_goes_on_where_it_says() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    for link in 8..12 {
        let path = CONNECTION.replace("pe-1", &format!("pe-{link}"));
        assert_eq!(people.put(&path, &connection(link)).await.status, 201);
    }
    let list = CONNECTION.trim_end_matches("/pe-1");
    let mut path = format!("{list}?$top=2");
    let mut names = Vec::new();
    loop {
        let page = people.get(&path).await.json();
        let value = page["value"].as_array().unwrap();
        assert!((1..=2).contains(&value.len()));
        names.extend(
            value
                .iter()
                .map(|it| it["name"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["nextLink"].as_str() else {
            break;
        };
        path = next
            .strip_prefix("https://routing.example")
            .unwrap()
            .to_owned();
    }
    assert_eq!(names, ["pe-1", "pe-10", "pe-11", "pe-8", "pe-9"]);
    for (path, count) in [("/v1/workspaces", 1), (&ACCOUNT.replace("/images", ""), 1)] {
        let page = people.get(path).await.json();
        assert_eq!(page["value"].as_array().unwrap().len(), count);
        assert!(page.get("nextLink").is_none());
    }
    let resources = people
        .get(&format!("{ACCOUNT}/privateLinkResources"))
        .await
        .json();
    let properties = &resources["value"][0]["properties"];
    assert_eq!(properties["groupId"], "dicom");
    assert_eq!(properties["requiredMembers"], json!(["images.example"]));
    let nobody = people.get("/v1/workspaces/nobody/accounts").await;
    assert_eq!(nobody.error().0, 404);
}
