//! How both programs declare, keep and print metrics: one table of name, type, labels and help each.
//!
//! Promises that a metric which is not in its program's table does not exist, and that what is printed is the table.

mod process;

use std::fmt::Write as _;

use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// One metric.
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) labels: &'static [&'static str],
    pub(crate) help: &'static str,
}

/// Declares the table of a program: `gauge name[label, …] "help"`.
macro_rules! table {
    ($($kind:ident $name:ident $([$($label:ident),+])? $help:literal)+) => {
        const TABLE: &[crate::metrics::Metric] = &[$(
            crate::metrics::Metric {
                name: stringify!($name),
                kind: stringify!($kind),
                labels: &[$($(stringify!($label)),+)?],
                help: $help,
            }
        ),+];
    };
}
pub(crate) use table;

/// The metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The library refuses one.
    #[error("the metrics cannot be set up")]
    Prometheus(#[from] prometheus::Error),
    /// It is not in the table.
    #[error("the metric {0} is not in the table")]
    NotInTable(&'static str),
}

/// Makes the metrics of a table.
pub(crate) struct Maker {
    registry: Registry,
    table: &'static [Metric],
}

impl Maker {
    pub(crate) fn new(table: &'static [Metric]) -> Self {
        Self {
            registry: Registry::new(),
            table,
        }
    }

    pub(crate) fn gauge(&self, name: &'static str) -> Result<IntGaugeVec, MetricsError> {
        let (options, labels) = self.options(name, "gauge")?;
        self.add(IntGaugeVec::new(options, labels)?)
    }

    pub(crate) fn counter(&self, name: &'static str) -> Result<IntCounterVec, MetricsError> {
        let (options, labels) = self.options(name, "counter")?;
        self.add(IntCounterVec::new(options, labels)?)
    }

    /// A histogram with these upper bounds.
    pub(crate) fn histogram(
        &self,
        name: &'static str,
        bounds: &[f64],
    ) -> Result<HistogramVec, MetricsError> {
        let (options, labels) = self.options(name, "histogram")?;
        let options = HistogramOpts::from(options).buckets(bounds.to_vec());
        self.add(HistogramVec::new(options, labels)?)
    }

    /// All that was made, with what the kernel knows of this process.
    pub(crate) fn finish(self) -> Result<Registered, MetricsError> {
        let process = process::Process::new(&self)?;
        Ok(Registered {
            registry: self.registry,
            process,
        })
    }

    fn add<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, MetricsError> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn options(
        &self,
        name: &'static str,
        kind: &str,
    ) -> Result<(Opts, &'static [&'static str]), MetricsError> {
        let mut table = self.table.iter();
        let metric = table.find(|metric| metric.name == name && metric.kind == kind);
        let metric = metric.ok_or(MetricsError::NotInTable(name))?;
        Ok((Opts::new(metric.name, metric.help), metric.labels))
    }
}

/// What is served.
pub(crate) struct Registered {
    registry: Registry,
    process: process::Process,
}

impl Registered {
    /// All of them in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        self.process.sample();
        let families = self.registry.gather();
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_default()
    }
}

/// A page of Markdown: what stands above the table, the table, and the closed sets of label values.
pub(crate) fn page(introduction: &str, table: &[Metric], values: &[(&str, String)]) -> String {
    let mut page =
        format!("{introduction}\n| name | type | labels | meaning |\n|---|---|---|---|\n");
    // Writing to a `String` cannot fail.
    for metric in table {
        let Metric {
            name,
            kind,
            labels,
            help,
        } = metric;
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {help} |", words(labels));
    }
    page.push_str("\n## Values of the labels\n\n| label | values |\n|---|---|\n");
    for (label, values) in values {
        let _ = writeln!(page, "| {label} | {values} |");
    }
    page
}

/// Words as code, with commas.
pub(crate) fn words(words: &[&str]) -> String {
    let code: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    code.join(", ")
}
