use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};

use rustls::pki_types::ServerName;

use super::*;
use crate::access_log::AccessLog;
use crate::config::Mode;
use crate::routing::ClusterName;
use crate::upstream::cluster::Protocol;
use crate::upstream::endpoints::Target;

/// What a name server says, one after the other; none is that there is no such name.
type Answers = VecDeque<Option<Answer>>;

/// Answers by name in the order of a script, and the last one for ever; tells when it was asked.
#[derive(Default)]
struct Script {
    answers: Mutex<Vec<(&'static str, Answers)>>,
    asked: Mutex<Vec<(HostName, Instant)>>,
}

impl Ask for Arc<Script> {
    async fn ask(&self, name: &HostName, _: &[SocketAddr]) -> Result<Answer, AskError> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push((name.clone(), Instant::now()));
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let script = answers.iter_mut().find(|(it, _)| *it == name.as_str());
        let (_, left) = script.expect("a name of the script");
        let answer = match left.len() {
            1 => left[0].clone(),
            _ => left.pop_front().expect("an answer"),
        };
        answer.ok_or(AskError::NoName)
    }
}

impl Script {
    fn of(names: &[(&'static str, &[Option<Answer>])]) -> Arc<Self> {
        let answers = names
            .iter()
            .map(|(name, answers)| (*name, answers.iter().cloned().collect()))
            .collect();
        Arc::new(Self {
            answers: Mutex::new(answers),
            asked: Mutex::default(),
        })
    }

    /// The times between lookups of a name.
    fn gaps(&self, name: &str) -> Vec<Duration> {
        let asked = self.asked.lock().unwrap();
        let of = asked.iter().filter(|(it, _)| it.as_str() == name);
        let at: Vec<_> = of.map(|(_, at)| *at).collect();
        at.windows(2).map(|two| two[1] - two[0]).collect()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "one of a script's answers")]
fn answer(last: &[u8], ttl: u64) -> Option<Answer> {
    let ip = |&last: &u8| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    Some(Answer {
        addresses: last.iter().map(ip).collect(),
        ttl: Duration::from_secs(ttl),
    })
}

fn target(name: &str) -> Target {
    Target {
        place: Place::Name(HostName::parse(name).unwrap(), 443),
        near: true,
    }
}

fn cluster(names: &[&str]) -> Cluster {
    let server_name = ServerName::try_from("ingress.example").unwrap();
    let targets = names.iter().map(|name| target(name));
    Cluster::new(
        ClusterName::new("dicom"),
        server_name,
        Protocol::Auto,
        targets,
    )
}

struct Scene {
    clusters: Arc<Clusters>,
    script: Arc<Script>,
    metrics: Arc<Metrics>,
    resolver: Arc<Resolver<Arc<Script>>>,
    _running: JoinSet<()>,
}

impl Scene {
    fn new(names: &[&str], script: Arc<Script>) -> Self {
        let clusters: Arc<Clusters> = Arc::new([cluster(names)].into_iter().collect());
        let metrics = Arc::new(Metrics::new(Mode::Enforce, AccessLog::off()).unwrap());
        let options = Options {
            servers: Vec::new(),
            stale_max: Duration::from_hours(1),
        };
        let resolver = Arc::new(Resolver::new(
            Arc::clone(&script),
            Arc::clone(&clusters),
            options,
            Arc::clone(&metrics),
        ));
        let mut running = JoinSet::new();
        let runs = Arc::clone(&resolver);
        running.spawn(async move { runs.run().await });
        Self {
            resolver,
            clusters,
            script,
            metrics,
            _running: running,
        }
    }

    /// The last octets of the addresses there are after so long.
    async fn after(&self, time: Duration) -> Vec<u8> {
        sleep(time).await;
        let cluster = self.clusters.iter().next().unwrap();
        let last = |(address, _): (SocketAddr, bool)| match address.ip() {
            IpAddr::V4(four) => four.octets()[3],
            IpAddr::V6(_) => 0,
        };
        cluster.states().map(last).collect()
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_name_is_asked_for_again_in_the_last_tenth_of_its_ttl() {
    let answers = [answer(&[1], 60), answer(&[1, 2], 60), answer(&[2], 60)];
    let scene = Scene::new(&["a.example"], Script::of(&[("a.example", &answers)]));
    assert_eq!(scene.after(seconds(1)).await, [1]);
    assert_eq!(scene.after(seconds(52)).await, [1]);
    assert_eq!(scene.after(seconds(7)).await, [1, 2]);
    assert_eq!(scene.after(seconds(60)).await, [2]);
    scene.after(seconds(600)).await;
    let gaps = scene.script.gaps("a.example");
    assert!(gaps.len() > 10);
    for gap in &gaps {
        assert!((seconds(54)..=seconds(60)).contains(gap), "{gap:?}");
    }
    assert!(gaps.windows(2).any(|two| two[0] != two[1]), "no jitter");
}

#[tokio::test(start_paused = true)]
async fn a_ttl_is_taken_for_no_less_than_a_second_and_no_more_than_five_minutes() {
    let script = Script::of(&[
        ("short.example", &[answer(&[1], 0)]),
        ("long.example", &[answer(&[2], 86_400)]),
    ]);
    let scene = Scene::new(&["short.example", "long.example"], script);
    scene.after(seconds(3000)).await;
    for (name, least, most) in [
        ("short.example", 900, 1000),
        ("long.example", 270_000, 300_000),
    ] {
        let gaps = scene.script.gaps(name);
        assert!(gaps.len() > 8, "{name}");
        let bounds = Duration::from_millis(least)..=Duration::from_millis(most + 1);
        assert!(gaps.iter().all(|gap| bounds.contains(gap)), "{gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_keeps_the_last_addresses_for_as_long_as_is_configured() {
    let answers = [answer(&[1, 2], 10), None];
    let scene = Scene::new(&["a.example"], Script::of(&[("a.example", &answers)]));
    assert_eq!(scene.after(seconds(3600)).await, [1, 2]);
    assert_eq!(scene.after(seconds(1)).await, [0; 0]);
    let gaps = scene.script.gaps("a.example");
    assert!(
        gaps.iter().all(|gap| *gap <= PAUSE_MAX * 2),
        "it is asked for all the time"
    );
    let text = scene.metrics.render().unwrap();
    for line in [
        "postern_dns_lookups_total{cluster=\"dicom\",outcome=\"answered\"} 1\n",
        "postern_dns_lookups_total{cluster=\"dicom\",outcome=\"failed\"} 0\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("outcome=\"none\"} 0\n"), "{text}");
    // And back.
    scene.script.answers.lock().unwrap()[0].1 = [answer(&[3], 10)].into();
    assert_eq!(scene.after(PAUSE_MAX * 2).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn each_name_stands_for_itself() {
    let script = Script::of(&[
        ("a.example", &[answer(&[1], 1), None]),
        ("b.example", &[answer(&[2], 1), answer(&[3], 1)]),
    ]);
    let scene = Scene::new(&["a.example", "b.example"], script);
    assert_eq!(scene.after(seconds(60)).await, [1, 3]);
    let cluster = scene.clusters.iter().next().unwrap();
    assert!(cluster.endpoints().all_asked());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_never_resolved_has_no_address_and_counts_as_asked() {
    let scene = Scene::new(&["a.example"], Script::of(&[("a.example", &[None])]));
    let cluster = scene.clusters.iter().next().unwrap();
    assert!(!cluster.endpoints().all_asked());
    let mut changes = scene.clusters.changes();
    changes.changed().await.unwrap();
    assert!(cluster.endpoints().all_asked());
    assert_eq!(scene.after(seconds(7200)).await, [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn clusters_that_are_replaced_are_followed_and_those_that_are_gone_are_not() {
    let script = Script::of(&[
        ("a.example", &[answer(&[1], 10)]),
        ("b.example", &[answer(&[2], 10)]),
    ]);
    let scene = Scene::new(&["a.example"], script);
    assert_eq!(scene.after(seconds(1)).await, [1]);
    scene
        .clusters
        .replace([cluster(&["b.example", "a.example"])]);
    // What is known of a name stays known.
    assert_eq!(scene.after(Duration::ZERO).await, [1]);
    assert_eq!(scene.after(seconds(1)).await, [2, 1]);
    scene.clusters.replace([cluster(&["b.example"])]);
    assert_eq!(scene.after(seconds(1)).await, [2]);
    let asked = scene.script.gaps("a.example").len();
    scene.after(seconds(100)).await;
    assert_eq!(scene.script.gaps("a.example").len(), asked);
    scene.clusters.replace([]);
    sleep(seconds(1)).await;
    let text = scene.metrics.render().unwrap();
    assert!(!text.contains("cluster=\"dicom\""), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_takes_the_place_of_another_has_addresses_from_the_start() {
    let script = Script::of(&[
        ("a.example", &[answer(&[1], 300)]),
        ("b.example", &[answer(&[2], 300)]),
        ("none.example", &[None]),
    ]);
    let scene = Scene::new(&["a.example"], script);
    assert_eq!(scene.after(seconds(1)).await, [1]);
    let options = scene.resolver.options.load_full();
    let names = ["b.example", "none.example"];
    let next = [cluster(&names)];
    scene.resolver.prepare(&next, &options).await.unwrap();
    scene.clusters.replace(next);
    // Nobody has had a turn to look anything up.
    assert_eq!(scene.after(Duration::ZERO).await, [2]);

    let nowhere = [cluster(&["none.example"])];
    // It was asked for a moment ago, and is of the cluster that is in use.
    sleep(seconds(1)).await;
    scene.resolver.prepare(&nowhere, &options).await.unwrap();
    scene.clusters.replace([cluster(&["a.example"])]);
    sleep(seconds(1)).await;
    let refused = scene.resolver.prepare(&nowhere, &options).await;
    assert_eq!(
        refused.unwrap_err().to_string(),
        "upstream.clusters.dicom.endpoints: none.example is not resolved: there is no such name"
    );
    // What is known already is not asked for again.
    let asked = scene.script.gaps("a.example").len();
    scene
        .resolver
        .prepare(&[cluster(&["a.example"])], &options)
        .await
        .unwrap();
    assert_eq!(scene.script.gaps("a.example").len(), asked);
}
