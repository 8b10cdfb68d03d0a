//! The words in which account routing describes an account and its links.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of service an account is. Decides which cluster it lives on by default, and how errors look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// A DICOM service (`DICOMweb`).
    Dicom,
    /// A FHIR service. Errors are `OperationOutcome` resources.
    Fhir,
}

/// Whether the service can use the key with which the customer encrypts the account's data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CustomerKey {
    /// The key can be used, or the account has none of its own.
    #[default]
    Accessible,
    /// The customer has disabled, deleted or locked the key: no request may be forwarded.
    NotAccessible,
}

/// State of a private endpoint connection, in the words of Azure Resource Manager
/// (`privateLinkServiceConnectionState.status`). Only [`LinkState::Approved`] may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum LinkState {
    /// The owner of the account has not decided yet.
    Pending,
    /// The owner has approved the connection.
    Approved,
    /// The owner has refused the connection.
    Rejected,
    /// The private endpoint was deleted. Its link id may be given to another one later.
    Disconnected,
}

impl ServiceKind {
    /// The word in files, logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Dicom => "dicom",
            Self::Fhir => "fhir",
        }
    }
}

impl LinkState {
    /// The word that Azure Resource Manager uses.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Approved => "Approved",
            Self::Rejected => "Rejected",
            Self::Disconnected => "Disconnected",
        }
    }
}

impl fmt::Display for ServiceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_the_same_in_files_and_logs() {
        for kind in [ServiceKind::Dicom, ServiceKind::Fhir] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        for state in [
            LinkState::Pending,
            LinkState::Approved,
            LinkState::Rejected,
            LinkState::Disconnected,
        ] {
            assert_eq!(
                serde_json::to_string(&state).unwrap(),
                format!("\"{state}\"")
            );
        }
        let key: CustomerKey = serde_json::from_str("\"not_accessible\"").unwrap();
        assert_eq!(key, CustomerKey::NotAccessible);
    }

    #[test]
    fn a_state_in_another_spelling_is_not_a_state() {
        assert!(serde_json::from_str::<LinkState>("\"approved\"").is_err());
    }
}
