//! One question: who is asked, what is believed, what else may be asked meanwhile.

use postern_api::LinkState;
use postern_api::routing as wire;
use tokio::time::Instant;

use super::scene::*;

#[tokio::test(start_paused = true)]
async fn ten_thousand_who_wait_for_one_key_make_one_lookup() {
    let scene = Scene::new();
    let waiting = (0..10_000).map(|_| {
        let cache = scene.cache.clone();
        tokio::spawn(async move { cache.get(LINK, &host()).await })
    });
    for one in waiting.collect::<Vec<_>>() {
        let Ok(Lookup::Found(route)) = one.await.unwrap() else {
            panic!("not found");
        };
        assert_eq!(&*route.account().name, "clinic/images");
    }
    assert_eq!(scene.service.lookups(), 1);
    assert_eq!(scene.service.hosts_connected(), ["one"]);
    assert_eq!(scene.routes.contact().age(), Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn every_definite_answer_is_understood() {
    let scene = Scene::new();
    let no = wire::Answer::NotApproved {
        state: LinkState::Pending,
    };
    for (given, taken) in [
        (no, Lookup::NotApproved(LinkState::Pending)),
        (wire::Answer::Unknown, Lookup::Unknown),
    ] {
        let text = answer(1, given);
        scene.service.answers(move |_| Reply::json(text.clone()));
        let answer = scene.routes.lookup(LINK, &host()).await.unwrap();
        assert_eq!(answer.lookup, taken);
        assert_eq!(answer.lifetime, Some(60 * SECOND));
    }
    let whoever = wire::Answer::Found {
        account: account(),
        link: None,
    };
    scene.service.answers(move |link| {
        assert_eq!(link, None);
        Reply::json(answer(1, whoever.clone()))
    });
    let answer = scene.routes.lookup_host(&host()).await.unwrap();
    assert!(matches!(answer.lookup, Lookup::Found(_)));
}

/// What a hostile or broken service says when asked for `LINK` and `host()`, and what is said of it.
fn lies() -> Vec<(Reply, &'static str)> {
    let found = |change: &dyn Fn(&mut wire::AccountRoute, &mut Option<wire::Link>)| {
        let mut given = (account(), Some(link(LINK, LinkState::Approved)));
        change(&mut given.0, &mut given.1);
        let found = wire::Answer::Found {
            account: given.0,
            link: given.1,
        };
        Reply::json(answer(1, found))
    };
    let hosts = |text: &str| vec![HostName::parse(text).unwrap()];
    let approved = wire::Answer::NotApproved {
        state: LinkState::Approved,
    };
    let text = |status, kind| Reply::Text(status, kind, answer(1, wire::Answer::Unknown));
    vec![
        (
            found(&|account, _| account.hosts = hosts("other.example")),
            "other hosts than `images.example`",
        ),
        (
            found(&|account, _| account.hosts = Vec::new()),
            "out of bounds",
        ),
        (
            found(&|account, _| account.hosts = vec![host(); 65]),
            "out of bounds",
        ),
        (
            found(&|account, _| account.account = "x".repeat(129)),
            "out of bounds",
        ),
        (
            found(&|account, _| account.cluster = "elsewhere".into()),
            "a cluster that is not configured: `elsewhere`",
        ),
        (
            found(&|_, given| *given = Some(link(LinkId::new(8), LinkState::Approved))),
            "another link than 7",
        ),
        (found(&|_, given| *given = None), "another link than 7"),
        (
            found(&|_, given| *given = Some(link(LINK, LinkState::Pending))),
            "both yes and no: the link is Pending",
        ),
        (
            Reply::json(answer(1, approved)),
            "both yes and no: the link is Approved",
        ),
        (
            Reply::json("{\"sequence\":1,\"maxAge\":1,\"answer\":\"perhaps\"}"),
            "cannot be read",
        ),
        (Reply::json("{}"), "cannot be read"),
        (
            Reply::json(format!(
                "{}{}",
                answer(1, wire::Answer::Unknown),
                " ".repeat(64 * 1024)
            )),
            "more than 65536 bytes",
        ),
        (text(200, "text/html"), "is not application/json"),
        (text(204, "application/json"), "204"),
        (text(404, "application/json"), "404"),
        (text(403, "application/json"), "403"),
        (text(500, "application/json"), "500"),
    ]
}

#[tokio::test(start_paused = true)]
async fn no_lie_is_believed_or_remembered() {
    for (lie, told) in lies() {
        let scene = Scene::new();
        let given = lie.clone();
        scene.service.answers(move |_| given.clone());
        let error = scene.get().await.expect_err(told);
        let text = postern_chassis::whole(&error);
        assert!(text.contains(told), "{told} is not in {text}");
        assert_eq!(scene.service.lookups(), 2, "asked once more: {told}");
        assert_eq!(scene.cache.describe(LINK, &host()), None, "{told}");
        assert_eq!(scene.routes.contact().age(), None, "no contact: {told}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_cluster_is_counted_each_time() {
    let scene = Scene::new();
    let mut elsewhere = account();
    elsewhere.cluster = "elsewhere".into();
    let found = wire::Answer::Found {
        account: elsewhere,
        link: Some(link(LINK, LinkState::Approved)),
    };
    let text = answer(1, found);
    scene.service.answers(move |_| Reply::json(text.clone()));
    for _ in 0..2 {
        assert!(scene.get().await.is_err());
    }
    let series = "postern_route_answers_distrusted_total{reason=\"cluster\"}";
    assert_eq!(scene.metric(series), 4);
}

#[tokio::test(start_paused = true)]
async fn a_second_endpoint_answers_where_the_first_hangs_and_is_asked_first_from_then_on() {
    let scene = Scene::new();
    scene.service.reach("one", Reach::Mute);
    let began = Instant::now();
    assert!(is_found(&scene.get().await));
    assert_eq!(began.elapsed(), SECOND / 4);
    assert_eq!(scene.service.hosts_connected(), ["one", "two"]);
    scene
        .service
        .answers(|link| Reply::json(found(LinkId::new(link.unwrap()))));
    let began = Instant::now();
    assert!(is_found(&scene.cache.get(LinkId::new(8), &host()).await));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(scene.metric("postern_route_second_attempts_total"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_endpoint_is_asked_at_once_where_the_first_refuses() {
    let scene = Scene::new();
    scene.service.reach("one", Reach::Refused);
    let began = Instant::now();
    assert!(is_found(&scene.get().await));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(scene.service.hosts_connected(), ["two"]);
}

#[tokio::test(start_paused = true)]
async fn a_single_endpoint_gets_a_second_connection() {
    let scene = Scene::with(|options| options.client.endpoints.truncate(1));
    let first = std::sync::atomic::AtomicBool::new(true);
    scene.service.answers(move |_| {
        if first.swap(false, Ordering::Relaxed) {
            Reply::Nothing
        } else {
            Reply::json(found(LINK))
        }
    });
    assert!(is_found(&scene.get().await));
    assert_eq!(scene.service.hosts_connected(), ["one", "one"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_gone_without_a_word_is_noticed_and_replaced() {
    let scene = Scene::with(|options| options.client.endpoints.truncate(1));
    scene.service.reach("one", Reach::Mute);
    assert!(scene.get().await.is_err());
    assert_eq!(scene.service.hosts_connected().len(), 2);
    scene.service.lives();
    // Both are still taken for good, until a ping is not answered.
    assert!(scene.get().await.is_err());
    sleep(10 * SECOND).await;
    assert!(is_found(&scene.get().await));
    assert_eq!(scene.service.hosts_connected().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_older_than_what_was_seen_is_not_taken() {
    let mut scene = Scene::new();
    scene.service.snapshot_is(20, &[]);
    scene.follow();
    let stream = scene.stream().await;
    stream.head(20);
    settle().await;
    let old = answer(19, wire::Answer::Unknown);
    scene.service.answers(move |_| Reply::json(old.clone()));
    let error = scene.get().await.unwrap_err();
    let text = postern_chassis::whole(&error);
    assert!(text.contains("sequence 19, known 20"), "{text}");
    let series = "postern_route_answers_distrusted_total{reason=\"behind\"}";
    assert_eq!(scene.metric(series), 2);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_links_leaves_room_for_those_that_are_known() {
    let mut scene = Scene::new();
    let _stream = scene.followed().await;
    assert!(is_found(&scene.get().await));
    scene.service.answers(|link| match link {
        Some(7) => Reply::json(found(LINK)),
        _ => Reply::Nothing,
    });
    // What is held is of no use any more without asking again.
    scene
        .routes
        .generation
        .send_modify(|generation| *generation += 1);
    let before = scene.service.lookups();
    for number in 1_000..3_000 {
        let cache = scene.cache.clone();
        tokio::spawn(async move { cache.get(LinkId::new(number), &host()).await });
    }
    settle().await;
    assert_eq!(scene.service.lookups(), before + LOOKUPS_MAX);
    let began = Instant::now();
    assert!(is_found(&scene.get().await));
    assert_eq!(began.elapsed(), Duration::ZERO);
}
