//! What can be asked on the command line. Whatever is malformed ends here, before anything is opened.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use postern_api::{HostName, LinkId, LinkState};

use super::books::Version;
use super::options::WhereArguments;
use crate::routing::model::{AccountId, ConnectionId, Description, InvalidText, WorkspaceName};

/// Exit codes, as `--help` tells them.
pub(super) const EXIT_CODES: &str = "\
Exit codes: 0 done, or the link reaches the host; 1 refused, not there, or a definite \"no\"; 2 the arguments, the \
configuration or the file to import are wrong, and nothing was asked; 3 no answer.";

/// Look at the books of account routing and keep them by hand.
#[derive(Parser, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct RoutesArguments {
    /// Print JSON, for scripts.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) at: WhereArguments,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// List accounts, or their private endpoint connections.
    #[command(after_help = EXIT_CODES)]
    List(List),
    /// Show a workspace, an account with its connections, or a connection.
    #[command(after_help = EXIT_CODES)]
    Show {
        /// WORKSPACE, WORKSPACE/ACCOUNT or WORKSPACE/ACCOUNT/CONNECTION.
        which: Which,
    },
    /// Approve a connection: its link reaches the account's hosts from then on.
    #[command(after_help = EXIT_CODES)]
    Approve(Decide),
    /// Reject a connection: its link reaches nothing of the account, and what is open is ended.
    #[command(after_help = EXIT_CODES)]
    Reject(Decide),
    /// Delete a connection, an account or an empty workspace.
    #[command(after_help = EXIT_CODES)]
    Delete {
        /// WORKSPACE, WORKSPACE/ACCOUNT or WORKSPACE/ACCOUNT/CONNECTION.
        which: Which,
        /// An account also if it has connections, which are deleted with it.
        #[arg(long)]
        recursive: bool,
        #[command(flatten)]
        seen: Seen,
    },
    /// Make the books hold what a file says: an export, or the data plane's route file.
    #[command(after_help = EXIT_CODES)]
    Import(Import),
    /// Print the books as JSON, which `import` reads.
    #[command(after_help = EXIT_CODES)]
    Export {
        /// Only this workspace.
        #[arg(long, value_name = "NAME")]
        workspace: Option<WorkspaceName>,
    },
    /// Ask what the data plane asks: may this link reach this host?
    #[command(after_help = EXIT_CODES)]
    Lookup {
        /// The link id of the private endpoint connection.
        #[arg(value_name = "LINKID")]
        link: LinkId,
        /// The host.
        host: HostName,
    },
    /// Print every option of --config with its default and what it does, as TOML.
    Defaults,
}

#[derive(Args, Debug)]
pub(super) struct List {
    /// Connections in place of accounts.
    #[arg(long)]
    pub(super) connections: bool,
    /// Only connections in this state: pending, approved, rejected or disconnected.
    #[arg(long, value_parser = parse_state)]
    pub(super) state: Option<LinkState>,
    /// Only connections with this link id.
    #[arg(long, value_name = "N")]
    pub(super) link_id: Option<LinkId>,
    /// Only this workspace.
    #[arg(long, value_name = "NAME")]
    pub(super) workspace: Option<WorkspaceName>,
}

#[derive(Args, Debug)]
pub(super) struct Decide {
    /// Which: WORKSPACE/ACCOUNT/CONNECTION.
    #[arg(
        required_unless_present = "link_id",
        conflicts_with = "link_id",
        value_name = "CONNECTION",
        value_parser = parse_connection
    )]
    pub(super) which: Option<ConnectionId>,
    /// The connection with this link id, if there is one only.
    #[arg(long, value_name = "N")]
    pub(super) link_id: Option<LinkId>,
    /// Look for the link id in this workspace only.
    #[arg(long, value_name = "NAME", requires = "link_id")]
    pub(super) workspace: Option<WorkspaceName>,
    /// Why, for people. Without it, what was said before stays.
    #[arg(long, value_name = "TEXT")]
    pub(super) description: Option<Description>,
    #[command(flatten)]
    pub(super) seen: Seen,
}

#[derive(Args, Debug)]
pub(super) struct Seen {
    /// Only if it is still as `show` printed it, with this etag. Otherwise: as it is now.
    #[arg(long, value_name = "ETAG", value_parser = parse_etag)]
    pub(super) etag: Option<Version>,
}

