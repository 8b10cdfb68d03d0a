//! The data plane.
pub mod outcome;
