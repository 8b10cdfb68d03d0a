//! One link: approved, at work, revoked, and again.

use std::collections::HashSet;

use futures_util::future::try_join_all;
use http::StatusCode;
use tokio::sync::Barrier;
use tokio::time::Instant;
use uuid::Uuid;

use super::open::Open;
use super::{ACCOUNT, GIVE_UP};
use crate::check::{Broken, expect};
use crate::prove::latency::Latency;
use crate::prove::routed::Routed;
use crate::stack::Deadline;
use crate::stack::accounts::HOST_A;
use crate::stack::client::ClientError;

/// How a link is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// `…/reject`.
    Reject,
    /// PUT of another state.
    Put,
    /// DELETE.
    Delete,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Reject, Self::Put, Self::Delete];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Reject => "rejected",
            Self::Put => "disconnected by PUT",
            Self::Delete => "deleted",
        }
    }
}

/// What came of some turns.
#[derive(Default)]
pub(super) struct Turns {
    /// How often the link was revoked.
    pub(super) revocations: u32,
    /// From an approval to the first request that is let through.
    pub(super) granted: Latency,
    /// From a revocation to the first request that is not, for each of [`Way::ALL`].
    pub(super) refused: [Latency; Way::ALL.len()],
    /// From a revocation to the end of what was going on.
    pub(super) gone: Latency,
    /// What was asked for and refused.
    pub(super) refused_paths: HashSet<String>,
}

impl Turns {
    pub(super) fn merge(&mut self, other: Self) {
        self.revocations += other.revocations;
        self.granted.merge(other.granted);
        for (all, own) in self.refused.iter_mut().zip(other.refused) {
            all.merge(own);
        }
        self.gone.merge(other.gone);
        self.refused_paths.extend(other.refused_paths);
    }
}

/// A private endpoint connection.
pub(super) struct Lane<'a> {
    stage: &'a Routed,
    link_id: u32,
}

impl<'a> Lane<'a> {
    pub(super) fn new(stage: &'a Routed, link_id: u32) -> Self {
        Self { stage, link_id }
    }

    /// So many turns; the first is revoked in the way with number `first`.
    pub(super) async fn run(self, turns: usize, first: usize) -> Result<Turns, Broken> {
        let mut all = Turns::default();
        for turn in first..first + turns {
            self.turn(turn % Way::ALL.len(), &mut all).await?;
        }
        Ok(all)
    }

    async fn turn(&self, way: usize, all: &mut Turns) -> Result<(), Broken> {
        let operator = &self.stage.operator;
        operator.put_link(ACCOUNT, self.link_id, "Pending").await?;
        self.is_refused(all).await?;

        operator.approve(ACCOUNT, self.link_id).await?;
        let approved = Instant::now();
        let granted = async || {
            let status = self.status(&path()).await.ok()?;
            (status == StatusCode::OK).then(|| approved.elapsed())
        };
        let granted = Deadline::after(GIVE_UP).poll(granted).await;
        all.granted.add(granted.unwrap_or(GIVE_UP));

        let open = Open::all(self.stage, self.link_id).await?;
        // Each is at work when the link is revoked.
        let at_work = Barrier::new(open.len() + 1);
        let work = try_join_all(open.into_iter().map(|open| open.work(&at_work)));
        let revoke = async {
            at_work.wait().await;
            self.revoke(Way::ALL[way]).await?;
            Ok(Instant::now())
        };
        let (ends, revoked) = tokio::try_join!(work, revoke)?;
        for end in ends {
            let late = |at: Instant| at.saturating_duration_since(revoked);
            all.gone.add(late(end.gone));
            if let Some(refused) = end.refused {
                all.refused[way].add(late(refused));
            }
            all.refused_paths.extend(end.refused_paths);
        }
        all.revocations += 1;
        self.is_refused(all).await?;
        self.forget(Way::ALL[way]).await
    }

    /// A new connection is refused.
    async fn is_refused(&self, all: &mut Turns) -> Result<(), Broken> {
        let path = path();
        let status = self.status(&path).await?;
        expect(status == StatusCode::FORBIDDEN, || {
            format!(
                "a new connection of link {} is answered with {status}",
                self.link_id
            )
        })?;
        all.refused_paths.insert(path);
        Ok(())
    }

    async fn status(&self, path: &str) -> Result<u16, ClientError> {
        let (stage, postern) = (self.stage, &self.stage.posterns[0]);
        stage.status(postern, self.link_id, HOST_A, path).await
    }

    async fn revoke(&self, way: Way) -> Result<(), Broken> {
        let operator = &self.stage.operator;
        match way {
            Way::Reject => operator.reject(ACCOUNT, self.link_id).await?,
            Way::Put => {
                let state = "Disconnected";
                operator.put_link(ACCOUNT, self.link_id, state).await?;
            }
            Way::Delete => operator.remove(ACCOUNT, self.link_id).await?,
        }
        Ok(())
    }

    /// Makes room for a new connection of the same link.
    async fn forget(&self, way: Way) -> Result<(), Broken> {
        if way != Way::Delete {
            self.stage.operator.remove(ACCOUNT, self.link_id).await?;
        }
        Ok(())
    }
}

/// What nobody else asks for.
pub(super) fn path() -> String {
    format!("/nonce/{}", Uuid::new_v4())
}