#[derive(Args, Debug)]
pub(super) struct Import {
    /// The file; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(super) from: PathBuf,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Delete accounts that are in a workspace of FILE, and connections that are of an account of FILE, if FILE does not
    /// name them.
    #[arg(long)]
    pub(super) prune: bool,
    /// The workspace of the accounts of a route file.
    #[arg(long, value_name = "NAME")]
    pub(super) workspace: Option<WorkspaceName>,
    /// Create the --file if it is not there.
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) create: bool,
}

/// A workspace, an account or a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Which {
    Workspace(WorkspaceName),
    Account(AccountId),
    Connection(ConnectionId),
}

impl FromStr for Which {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        match text.bytes().filter(|b| *b == b'/').count() {
            0 => text.parse().map(Self::Workspace),
            1 => text.parse().map(Self::Account),
            _ => {
                // What follows the second slash is a connection's name, or refused as one.
                let second = text.match_indices('/').nth(1).map_or(0, |(at, _)| at);
                let (account, name) = (&text[..second], &text[second + 1..]);
                Ok(Self::Connection(ConnectionId {
                    account: account.parse()?,
                    name: name.parse()?,
                }))
            }
        }
    }
}

fn parse_connection(text: &str) -> Result<ConnectionId, String> {
    match text.parse() {
        Ok(Which::Connection(id)) => Ok(id),
        Ok(_) => Err("a connection is WORKSPACE/ACCOUNT/CONNECTION".to_owned()),
        Err(why) => Err(why.to_string()),
    }
}

fn parse_state(text: &str) -> Result<LinkState, String> {
    let states = [
        LinkState::Pending,
        LinkState::Approved,
        LinkState::Rejected,
        LinkState::Disconnected,
    ];
    let found = states
        .into_iter()
        .find(|state| state.label().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "a state is pending, approved, rejected or disconnected".to_owned())
}

/// An entity tag as it is printed, or as JSON and HTTP have it, with its quotes.
fn parse_etag(text: &str) -> Result<Version, String> {
    let inner = text
        .strip_prefix('"')
        .and_then(|it| it.strip_suffix('"'))
        .unwrap_or(text);
    // RFC 9110 section 8.8.3: visible ASCII but the quote.
    if inner.is_empty() || !inner.bytes().all(|b| b.is_ascii_graphic() && b != b'"') {
        return Err("an etag is what `show` prints after `etag`".to_owned());
    }
    Ok(Version(format!("\"{inner}\"")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        RoutesArguments::command().debug_assert();
    }

    #[test]
    fn each_command_tells_its_exit_codes() {
        let mut command = RoutesArguments::command();
        command.build();
        for each in command.get_subcommands_mut() {
            if !["defaults", "help"].contains(&each.get_name()) {
                let help = each.render_long_help().to_string();
                assert!(help.contains("3 no answer"), "{}", each.get_name());
            }
        }
    }

    #[test]
    fn bad_input_names_its_argument() {
        for (arguments, argument) in [
            (&["show", "a"][..], "<WHICH>"),
            (&["show", "clinic/images/"], "<WHICH>"),
            (&["show", "clinic/images/a/b"], "<WHICH>"),
            (&["show", "https://x/y"], "<WHICH>"),
            (&["approve", "clinic/images"], "[CONNECTION]"),
            (&["approve"], "<CONNECTION>"),
            (
                &["approve", "clinic/images/a", "--link-id", "7"],
                "--link-id <N>",
            ),
            (&["approve", "--link-id", "+7"], "--link-id <N>"),
            (
                &["reject", "clinic/images/a", "--description", "a\nb"],
                "--description <TEXT>",
            ),
            (
                &["reject", "clinic/images/a", "--etag", "a\"b"],
                "--etag <ETAG>",
            ),
            (&["list", "--state", "approving"], "--state <STATE>"),
            (&["list", "--workspace", "-"], "--workspace <NAME>"),
            (&["lookup", "4294967296", "a.example"], "<LINKID>"),
            (&["lookup", "7", "*.example"], "<HOST>"),
            (&["lookup", "7", "a.example:443"], "<HOST>"),
            (&["lookup", "7", "a.example."], "<HOST>"),
            (&["import"], "<FILE>"),
        ] {
            let all = ["routes"].iter().chain(arguments);
            let refused = RoutesArguments::try_parse_from(all)
                .unwrap_err()
                .to_string();
            assert!(refused.contains(argument), "{arguments:?}: {refused}");
        }
    }

    #[test]
    fn a_version_may_be_quoted() {
        assert_eq!(parse_etag("1f"), parse_etag("\"1f\""));
    }
}
