//! The data plane's route file (TOML): accounts with links, for an installation on files that moves to the service.
//!
//! An account that is called `workspace/account` there keeps its name, any other is put into the workspace that the
//! operator names; a link becomes the connection `link-N`. That its cluster exists only the data plane can tell.

use std::num::NonZeroU32;
use std::path::Path;

use postern_api::{CustomerKey, HostName, LinkId, LinkState, ServiceKind};
use postern_chassis::toml_error;
use serde::Deserialize;
use toml::Spanned;

use super::Wanted;
use crate::routing::model::{
    Account, AccountId, ClusterName, Connection, ConnectionName, CustomerManagedKey, Description,
    Hosts, PublicNetworkAccess, RequestMessage, WorkspaceName,
};
use crate::routing::store::{ConnectionEntry, Entry};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    accounts: Vec<RawAccount>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAccount {
    name: Spanned<String>,
    kind: ServiceKind,
    hosts: Spanned<Vec<HostName>>,
    cluster: Spanned<ClusterName>,
    #[serde(default)]
    customer_key: CustomerKey,
    requests_per_second: Option<NonZeroU32>,
    #[serde(default)]
    links: Vec<RawLink>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLink {
    link_id: LinkId,
    state: LinkState,
    requests_per_second: Option<NonZeroU32>,
}

// Limit: half a million links; TOML takes forty times its text while it is read.
const TEXT_BYTES_MAX: usize = 32 << 20;

/// A mistake, and the byte of the text at which it is.
type Mistake = (usize, String);

/// What `text` describes, or `FILE:LINE:COLUMN: message`.
pub(super) fn parse(
    path: &Path,
    text: &str,
    workspace: Option<&WorkspaceName>,
) -> Result<Wanted, String> {
    if text.len() > TEXT_BYTES_MAX {
        let path = path.display();
        return Err(format!(
            "{path}: larger than 32 MiB: import its accounts in several files"
        ));
    }
    let file: RawFile =
        toml::from_str(text).map_err(|error| toml_error::describe(path, text, &error))?;
    let entries = file.accounts.into_iter().map(|raw| entry(raw, workspace));
    let entries: Result<_, Mistake> = entries.collect();
    Ok(Wanted {
        entries: entries.map_err(|(at, message)| toml_error::at(path, text, at, &message))?,
        ..Wanted::default()
    })
}

fn entry(raw: RawAccount, workspace: Option<&WorkspaceName>) -> Result<Entry, Mistake> {
    let account = account_id(&raw.name, workspace)?;
    let at = raw.hosts.span().start;
    let hosts = Hosts::try_from(raw.hosts.into_inner());
    let properties = Account {
        kind: raw.kind,
        hosts: hosts.map_err(|why| (at, why.to_string()))?,
        cluster: raw.cluster.into_inner(),
        public_network_access: PublicNetworkAccess::default(),
        customer_key: CustomerManagedKey {
            key_url: None,
            state: raw.customer_key,
        },
        requests_per_second: raw.requests_per_second,
        connections_max: None,
    };
    let name_at = raw.name.span().start;
    let links = raw.links.into_iter().map(|link| {
        let name = ConnectionName::parse(&format!("link-{}", link.link_id));
        Ok(ConnectionEntry {
            name: name.map_err(|why| (name_at, why.to_string()))?,
            properties: Connection {
                link_id: link.link_id,
                state: link.state,
                description: Description::default(),
                request_message: RequestMessage::default(),
                requests_per_second: link.requests_per_second,
            },
        })
    });
    Ok(Entry {
        account,
        properties,
        connections: links.collect::<Result<_, Mistake>>()?,
    })
}

fn account_id(
    name: &Spanned<String>,
    workspace: Option<&WorkspaceName>,
) -> Result<AccountId, Mistake> {
    let at = name.span().start;
    let text = name.get_ref();
    if text.contains('/') {
        return text
            .parse()
            .map_err(|why| (at, format!("account `{text}`: {why}")));
    }
    let Some(workspace) = workspace else {
        let message = format!("account `{text}` is in no workspace: say --workspace NAME");
        return Err((at, message));
    };
    let name = text
        .parse()
        .map_err(|why| (at, format!("account `{text}`: {why}")))?;
    Ok(AccountId {
        workspace: workspace.clone(),
        name,
    })
}
