//! Which resource: what its path says.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{AccountName, ConnectionName, InvalidText, WorkspaceName};

/// Which account. Its text, `workspace/account`, is how the data plane knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId {
    /// The workspace it is in.
    pub workspace: WorkspaceName,
    /// Its own name.
    pub name: AccountName,
}

/// Which private endpoint connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The account it is of.
    pub account: AccountId,
    /// Its own name.
    pub name: ConnectionName,
}

impl FromStr for AccountId {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        // Without a slash, it is the account's name that is missing.
        let (workspace, name) = text.split_once('/').unwrap_or((text, ""));
        Ok(Self {
            workspace: workspace.parse()?,
            name: name.parse()?,
        })
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workspace, self.name)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.name)
    }
}

impl Serialize for AccountId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AccountId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_named_with_its_workspace() {
        let id: AccountId = "Clinic/Images".parse().unwrap();
        assert_eq!(id.to_string(), "clinic/images");
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"clinic/images\"");
        for text in [
            "clinic",
            "clinic/",
            "/images",
            "clinic/images/",
            "clinic//images",
            "",
        ] {
            assert!(text.parse::<AccountId>().is_err(), "{text:?}");
        }
    }
}
