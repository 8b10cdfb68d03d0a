//! The route file while Postern runs: what is added works, what is wrong changes nothing.

use postern_loadtests::stack::accounts::{self, HOST_A, HOST_NOBODY, LINK_A, LINK_UNKNOWN};

use crate::scene::{Scene, routes_and, until};

const RELOADS: &str = "postern_routes_reload_total";

fn added() -> String {
    routes_and(&format!(
        "[[accounts]]\nname = \"added\"\nkind = \"dicom\"\nhosts = [\"{HOST_NOBODY}\"]\ncluster = \"dicom\"\n\
         [[accounts.links]]\nlink_id = {LINK_UNKNOWN}\nstate = \"Approved\"\n"
    ))
}

#[tokio::test]
async fn an_added_link_works_after_the_file_was_replaced() {
    let scene = Scene::start(&[]).await;
    let path = "/nonce/early";
    assert_eq!(scene.status(LINK_UNKNOWN, HOST_NOBODY, path).await, 403);
    assert_eq!(scene.logged(path).await["refusal"], "link_unknown");

    scene.stack.postern.write_routes(&added()).unwrap();
    // The answer "unknown" is remembered for seconds, but not beyond a new generation.
    let path = "/nonce/later";
    until("the added link", async || {
        scene.status(LINK_UNKNOWN, HOST_NOBODY, path).await == 200
    })
    .await;
    let line = scene
        .logged_as(path, |line| line["path"] == path && line["status"] == 200)
        .await;
    assert_eq!(line["account"], "added");
    let seen = scene
        .stack
        .ingress
        .saw(path, |line| line["uri"] == path)
        .await;
    assert_eq!(
        seen.unwrap()["x_ms_private_link_id"],
        LINK_UNKNOWN.to_string()
    );
    scene.said("routes loaded").await;
    scene.counted(RELOADS, &[("outcome", "loaded")], 2.0).await;
    scene.counted("postern_routes_generation", &[], 2.0).await;
}

#[tokio::test]
async fn a_bad_file_is_refused_with_its_place_and_the_previous_routes_stay() {
    let scene = Scene::start(&[]).await;
    let good = accounts::routes();
    let cases = [
        ("[[accounts]]\nname = 7\n", "invalid type"),
        (
            "[[accounts]]\nname = \"x\"\nkind = \"dicom\"\nhosts = [\"x.example\"]\ncluster = \"nowhere\"\n",
            "nowhere",
        ),
        (
            "[[accounts]]\nname = \"x\"\nkind = \"dicom\"\nhosts = [\"not a host\"]\ncluster = \"dicom\"\n",
            "host",
        ),
        (&good, "hospital-a"),
    ];
    for (number, (text, reason)) in (1_u32..).zip(cases) {
        scene.stack.postern.write_routes(&routes_and(text)).unwrap();
        scene
            .counted(RELOADS, &[("outcome", "refused")], f64::from(number))
            .await;
        let said = scene.stack.postern.operational_log().all();
        let mut refused = said
            .iter()
            .filter(|line| line["message"].to_string().contains("route file refused"));
        let error = refused.next_back().expect("a line")["error"].to_string();
        assert!(error.contains(reason), "{error}");
        let place = error.split_once("routes.toml:").expect("a place").1;
        let mut numbers = place.split(':').map(|part| part.trim().parse::<u32>());
        assert!(
            matches!(
                (numbers.next(), numbers.next()),
                (Some(Ok(1..)), Some(Ok(1..)))
            ),
            "{error}"
        );
        assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/kept").await, 200);
    }
    scene.stack.postern.write_routes(&added()).unwrap();
    scene.counted(RELOADS, &[("outcome", "loaded")], 2.0).await;
    assert_eq!(
        scene.status(LINK_UNKNOWN, HOST_NOBODY, "/nonce/good").await,
        200
    );
}

#[tokio::test]
async fn a_file_that_is_gone_leaves_the_routes_in_use() {
    let scene = Scene::start(&[]).await;
    let file = scene.folder.path().join("postern/routes.toml");
    std::fs::remove_file(&file).unwrap();
    scene.said("route file refused").await;
    scene.counted(RELOADS, &[("outcome", "refused")], 1.0).await;
    assert_eq!(scene.status(LINK_A, HOST_A, "/nonce/kept").await, 200);
    assert_eq!(
        scene.status(LINK_UNKNOWN, HOST_A, "/nonce/refused").await,
        403
    );
    // It is there again, as it was: no change, and known to be good.
    scene
        .stack
        .postern
        .write_routes(&accounts::routes())
        .unwrap();
    scene.counted(RELOADS, &[("outcome", "loaded")], 2.0).await;
    assert!(scene.metric_is("postern_routes_generation", &[], 1.0).await);
}
