//! Micro-benchmarks and instruction counts of the data plane's hot paths.
