//! The service is away: for an hour, at a start, and what is on disk then.

use postern_api::LinkState;

use super::scene::*;

const UNKNOWN: LinkId = LinkId::new(99);

impl Scene {
    async fn knows(&self, link: LinkId) -> bool {
        is_found(&self.cache.get(link, &host()).await)
    }
}

#[tokio::test(start_paused = true)]
async fn for_a_whole_hour_known_links_are_served_and_then_none_until_the_service_is_back() {
    let mut scene = Scene::new();
    scene.followed().await.beats(1);
    // Ten minutes of heartbeats: what the snapshot brought is confirmed all the time.
    sleep(600 * SECOND).await;
    assert!(scene.knows(LINK).await);
    let contact = scene.routes.contact();
    let age = contact.age().unwrap();
    assert!(age <= 5 * SECOND && !contact.is_out_of_reach());

    scene.service.dies();
    let ceiling = HOUR.saturating_sub(age);
    for _ in 0..59 {
        sleep(ceiling / 60).await;
        let began = tokio::time::Instant::now();
        assert!(scene.knows(LINK).await && scene.readiness.is_ready());
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits for it");
        assert!(scene.cache.get(UNKNOWN, &host()).await.is_err());
    }
    assert!(scene.routes.contact().is_out_of_reach());
    let left = HOUR.saturating_sub(scene.routes.contact().age().unwrap());
    sleep(left.saturating_sub(2 * SECOND)).await;
    assert!(scene.knows(LINK).await && scene.readiness.is_ready());
    sleep(SECOND + SECOND / 2).await;
    assert!(scene.readiness.is_ready());
    sleep(SECOND).await;
    assert!(!scene.readiness.is_ready());
    assert_eq!(scene.readiness.waiting_for(), ["routes"]);
    assert!(scene.cache.get(LINK, &host()).await.is_err());

    scene.service.lives();
    let stream = scene.stream().await;
    assert_eq!(stream.after, 1, "it goes on where it was");
    stream.beats(1);
    settle().await;
    assert!(scene.readiness.is_ready() && scene.knows(LINK).await);
}

#[tokio::test(start_paused = true)]
async fn a_start_with_a_young_snapshot_serves_before_the_service_answers() {
    let mut before = Scene::new();
    let stream = before.followed().await;
    stream.change(&change(2, LinkState::Approved));
    settle().await;
    before.routes.save(&before.cache);
    assert!(before.metric("postern_route_snapshot_bytes") > 0);

    let mut scene = Scene::by(Arc::clone(&before.folder), None, |_| {});
    scene.service.dies();
    scene.follow();
    settle().await;
    assert!(scene.readiness.is_ready());
    let began = tokio::time::Instant::now();
    assert!(scene.knows(LINK).await);
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(scene.routes.sequence(), Some(2));

    scene.service.lives();
    let stream = scene.stream().await;
    assert_eq!(stream.after, 2, "from where the one before was");
    stream.change(&change(3, LinkState::Disconnected));
    settle().await;
    assert!(!scene.knows(LINK).await);
}

#[tokio::test(start_paused = true)]
async fn a_start_with_a_bad_snapshot_waits_for_the_service() {
    let mut before = Scene::new();
    let _stream = before.followed().await;
    before.routes.save(&before.cache);
    let path = before.folder.path().join("routes.snapshot");
    let good = std::fs::read_to_string(&path).unwrap();
    for (damaged, reason) in [
        (good.replace("images.example", "imagez.example"), "damaged"),
        (good[..good.len() / 2].to_owned(), "damaged"),
        (good.replace("\"format\":1", "\"format\":2"), "format"),
        (old(&good, 3_600), "too_old"),
        (old(&good, -60), "future"),
    ] {
        std::fs::write(&path, &damaged).unwrap();
        let mut scene = Scene::by(Arc::clone(&before.folder), None, |_| {});
        scene.service.reach("one", Reach::Refused);
        scene.service.reach("two", Reach::Refused);
        scene.follow();
        sleep(SECOND).await;
        assert!(!scene.readiness.is_ready(), "{reason}");
        assert!(!scene.knows(LINK).await, "{reason}");
        let series = format!("postern_route_snapshot_refusals_total{{reason=\"{reason}\"}}");
        assert_eq!(scene.metric(&series), 1);
        scene.service.lives();
        scene.stream().await.head(1);
        settle().await;
        assert!(scene.readiness.is_ready() && scene.knows(LINK).await);
    }
}

/// The snapshot, dated so many seconds ago and sealed again.
fn old(snapshot: &str, seconds: i64) -> String {
    let (head, rest) = snapshot.split_once('\n').unwrap();
    let mut head: postern_api::routing::SnapshotHead = serde_json::from_str(head).unwrap();
    head.at = jiff::Timestamp::now().as_second() - seconds;
    let (lines, _) = rest.rsplit_once("{\"sha256\"").unwrap();
    let text = format!("{}\n{lines}", serde_json::to_string(&head).unwrap());
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let sum = snapshot::hex(sum.as_ref());
    format!("{text}{{\"sha256\":\"{sum}\"}}\n")
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_is_written_when_something_changed_and_before_it_is_too_old() {
    let mut scene = Scene::new();
    let stream = scene.followed().await;
    let path = scene.folder.path().join("routes.snapshot");
    assert!(!path.exists());
    let written = || std::fs::remove_file(&path).is_ok();
    let stream = Arc::new(stream);
    let beating = Arc::clone(&stream);
    tokio::spawn(async move {
        for _ in 0..1_000 {
            beating.head(if beating.after == 1 { 1 } else { 2 });
            sleep(5 * SECOND).await;
        }
    });
    sleep(61 * SECOND).await;
    assert!(written(), "the first");
    sleep(600 * SECOND).await;
    assert!(!written(), "nothing has changed");
    sleep(HOUR / 4).await;
    assert!(written(), "a quarter of its life is over");
}

#[tokio::test(start_paused = true)]
async fn what_was_revoked_does_not_come_back_from_the_disk_even_if_nothing_is_left() {
    let mut before = Scene::new();
    let stream = before.followed().await;
    before.routes.save(&before.cache);
    stream.change(&change(2, LinkState::Rejected));
    settle().await;
    before.routes.save(&before.cache);

    let mut scene = Scene::by(Arc::clone(&before.folder), None, |_| {});
    scene.service.dies();
    scene.follow();
    settle().await;
    assert!(scene.readiness.is_ready());
    assert_eq!(scene.routes.sequence(), Some(2));
    assert!(!scene.knows(LINK).await);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_changes_are_missing() {
    let mut scene = Scene::new();
    let stream = scene.followed().await;
    scene.service.dies();
    stream.closed().await;
    scene.routes.save(&scene.cache);
    let path = scene.folder.path().join("routes.snapshot");
    assert!(std::fs::remove_file(&path).is_ok());
    scene.routes.applied.store(0, Ordering::Relaxed);
    scene.routes.save(&scene.cache);
    assert!(!path.exists());
}
