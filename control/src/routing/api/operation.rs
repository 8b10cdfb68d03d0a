//! What can be asked, and what a client must be for it.

use crate::routing::options::Role;

macro_rules! operations {
    ($($name:ident $label:literal $role:ident)+) => {
        /// What can be asked.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(in crate::routing) enum Operation { $($name),+ }

        impl Operation {
            /// All of them.
            pub(in crate::routing) const ALL: [Self; [$($label),+].len()] = [$(Self::$name),+];

            /// The word in metrics and logs.
            pub(in crate::routing) const fn label(self) -> &'static str {
                match self { $(Self::$name => $label),+ }
            }

            /// The role that a client must have.
            pub(super) const fn role(self) -> Role {
                match self { $(Self::$name => Role::$role),+ }
            }
        }
    };
}

operations! {
    Lookup              "lookup"               Read
    Changes             "changes"              Read
    Snapshot            "snapshot"             Read
    Authorize           "authorize"            Authorize
    ListWorkspaces      "list_workspaces"      Write
    GetWorkspace        "get_workspace"        Write
    PutWorkspace        "put_workspace"        Write
    DeleteWorkspace     "delete_workspace"     Write
    ListAccounts        "list_accounts"        Write
    GetAccount          "get_account"          Write
    PutAccount          "put_account"          Write
    DeleteAccount       "delete_account"       Write
    ListLinkResources   "list_link_resources"  Write
    ListConnections     "list_connections"     Write
    GetConnection       "get_connection"       Write
    PutConnection       "put_connection"       Write
    DeleteConnection    "delete_connection"    Write
    ApproveConnection   "approve_connection"   Write
    RejectConnection    "reject_connection"    Write
    OpenApi             "openapi"              Write
}
