//! The judgement for an ingress, over HTTP/1.1 as nginx speaks it.

use super::client::{Answer, Client};
use super::scene::{ACCOUNT, CONNECTION, Scene, account, approve};

const LINK: &str = "x-ms-private-link-id";
const HOST: &str = "x-original-host";

async fn judge(ingress: &mut Client, headers: &[(&str, &str)]) -> Answer {
    let answer = ingress.get_with("/v1/authorize", headers).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    answer
}

#[tokio::test]
async fn a_request_passes_if_the_link_is_approved_for_the_host_and_never_else() {
    let scene = Scene::start().await;
    let mut people = scene.filled().await;
    let mut ingress = scene
        .connector_with("ingress.example", b"http/1.1")
        .connect()
        .await
        .unwrap();
    let good = [(LINK, "7"), (HOST, "Images.example")];
    let pending = judge(&mut ingress, &good).await;
    assert_eq!(
        (pending.status.as_u16(), pending.header("x-postern-reason")),
        (403, "link_pending")
    );
    approve(&mut people).await;
    let passed = judge(&mut ingress, &good).await;
    assert_eq!(
        (passed.status.as_u16(), passed.header("x-postern-account")),
        (200, "clinic/images")
    );
    for (headers, reason) in [
        (&[][..], "link_id_missing"),
        (&[(HOST, "images.example")], "link_id_missing"),
        (&[(LINK, ""), (HOST, "images.example")], "link_id_missing"),
        (&[(LINK, "7")], "host_missing"),
        (
            &[(LINK, "seven"), (HOST, "images.example")],
            "link_id_malformed",
        ),
        (
            &[(LINK, "7, 8"), (HOST, "images.example")],
            "link_id_malformed",
        ),
        (
            &[(LINK, "4294967303"), (HOST, "images.example")],
            "link_id_malformed",
        ),
        (
            &[(LINK, "7"), (LINK, "7"), (HOST, "images.example")],
            "link_id_malformed",
        ),
        (
            &[
                (LINK, "7"),
                (HOST, "images.example"),
                (HOST, "images.example"),
            ],
            "host_malformed",
        ),
        (
            &[(LINK, "7"), (HOST, "images.example:443")],
            "host_malformed",
        ),
        (&[(LINK, "7"), (HOST, "images.example.")], "host_malformed"),
        (&[(LINK, "8"), (HOST, "images.example")], "link_unknown"),
        (&[(LINK, "7"), (HOST, "other.example")], "link_unknown"),
        (
            &[(LINK, "7"), ("x-forwarded-host", "images.example")],
            "host_missing",
        ),
    ] {
        let answer = judge(&mut ingress, headers).await;
        assert_eq!(answer.error().0, 403, "{headers:?}");
        assert_eq!(answer.header("x-postern-reason"), reason, "{headers:?}");
        assert_eq!(answer.header("x-postern-account"), "");
    }
    people.post(&format!("{CONNECTION}/reject"), "").await;
    assert_eq!(
        judge(&mut ingress, &good).await.header("x-postern-reason"),
        "link_rejected"
    );
    approve(&mut people).await;
    let mut locked = account(&["images.example"]);
    locked["properties"]["customerKey"] = serde_json::json!({"state": "not_accessible"});
    assert_eq!(people.put(ACCOUNT, &locked).await.status, 200);
    let refused = judge(&mut ingress, &good).await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("x-postern-reason")),
        (403, "customer_key")
    );
}
