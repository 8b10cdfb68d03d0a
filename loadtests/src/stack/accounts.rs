//! The accounts of the local stack: one for each thing that Postern decides about.

/// The logical name of the ingress: its SNI and its certificate.
pub const INGRESS_NAME: &str = "z1-weu-aks.internal.example";

/// The name in the certificate for clients, which covers every host below.
pub const CERTIFICATE_NAME: &str = "*.dicom.example";

/// The first host of hospital A.
pub const HOST_A: &str = "hospital-a.dicom.example";
/// The second host of hospital A, for which the same links are approved.
pub const HOST_A_ARCHIVE: &str = "archive-a.dicom.example";
/// Another account's host.
pub const HOST_B: &str = "hospital-b.dicom.example";
/// A host whose account's customer-managed key is not accessible.
pub const HOST_KEY: &str = "hospital-k.dicom.example";
/// A host whose account may send one request a second.
pub const HOST_LIMITED: &str = "hospital-l.dicom.example";
/// A name that the certificate covers and no account has.
pub const HOST_NOBODY: &str = "nobody.dicom.example";
/// A name that no certificate covers.
pub const HOST_UNCOVERED: &str = "hospital-a.elsewhere.example";

/// Approved for [`HOST_A`] and [`HOST_A_ARCHIVE`]; its TLV is the known Azure vector `01 c1 45 00 21`.
pub const LINK_A: u32 = 0x2100_45c1;
/// Pending for hospital A.
pub const LINK_PENDING: u32 = 1002;
/// Rejected for hospital A.
pub const LINK_REJECTED: u32 = 1003;
/// Disconnected from hospital A.
pub const LINK_DISCONNECTED: u32 = 1004;
/// Approved for [`HOST_B`].
pub const LINK_B: u32 = 2001;
/// Approved for [`HOST_KEY`].
pub const LINK_KEY: u32 = 3001;
/// Approved for [`HOST_LIMITED`].
pub const LINK_LIMITED: u32 = 4001;
/// In no account.
pub const LINK_UNKNOWN: u32 = 9999;

/// One account: of the route file, and of the account-routing service.
#[derive(Debug)]
pub struct Account {
    /// Its name.
    pub name: &'static str,
    /// Its hosts.
    pub hosts: &'static [&'static str],
    /// Whether its customer-managed key can be used.
    pub key_is_accessible: bool,
    /// How many requests its links may send.
    pub requests_per_second: Option<u32>,
    /// Link ids and their states.
    pub links: &'static [(u32, &'static str)],
}

/// All of them.
pub const ACCOUNTS: [Account; 4] = [
    Account {
        name: "hospital-a",
        hosts: &[HOST_A, HOST_A_ARCHIVE],
        key_is_accessible: true,
        requests_per_second: None,
        links: &[
            (LINK_A, "Approved"),
            (LINK_PENDING, "Pending"),
            (LINK_REJECTED, "Rejected"),
            (LINK_DISCONNECTED, "Disconnected"),
        ],
    },
    Account {
        name: "hospital-b",
        hosts: &[HOST_B],
        key_is_accessible: true,
        requests_per_second: None,
        links: &[(LINK_B, "Approved")],
    },
    Account {
        name: "hospital-k",
        hosts: &[HOST_KEY],
        key_is_accessible: false,
        requests_per_second: None,
        links: &[(LINK_KEY, "Approved")],
    },
    Account {
        name: "hospital-l",
        hosts: &[HOST_LIMITED],
        key_is_accessible: true,
        requests_per_second: Some(1),
        links: &[(LINK_LIMITED, "Approved")],
    },
];

/// The accounts as a route file (TOML).
pub fn routes() -> String {
    ACCOUNTS.iter().map(Account::toml).collect()
}

impl Account {
    fn toml(&self) -> String {
        let Self {
            name, hosts, links, ..
        } = self;
        let key = if self.key_is_accessible {
            ""
        } else {
            "customer_key = \"not_accessible\"\n"
        };
        let limit = self.requests_per_second;
        let limit = limit.map(|limit| format!("requests_per_second = {limit}\n"));
        let limit = limit.unwrap_or_default();
        // `Debug` of a slice of plain ASCII texts is a TOML array.
        let account = format!(
            "[[accounts]]\nname = \"{name}\"\nkind = \"dicom\"\nhosts = {hosts:?}\n\
             cluster = \"dicom\"\n{key}{limit}"
        );
        links.iter().fold(account, |text, (link_id, state)| {
            text + &format!("[[accounts.links]]\nlink_id = {link_id}\nstate = \"{state}\"\n")
        })
    }
}
