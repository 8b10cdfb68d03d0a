//! Which state may follow which.
//!
//! "Manage Azure private endpoints" gives the owner of the resource three actions on every connection, at any time and
//! without the consumer: approve (the consumer sees Approved), reject (Rejected) and remove (Disconnected, in which the
//! private endpoint only tells what was, and is to be deleted). So nothing becomes Pending again, and nothing follows
//! Disconnected: what comes after is a new private endpoint, which asks anew. Some services allow less (Azure SQL decides
//! Pending connections alone: `PrivateEndpointConnectionStatusNotPending`), none more.

use postern_api::LinkState;

/// What it means to put a connection into a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// It is in this state already.
    Same,
    /// It may follow.
    Allowed,
    /// It cannot follow.
    Refused,
}

/// What it means to put a connection that is in the state `from` into the state `to`.
pub const fn transition(from: LinkState, to: LinkState) -> Transition {
    use LinkState::{Approved, Disconnected, Pending, Rejected};
    match (from, to) {
        (Pending, Pending)
        | (Approved, Approved)
        | (Rejected, Rejected)
        | (Disconnected, Disconnected) => Transition::Same,
        (Pending, Approved | Rejected | Disconnected)
        | (Approved, Rejected | Disconnected)
        | (Rejected, Approved | Disconnected) => Transition::Allowed,
        (_, Pending) | (Disconnected, Approved | Rejected) => Transition::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_of_states_is_decided() {
        use LinkState::{Approved, Disconnected, Pending, Rejected};
        use Transition::{Allowed, Refused, Same};
        let states = [Pending, Approved, Rejected, Disconnected];
        let table = [
            // to: Pending, Approved, Rejected, Disconnected
            [Same, Allowed, Allowed, Allowed],
            [Refused, Same, Allowed, Allowed],
            [Refused, Allowed, Same, Allowed],
            [Refused, Refused, Refused, Same],
        ];
        for (from, row) in states.into_iter().zip(table) {
            for (to, expected) in states.into_iter().zip(row) {
                assert_eq!(transition(from, to), expected, "{from} to {to}");
            }
        }
    }
}
