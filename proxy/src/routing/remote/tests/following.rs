//! The change stream: what is applied, what is a gap, what is merely resumed.

use postern_api::LinkState;
use postern_api::routing as wire;

use super::scene::*;

fn generation(scene: &Scene) -> u64 {
    *scene.routes.generation().borrow()
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_fills_the_cache_and_a_change_takes_a_route_away_without_a_lookup() {
    let mut scene = Scene::new();
    let stream = scene.followed().await;
    assert_eq!(stream.after, 1);
    assert!(scene.readiness.is_ready());
    assert!(is_found(&scene.get().await));
    stream.change(&change(2, LinkState::Rejected));
    settle().await;
    assert_eq!(
        scene.get().await.unwrap(),
        Lookup::NotApproved(LinkState::Rejected)
    );
    stream.change(&change(3, LinkState::Approved));
    settle().await;
    assert_eq!(scene.service.lookups(), 0);
    assert!(is_found(&scene.get().await));
    assert_eq!(scene.service.lookups(), 1, "a forgotten no is asked for");
    assert_eq!(scene.routes.sequence(), Some(3));
    for (series, value) in [
        ("postern_route_changes_total", 2),
        ("postern_route_sequence", 3),
        ("postern_route_change_seconds", 1_795_000_000),
        ("postern_route_stream_up", 1),
        ("postern_route_gaps_total", 0),
    ] {
        assert_eq!(scene.metric(series), value, "{series}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_resumed_after_the_last_change() {
    let mut scene = Scene::new();
    let stream = scene.followed().await;
    stream.change(&change(2, LinkState::Approved));
    let torn = serde_json::to_string(&change(3, LinkState::Rejected)).unwrap();
    stream.raw(&format!(
        "event: change\nid: 3\ndata: {}",
        &torn[..torn.len() / 2]
    ));
    settle().await;
    let before = generation(&scene);
    drop(stream);
    let stream = scene.stream().await;
    assert_eq!(stream.after, 2);
    stream.change(&change(3, LinkState::Rejected));
    stream.head(3);
    settle().await;
    assert_eq!(
        scene.get().await.unwrap(),
        Lookup::NotApproved(LinkState::Rejected)
    );
    assert_eq!(generation(&scene), before, "nothing was missed");
    assert_eq!(scene.metric("postern_route_gaps_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_given_up() {
    let mut scene = Scene::new();
    let stream = scene.followed().await;
    let began = tokio::time::Instant::now();
    stream.closed().await;
    // From the head on, and a millisecond for that to settle.
    let silent = began.elapsed() + Duration::from_millis(1);
    assert!(silent >= 15 * SECOND && silent < 16 * SECOND, "{silent:?}");
    assert_eq!(scene.stream().await.after, 1);
    assert_eq!(scene.metric("postern_route_gaps_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_gap_asks_for_everything_again() {
    let event = |name: &str, data: &str| format!("event: {name}\ndata: {data}\n\n");
    let text = |change: &wire::Change| serde_json::to_string(change).unwrap();
    let mut of_two = change(2, LinkState::Approved);
    of_two.account = "clinic/other".into();
    let mut without_hosts = change(2, LinkState::Approved);
    without_hosts.route.as_mut().unwrap().hosts.clear();
    let head = |sequence| format!("{{\"sequence\":{sequence},\"oldest\":1}}");
    let stuck = event("head", &head(5));
    let gaps = [
        (
            "a jump",
            event("change", &text(&change(3, LinkState::Approved))),
        ),
        (
            "again",
            event("change", &text(&change(1, LinkState::Approved))),
        ),
        ("backwards", event("head", &head(0))),
        ("stuck", format!("{stuck}{stuck}")),
        ("told", event("gap", &head(9))),
        ("no change", event("change", "{}")),
        ("of two accounts", event("change", &text(&of_two))),
        ("no hosts", event("change", &text(&without_hosts))),
        (
            "endless",
            format!("event: change\ndata: {}", "x".repeat(1024 * 1024)),
        ),
    ];
    for (name, gap) in gaps {
        let mut scene = Scene::new();
        let stream = scene.followed().await;
        let before = generation(&scene);
        // It is of another link than before.
        scene.service.snapshot_is(40, &[LinkId::new(8)]);
        stream.raw(&gap);
        let stream = scene.stream().await;
        assert_eq!(stream.after, 40, "{name}");
        assert!(generation(&scene) > before, "{name}");
        assert_eq!(scene.metric("postern_route_gaps_total"), 1, "{name}");
        let unknown = answer(40, wire::Answer::Unknown);
        scene.service.answers(move |_| Reply::json(unknown.clone()));
        assert_eq!(scene.get().await.unwrap(), Lookup::Unknown, "{name}");
        let other = scene.cache.get(LinkId::new(8), &host()).await;
        assert!(is_found(&other), "{name}: from the snapshot");
        assert_eq!(scene.service.lookups(), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn changes_that_are_no_longer_kept_are_a_gap() {
    let mut scene = Scene::new();
    let stream = scene.followed().await;
    let gone = Reply::Text(410, "application/json", "{}".into());
    *scene.service.changes.lock().unwrap() = Some(gone);
    drop(stream);
    while scene.metric("postern_route_gaps_total") == 0 {
        settle().await;
    }
    scene.service.snapshot_is(40, &[LINK]);
    *scene.service.changes.lock().unwrap() = None;
    assert_eq!(scene.stream().await.after, 40);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_change_stream_is_tried_again_with_growing_pauses() {
    for reply in [
        Reply::Text(200, "application/json", "{}".into()),
        Reply::Text(500, "text/event-stream", String::new()),
        Reply::Nothing,
    ] {
        let mut scene = Scene::new();
        *scene.service.changes.lock().unwrap() = Some(reply);
        scene.follow();
        sleep(60 * SECOND).await;
        assert!(scene.routes.contact().is_out_of_reach());
        assert_eq!(scene.metric("postern_route_stream_up"), 0);
        assert_eq!(scene.metric("postern_route_gaps_total"), 0);
        *scene.service.changes.lock().unwrap() = None;
        scene.stream().await.head(1);
        settle().await;
        assert!(!scene.routes.contact().is_out_of_reach());
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_to_a_cluster_that_is_not_configured_takes_the_route_away() {
    let mut scene = Scene::new();
    let stream = scene.followed().await;
    assert!(is_found(&scene.get().await));
    let mut moved = change(2, LinkState::Approved);
    moved.route.as_mut().unwrap().cluster = "elsewhere".into();
    stream.change(&moved);
    settle().await;
    assert_eq!(scene.get().await.unwrap(), Lookup::Unknown);
    let series = "postern_route_answers_distrusted_total{reason=\"cluster\"}";
    assert_eq!(scene.metric(series), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_ahead_and_sends_what_is_missing_is_no_gap() {
    let mut scene = Scene::new();
    let stream = scene.followed().await;
    for sequence in 2..20 {
        stream.head(20);
        stream.change(&change(sequence, LinkState::Approved));
    }
    stream.raw(": a comment\n\nevent: later\ndata: {}\n\nretry: 5\n\n");
    settle().await;
    assert_eq!(scene.routes.sequence(), Some(19));
    assert_eq!(scene.metric("postern_route_gaps_total"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_the_service_that_is_not_whole_is_not_used() {
    let whole = snapshot(1, &[LINK]);
    let torn = whole.trim_end().to_owned();
    let too_few = whole.replace("\"accounts\":1", "\"accounts\":2");
    let too_many = whole.replace("\"accounts\":1", "\"accounts\":0");
    let newer = whole.replace("\"format\":1", "\"format\":2");
    for text in [torn, too_few, too_many, newer, String::new()] {
        let mut scene = Scene::new();
        let reply = Reply::Text(200, "application/x-ndjson", text.clone());
        *scene.service.snapshot.lock().unwrap() = reply;
        scene.follow();
        sleep(5 * SECOND).await;
        assert_eq!(scene.cache.describe(LINK, &host()), None, "{text}");
        assert!(!scene.readiness.is_ready());
        scene.service.snapshot_is(1, &[LINK]);
        scene.stream().await.head(1);
        settle().await;
        assert!(scene.readiness.is_ready());
    }
}
