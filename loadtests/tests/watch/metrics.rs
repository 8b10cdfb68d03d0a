//! Which metrics, labels and values exist: the pages that the programs print.

use std::collections::{BTreeMap, BTreeSet};

use crate::{read, repository};

/// Everything that can be asked for.
pub struct Tables {
    metrics: BTreeMap<String, Metric>,
}

/// One metric.
#[derive(Debug, Clone, Default)]
pub struct Metric {
    /// Its labels, those that the scraper adds included.
    pub labels: BTreeSet<String>,
    /// The values of those labels whose values are a closed set.
    pub values: BTreeMap<String, BTreeSet<String>>,
}

impl Tables {
    /// Of all programs.
    pub fn read() -> Self {
        let mut metrics = BTreeMap::new();
        metrics.insert("up".to_owned(), Metric::of([].into_iter()));
        for page in ["METRICS.md", "METRICS-control.md", "METRICS-routing.md"] {
            let text = read(&repository("deploy").join(page));
            let (table, values) = text.split_once("## Values of the labels").unwrap();
            let values: Vec<_> = rows(values).filter(|row| row.len() == 2).collect();
            for row in rows(table).filter(|row| row.len() == 4) {
                let name = words(row[0]).next().unwrap();
                let mut metric = Metric::of(words(row[2]));
                for label in words(row[2]) {
                    metric.close(name, label, &values);
                }
                if row[1] == "histogram" {
                    for part in ["_bucket", "_sum", "_count"] {
                        let mut metric = metric.clone();
                        if part == "_bucket" {
                            metric.labels.insert("le".to_owned());
                        }
                        metrics.insert(format!("{name}{part}"), metric);
                    }
                } else {
                    metrics.insert(name.to_owned(), metric);
                }
            }
        }
        assert!(metrics.len() > 100, "{:?}", metrics.keys());
        Self { metrics }
    }

    /// By its name.
    pub fn get(&self, name: &str) -> Option<&Metric> {
        self.metrics.get(name)
    }

    /// Whether any name begins so.
    pub fn begins(&self, with: &str) -> bool {
        self.metrics.keys().any(|name| name.starts_with(with))
    }

    /// What a rule records.
    pub fn record(&mut self, name: &str, labels: BTreeSet<String>) {
        let values = BTreeMap::new();
        let before = self
            .metrics
            .insert(name.to_owned(), Metric { labels, values });
        assert!(before.is_none(), "{name} is there already");
    }
}

impl Metric {
    fn of<'a>(labels: impl Iterator<Item = &'a str>) -> Self {
        Self {
            labels: labels
                .chain(OF_THE_SCRAPER)
                .map(ToOwned::to_owned)
                .collect(),
            values: BTreeMap::new(),
        }
    }

    /// Takes the values of a label from the rows about it: best the row that names the metric.
    fn close(&mut self, name: &str, label: &str, rows: &[Vec<&str>]) {
        let about = |row: &&Vec<&str>, wanted: &dyn Fn(Option<&str>) -> bool| {
            let (labels, of) = match row[0].split_once(" of ") {
                Some((labels, of)) => (labels, Some(of)),
                None => (row[0], None),
            };
            words(labels).any(|word| word == label) && wanted(of)
        };
        let refusals = ["postern_refusals_total", "postern_would_refuse_total"].contains(&name);
        let own = rows.iter().find(|row| {
            about(row, &|of| {
                of.is_some_and(|of| {
                    words(of).any(|word| word == name) || (of == "refusals" && refusals)
                })
            })
        });
        let row = own.or_else(|| rows.iter().find(|row| about(row, &|of| of.is_none())));
        if let Some(row) = row {
            let values = words(row[1]).map(ToOwned::to_owned).collect();
            self.values.insert(label.to_owned(), values);
        }
    }
}

/// The cells of the rows of Markdown tables.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells = line.trim_matches(['|', ' ']).split(" | ");
            cells.map(str::trim).collect()
        })
}

/// What stands between backticks.
fn words(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// `deploy/watch/scrape.yaml` sets them.
const OF_THE_SCRAPER: [&str; 3] = ["instance", "job", "region"];
