//! Who may reach what: one statement, five searches of an index.

use postern_api::routing::{AccountRoute, Answer, Link};
use postern_api::{HostName, LinkId, LinkState};
use rusqlite::{Connection as Database, Row};

use super::StoreError;
use super::rows::{Json, Word};

/// What the link may reach as the host, or what is there for whoever asks; and the newest change there is.
pub(super) fn lookup(
    database: &Database,
    link: Option<LinkId>,
    host: &HostName,
) -> Result<(u64, Answer), StoreError> {
    let mut statement = database.prepare_cached(LOOKUP)?;
    let parameters = (host.as_str(), link.map(LinkId::get));
    Ok(statement.query_row(parameters, |row| {
        Ok((row.get("sequence")?, answer(row, link)?))
    })?)
}

fn answer(row: &Row<'_>, asked: Option<LinkId>) -> rusqlite::Result<Answer> {
    let Some(account) = row.get::<_, Option<String>>("account")? else {
        return Ok(Answer::Unknown);
    };
    let link = match asked {
        None => None,
        Some(link_id) => match row.get::<_, Option<Word<LinkState>>>("state")? {
            None => return Ok(Answer::Unknown),
            Some(Word(LinkState::Approved)) => Some(Link {
                link_id,
                state: LinkState::Approved,
                requests_per_second: row.get("link_rate")?,
            }),
            Some(Word(state)) => return Ok(Answer::NotApproved { state }),
        },
    };
    let account = AccountRoute {
        account,
        kind: row.get::<_, Word<_>>("kind")?.0,
        hosts: row.get::<_, Json<_>>("hosts")?.0,
        cluster: row.get("cluster")?,
        customer_key: row.get::<_, Word<_>>("key_state")?.0,
        requests_per_second: row.get("account_rate")?,
    };
    Ok(Answer::Found { account, link })
}

/// Always one row. With no link, the second parameter is null, which no link id is equal to.
pub(super) const LOOKUP: &str = "
    SELECT head.sequence,
        w.name || '/' || a.name AS account, a.kind, a.hosts, a.cluster, a.key_state,
        a.requests_per_second AS account_rate,
        c.state, c.requests_per_second AS link_rate
    FROM head
    LEFT JOIN hosts h ON h.name = ?1
    LEFT JOIN accounts a ON a.id = h.account
    LEFT JOIN workspaces w ON w.id = a.workspace
    LEFT JOIN connections c ON c.account = a.id AND c.link_id = ?2
    WHERE head.id = 1";
