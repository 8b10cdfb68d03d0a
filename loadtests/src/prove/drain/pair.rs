//! Two Posterns behind a load balancer, and those that they replaced.

use std::time::Duration;

use http::Method;
use rustix::process::Signal;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::check::{Broken, expect};
use crate::prove::latency::Latency;
use crate::prove::site::Site;
use crate::stack::child::READY_TIMEOUT;
use crate::stack::client::{ClientError, Connection, empty};
use crate::stack::load_balancer::{LoadBalancer, Server};
use crate::stack::postern::Postern;
use crate::stack::{Deadline, accepts};

// Several times what the load balancer needs to notice.
const NOTICE: &str = "2s";

/// How an instance is told to drain.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// SIGTERM.
    BySignal,
    /// `POST /drain`, and SIGTERM when it does not accept any more.
    ByPost,
}

pub(super) struct Pair<'a> {
    site: &'a Site,
    balancer: LoadBalancer,
    instances: Vec<Postern>,
    leaving: JoinSet<Result<Duration, Broken>>,
    deadline: Duration,
    started: u32,
    /// Connections that were open in instances when they had been replaced.
    pub(super) left_behind: u64,
}

impl<'a> Pair<'a> {
    /// Starts both, which cut what is left of a drain after `deadline`, and waits until the load balancer uses both.
    pub(super) async fn start(site: &'a Site, deadline: Duration) -> Result<Self, Broken> {
        let mut instances = Vec::new();
        for number in 1..=2 {
            let (name, options) = (format!("postern-{number}"), options(site, deadline));
            instances.push(site.postern(&name, &options).await?);
        }
        let servers: Vec<_> = instances.iter().map(Server::from).collect();
        let balancer = LoadBalancer::start(&site.place("balancer"), &servers).await?;
        Ok(Self {
            site,
            balancer,
            instances,
            leaving: JoinSet::new(),
            deadline,
            started: 2,
            left_behind: 0,
        })
    }

    pub(super) fn address(&self) -> std::net::SocketAddr {
        self.balancer.address()
    }

    /// Drains one of them, puts another one in its place, and leaves the old one to its end.
    pub(super) async fn drain(&mut self, number: usize, asked: Asked) -> Result<(), Broken> {
        let began = Instant::now();
        let old = &self.instances[number];
        match asked {
            Asked::BySignal => old.signal(Signal::TERM)?,
            Asked::ByPost => drop(drain(old, Method::POST).await?),
        }
        self.balancer.is_down(number).await?;
        let state = drain(old, Method::GET).await?;
        expect(state["phase"] == "noticing", || {
            format!("the load balancer noticed too late: {state}")
        })?;
        old.said("drain: not accepting").await?;
        if let Asked::ByPost = asked {
            old.signal(Signal::TERM)?;
        }
        let address = old.data();
        let closed = async || (!accepts(address).await).then_some(());
        let closed = Deadline::after(READY_TIMEOUT).poll(closed).await;
        expect(closed.is_some(), || format!("{address} still accepts"))?;

        let mut options = options(self.site, self.deadline);
        options.listen = Some(address);
        self.started += 1;
        let name = format!("postern-{}", self.started);
        let new = self.site.postern(&name, &options).await?;
        self.balancer.probe_at(number, new.probe()).await?;
        self.balancer.is_up(number).await?;
        // It may have ended by now.
        let state = drain(old, Method::GET).await.unwrap_or_default();
        self.left_behind += state["connections"].as_u64().unwrap_or_default();
        let old = std::mem::replace(&mut self.instances[number], new);
        self.leaving.spawn_local(leave(old, began, self.deadline));
        Ok(())
    }

    /// Waits for the end of all that were drained. Gives the number of connections that an instance refused, and how
    /// long the drains took.
    pub(super) async fn end(mut self) -> (u64, Result<Latency, Broken>) {
        let mut refused = 0;
        for number in 0..self.instances.len() {
            refused += self.balancer.connections(number).await.failed;
        }
        let mut latency = Latency::default();
        while let Some(left) = self.leaving.join_next().await {
            match left {
                Ok(Ok(took)) => latency.add(took),
                Ok(Err(error)) => return (refused, Err(error)),
                Err(error) => return (refused, Err(Broken::Unexpected(error.to_string()))),
            }
        }
        (refused, Ok(latency))
    }
}

fn options(site: &Site, deadline: Duration) -> crate::stack::postern::PosternOptions {
    let deadline = format!("{}s", deadline.as_secs());
    site.options(&[
        ("POSTERN_DRAIN__NOTICE", NOTICE),
        ("POSTERN_DRAIN__TIMEOUT", &deadline),
    ])
}

/// Asks for a drain (POST), or how far it is (GET).
pub(super) async fn drain(postern: &Postern, method: Method) -> Result<Value, ClientError> {
    let mut operator = Connection::plain(postern.admin()).await?;
    let request = operator.request(method, "/drain")?.body(empty())?;
    Ok(operator.fetch(request).await?.json())
}

/// Waits for the end of an instance, which is to come before `deadline`. Tells how long it took.
async fn leave(mut old: Postern, began: Instant, deadline: Duration) -> Result<Duration, Broken> {
    let status = old.ended(deadline + READY_TIMEOUT).await?;
    let took = began.elapsed();
    expect(status.code() == Some(0), || {
        format!("it ended with {status}")
    })?;
    old.said("drain: done").await?;
    Ok(took)
}
