//! Metrics as a scraper reads them: the Prometheus text format, as far as Postern uses it.

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Vec<Sample>);

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Reads the text format; lines that are no samples are left out.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Self(samples.filter_map(Sample::parse).collect())
    }

    /// The sum over all samples of `name` that have these labels, and maybe others; 0 if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matching = self
            .0
            .iter()
            .filter(|sample| sample.name == name && sample.has(labels));
        matching.map(|sample| sample.value).sum()
    }
}

impl Sample {
    /// `name{label="value",…} number`. Postern's label values are words, without quotes or commas.
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let value = value.parse().ok()?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(',').filter_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            Some((key.to_owned(), value.trim_matches('"').to_owned()))
        });
        Some(Self {
            name: name.to_owned(),
            labels: labels.collect(),
            value,
        })
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(key, value)| self.labels.iter().any(|(k, v)| k == key && v == value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_the_labels_that_are_not_asked_for() {
        let text = "# HELP x y\nx{a=\"1\",b=\"2\"} 3\nx{a=\"1\",b=\"3\"} 4\nx{a=\"2\"} 8\nz 1e3\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("x", &[("a", "1")]).to_bits(), 7.0_f64.to_bits());
        assert_eq!(metrics.sum("z", &[]).to_bits(), 1000.0_f64.to_bits());
    }
}
