//! The configuration is changed again and again while customers work, and none of them notices.
//!
//! Each reload changes several things that can be seen from outside, and each is seen at once: where requests of a
//! connection that is open all the time go, which certificate a client is shown and which one the ingress is, and what
//! `/config` says. In between are files of which a part is no good: nothing of them may be taken up.

mod settings;

use std::time::Duration;

use tokio::time::{Instant, interval};

use super::latency::Latency;
use super::site::Site;
use super::traffic::{Targets, Traffic};
use super::{Proof, Run, Running, Scenario};
use crate::check::{Broken, expect};
use crate::proxy_v2::Header;
use crate::stack::accounts::{HOST_A, LINK_A};
use crate::stack::client::{ClientError, Connection, Protocol};
use crate::stack::ingress::Ingress;
use crate::stack::postern::{Postern, Reloaded};
use settings::{MISTAKES, Mistake, Places, Settings};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "reload",
    promise: "The configuration changes under load without one failed request or cut connection, all of it at once, and one that is not good changes nothing.",
    run: |run| -> Running { Box::pin(prove(run)) },
};

/// How often, and how long: an upload lasts as long.
struct Length {
    reloads: u32,
    /// One of so many is of a file that is no good.
    refused_every: u32,
    time: Duration,
}

const FULL: Length = Length {
    reloads: 100,
    refused_every: 5,
    time: Duration::from_mins(2),
};
const QUICK: Length = Length {
    reloads: 12,
    refused_every: 3,
    time: Duration::from_secs(8),
};

async fn prove(run: Run) -> Result<Proof, Broken> {
    let length = if run.quick { QUICK } else { FULL };
    let site = Site::start(&run.folder).await?;
    let other = site.another_ingress("other").await?;
    let places = Places::new(&site, [&site.ingress, &other].map(Ingress::address))?;
    let mut stage = Stage::new(&site, &places).await?;

    let mut proof = Proof::default();
    let traffic = Traffic::start(Targets {
        upload_time: length.time,
        ..Targets::new(vec![stage.postern.data()], site.tls.clone())
    });
    let mut turns = interval(length.time / length.reloads);
    let mut took = Latency::default();
    let mut mistakes = MISTAKES.iter().cycle();
    let mut settings = Settings::default();
    for number in 1..=length.reloads {
        turns.tick().await;
        let next = Settings::number(number);
        if number % length.refused_every > 0 {
            took.add(stage.takes_up(next).await?);
            settings = next;
        } else if let Some(mistake) = mistakes.next() {
            let outcome = stage.refuses(mistake, next, settings).await;
            proof.row(mistake.claim, outcome);
        }
    }
    proof.row(
        "each of the others is in use at once, all of it",
        Ok(format!("{} of them, each after {took}", took.count())),
    );
    proof.row(
        "the counts are right",
        stage.counts(length.reloads, took.count()).await,
    );
    let tally = traffic.stop().await;
    proof.figure("reloads", length.reloads);
    proof.figure("applied", took.count());
    proof.figure("longest_reload_milliseconds", took.longest_milliseconds());
    tally.tell(&mut proof);
    Ok(proof)
}

/// The process, and a client that looks.
struct Stage<'a> {
    site: &'a Site,
    places: &'a Places,
    postern: Postern,
    /// Open from the beginning to the end.
    kept: Connection,
    base: String,
}

impl<'a> Stage<'a> {
    async fn new(site: &'a Site, places: &'a Places) -> Result<Self, Broken> {
        let postern = site.postern("postern", &site.options(&[])).await?;
        let header = Header::link(LINK_A);
        let kept = site
            .tls
            .connect(postern.data(), &header, HOST_A, Protocol::Http2);
        let mut stage = Self {
            kept: kept.await?,
            base: postern.configuration()?,
            site,
            places,
            postern,
        };
        // From here on every file is made in the same way.
        stage.takes_up(Settings::default()).await?;
        Ok(stage)
    }

    fn configuration(&self, settings: Settings) -> String {
        self.places.configuration(self.site, &self.base, settings)
    }

    /// Reloads, and looks whether all of it is in use. Tells how long the reload took.
    async fn takes_up(&mut self, settings: Settings) -> Result<Duration, Broken> {
        self.postern.configure(&self.configuration(settings))?;
        let began = Instant::now();
        let reloaded = self.postern.reload().await?;
        let took = began.elapsed();
        expect(matches!(reloaded, Reloaded::Applied(_)), || {
            format!("{settings:?}: {reloaded:?}")
        })?;
        self.are_in_use(settings).await?;
        Ok(took)
    }

    /// Reloads a file that has these settings and a mistake, and looks whether those from before are still in use.
    async fn refuses(
        &mut self,
        mistake: &Mistake,
        next: Settings,
        before: Settings,
    ) -> Result<String, Broken> {
        self.postern
            .configure(&mistake.spoil(&self.configuration(next)))?;
        let shown = self.shown().await?;
        let reloaded = self.postern.reload().await?;
        let Reloaded::Refused(why) = reloaded else {
            return Err(Broken::Unexpected(format!("{reloaded:?}")));
        };
        expect(why.contains(mistake.says), || why.clone())?;
        expect(self.shown().await? == shown, || {
            "/config has changed".into()
        })?;
        self.are_in_use(before).await?;
        let metrics = self.postern.metrics().await?;
        let refused = metrics.sum("postern_reload_refused", &[]);
        expect(refused > 0.5, || "the metric does not say so".into())?;
        // As a line: the file has a name of this run.
        let last = why.lines().last().unwrap_or_default();
        Ok(last.rsplit('/').next().unwrap_or_default().to_owned())
    }

    /// What shows from outside, without waiting for anything.
    async fn are_in_use(&mut self, settings: Settings) -> Result<(), Broken> {
        let answer = self.kept.get("/identity").await?.json();
        let port = self.places.ingress(settings).port().to_string();
        expect(answer["port"] == port, || {
            format!(
                "{settings:?}: an open connection goes to port {}",
                answer["port"]
            )
        })?;
        for sign in self.places.signs(settings) {
            let is_shown = sign.is_shown_by(&self.postern, &self.site.tls).await?;
            expect(is_shown, || format!("{settings:?}: {sign:?} does not show"))?;
        }
        let shown = self.shown().await?;
        let missing = settings
            .lines()
            .into_iter()
            .find(|line| !shown.contains(line));
        expect(missing.is_none(), || format!("/config lacks {missing:?}"))
    }

    /// What `/config` shows, but for what it says of reloads.
    async fn shown(&self) -> Result<String, ClientError> {
        let mut admin = Connection::plain(self.postern.admin()).await?;
        let text = admin.get("/config").await?.text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    async fn counts(&self, all: u32, applied: u32) -> Result<String, Broken> {
        let metrics = self.postern.metrics().await?;
        let count = |outcome| metrics.sum("postern_reloads_total", &[("outcome", outcome)]);
        let counted = ["applied", "unchanged", "refused"].map(count);
        // And the one before the traffic.
        let right = [applied + 1, 0, all - applied].map(f64::from);
        let text = format!("applied, unchanged and refused are {counted:?}");
        let is_right = counted
            .iter()
            .zip(right)
            .all(|(one, other)| (one - other).abs() < 0.5);
        expect(is_right, || text.clone())?;
        Ok(text)
    }
}
