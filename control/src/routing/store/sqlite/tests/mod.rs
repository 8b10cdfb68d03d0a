//! The store, each part from outside, over a file of its own.

mod changes;
mod conditions;
mod files;
mod imports;
mod keeping;
mod lookups;
mod refusals;
mod replay;
mod scene;
mod snapshots;
