//! `postern-load`: the local stack and the scenarios that prove what Postern promises.

fn main() {}
