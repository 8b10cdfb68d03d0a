//! Who writes to the books, and remembers what was acknowledged.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::check::{Broken, expect};
use crate::stack::operator::{
    Operator, OperatorError, account_path, connection_body, connection_name, connection_path,
};

/// Connections that a writer knows, whether they are there or not.
const LINKS: u32 = 30;

/// The link ids of a writer are so far from those of the next one.
const FIRST_LINK: u32 = 70_000;

// Limit: requests per second of an account: what no client here comes near, and a number of choices above.
const LIMIT: (u32, u32) = (10_000, 1_000);

/// A xorshift generator (Marsaglia, 2003): moments and choices that nobody has foreseen.
pub(super) struct Random(u32);

impl Random {
    pub(super) fn new(seed: u32) -> Self {
        Self(seed.max(1))
    }

    pub(super) fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % bound.max(1)
    }
}

/// A connection, or none.
type State = Option<&'static str>;

/// What can be asked for, and what it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Put(&'static str),
    Approve,
    Reject,
    Delete,
}

impl Step {
    /// What may follow a state (ARM's rules for private endpoint connections).
    fn after(state: State) -> &'static [Self] {
        match state {
            None => &[Self::Put("Pending"), Self::Put("Approved")],
            Some("Pending") => &[Self::Approve, Self::Reject, Self::Delete],
            Some("Approved") => &[Self::Reject, Self::Put("Disconnected"), Self::Delete],
            Some("Rejected") => &[Self::Approve, Self::Put("Disconnected"), Self::Delete],
            Some(_) => &[Self::Delete],
        }
    }

    const fn outcome(self) -> State {
        match self {
            Self::Put(state) => Some(state),
            Self::Approve => Some("Approved"),
            Self::Reject => Some("Rejected"),
            Self::Delete => None,
        }
    }
}

/// What has been asked for without an answer.
enum Asked {
    Link(u32, State),
    Limit(u32),
}

/// One writer, one account.
pub(super) struct Writer {
    operator: Operator,
    account: String,
    host: String,
    random: Random,
    first_link: u32,
    links: BTreeMap<u32, State>,
    limit: u32,
    asked: Option<Asked>,
    acknowledged: u64,
}

impl Writer {
    /// Puts the account there.
    pub(super) async fn create(
        operator: Operator,
        number: u32,
        random: Random,
    ) -> Result<Self, Broken> {
        let first_link = FIRST_LINK + number * LINKS;
        let writer = Self {
            operator,
            account: format!("crash-{number}"),
            host: format!("crash-{number}.dicom.example"),
            random,
            first_link,
            links: (first_link..first_link + LINKS)
                .map(|id| (id, None))
                .collect(),
            limit: LIMIT.0,
            asked: None,
            acknowledged: 0,
        };
        writer.put_account(writer.limit).await?;
        Ok(writer)
    }

    /// How many changes were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The host of its account.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Its link ids, and whether they are approved.
    pub(super) fn links(&self) -> impl Iterator<Item = (u32, bool)> {
        let links = self.links.iter();
        links.map(|(link_id, state)| (*link_id, *state == Some("Approved")))
    }

    async fn put_account(&self, limit: u32) -> Result<(), OperatorError> {
        let body = json!({ "properties": {
            "kind": "dicom",
            "hosts": [self.host],
            "cluster": "dicom",
            "requestsPerSecond": limit,
        }});
        let path = account_path(&self.account);
        self.operator.put(&path, &body).await.map(drop)
    }

    /// Writes one change after the other, until the service is gone.
    pub(super) async fn write(&mut self, stopping: watch::Receiver<bool>) -> Result<(), Broken> {
        loop {
            match self.step().await {
                Ok(()) => self.acknowledged += 1,
                Err(OperatorError::Client { .. }) if *stopping.borrow() => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn step(&mut self) -> Result<(), OperatorError> {
        if self.random.below(10) == 0 {
            let limit = LIMIT.0 + self.random.below(LIMIT.1);
            self.asked = Some(Asked::Limit(limit));
            self.put_account(limit).await?;
            self.limit = limit;
        } else {
            let link_id = self.first_link + self.random.below(LINKS);
            let state = self.links.get(&link_id).copied().flatten();
            let steps = Step::after(state);
            let count = u32::try_from(steps.len()).unwrap_or(1);
            let step = steps[self.random.below(count) as usize];
            self.asked = Some(Asked::Link(link_id, step.outcome()));
            self.take(link_id, step).await?;
            self.links.insert(link_id, step.outcome());
        }
        self.asked = None;
        Ok(())
    }

    async fn take(&self, link_id: u32, step: Step) -> Result<(), OperatorError> {
        let (operator, account) = (&self.operator, &self.account);
        match step {
            Step::Put(state) => {
                let path = connection_path(account, &connection_name(link_id));
                let body = connection_body(link_id, state);
                operator.put(&path, &body).await.map(drop)
            }
            Step::Approve => operator.approve(account, link_id).await,
            Step::Reject => operator.reject(account, link_id).await,
            Step::Delete => operator.remove(account, link_id).await,
        }
    }

    /// Looks whether all that was acknowledged is there. What had no answer may be there, too; then it is from now on.
    pub(super) async fn compare(&mut self) -> Result<(), Broken> {
        let path = account_path(&self.account);
        let account = self.operator.get(&path).await?;
        let path = format!("{path}/privateEndpointConnections");
        let mut found = BTreeMap::new();
        for connection in self.operator.list(&path).await? {
            let (link_id, state) = read(&connection);
            found.insert(link_id, state);
        }
        let limit = &account["properties"]["requestsPerSecond"];
        match self.asked.take() {
            Some(Asked::Limit(asked)) if *limit == asked => self.limit = asked,
            Some(Asked::Link(link_id, asked)) => {
                let state = found.get(&link_id).map(String::as_str);
                if state == asked {
                    self.links.insert(link_id, asked);
                }
            }
            _ => {}
        }
        expect(*limit == self.limit, || {
            format!(
                "{}: {limit} requests a second, not {}",
                self.account, self.limit
            )
        })?;
        for (link_id, state) in &self.links {
            let state = *state;
            let found = found.remove(link_id);
            expect(found.as_deref() == state, || {
                format!(
                    "{}: link {link_id} is {found:?}, not {state:?}",
                    self.account
                )
            })?;
        }
        expect(found.is_empty(), || {
            format!("{}: nobody has made {found:?}", self.account)
        })
    }
}

/// Link id and state of a connection.
fn read(connection: &Value) -> (u32, String) {
    let properties = &connection["properties"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let link_id = text(&properties["linkIdentifier"]).parse();
    let state = text(&properties["privateLinkServiceConnectionState"]["status"]);
    (link_id.unwrap_or_default(), state)
}
