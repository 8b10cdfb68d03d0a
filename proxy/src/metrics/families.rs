//! Metrics with their labels resolved: at start, so that counting an event is one atomic addition.

use std::collections::HashMap;

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::MetricsError;
use super::labels::{Label, words};
use super::table::{Kind, Metric, TABLE};
use crate::outcome::Refusal;

/// Makes the metrics of the table, each once.
pub(super) struct Maker {
    registry: Registry,
}

impl Maker {
    pub(super) fn new() -> Self {
        Self {
            registry: Registry::new(),
        }
    }

    pub(super) fn finish(self) -> Registry {
        self.registry
    }

    pub(super) fn counter(&self, name: &'static str) -> Result<IntCounter, MetricsError> {
        self.add(IntCounter::with_opts(options(name, Kind::Counter)?)?)
    }

    pub(super) fn float_counter(&self, name: &'static str) -> Result<Counter, MetricsError> {
        self.add(Counter::with_opts(options(name, Kind::Counter)?)?)
    }

    pub(super) fn gauge(&self, name: &'static str) -> Result<IntGauge, MetricsError> {
        self.add(IntGauge::with_opts(options(name, Kind::Gauge)?)?)
    }

    pub(super) fn float_gauge(&self, name: &'static str) -> Result<Gauge, MetricsError> {
        self.add(Gauge::with_opts(options(name, Kind::Gauge)?)?)
    }

    pub(super) fn histogram(&self, name: &'static str) -> Result<Histogram, MetricsError> {
        let buckets = BUCKETS.to_vec();
        let options = HistogramOpts::from(options(name, Kind::Histogram)?).buckets(buckets);
        self.add(Histogram::with_opts(options)?)
    }

    pub(super) fn counters(&self, name: &'static str) -> Result<IntCounterVec, MetricsError> {
        let labels = find(name, Kind::Counter)?.labels;
        self.add(IntCounterVec::new(options(name, Kind::Counter)?, labels)?)
    }

    pub(super) fn gauges(&self, name: &'static str) -> Result<IntGaugeVec, MetricsError> {
        let labels = find(name, Kind::Gauge)?.labels;
        self.add(IntGaugeVec::new(options(name, Kind::Gauge)?, labels)?)
    }

    pub(super) fn histograms<L: Label>(
        &self,
        name: &'static str,
    ) -> Result<By<L, Histogram>, MetricsError> {
        let metric = find(name, Kind::Histogram)?;
        let options =
            HistogramOpts::from(options(name, Kind::Histogram)?).buckets(BUCKETS.to_vec());
        let family = self.add(HistogramVec::new(options, metric.labels)?)?;
        By::new(|word| family.get_metric_with_label_values(&[word]))
    }

    pub(super) fn counters_by<L: Label>(
        &self,
        name: &'static str,
    ) -> Result<By<L, IntCounter>, MetricsError> {
        let family = self.counters(name)?;
        By::new(|word| family.get_metric_with_label_values(&[word]))
    }

    pub(super) fn gauges_by<L: Label>(
        &self,
        name: &'static str,
    ) -> Result<By<L, IntGauge>, MetricsError> {
        let family = self.gauges(name)?;
        By::new(|word| family.get_metric_with_label_values(&[word]))
    }

    pub(super) fn counters_by_two<L: Label, M: Label>(
        &self,
        name: &'static str,
    ) -> Result<ByTwo<L, M>, MetricsError> {
        let family = self.counters(name)?;
        let one = |first: &'static str| {
            words::<M>()
                .into_iter()
                .map(move |second| (first, second))
                .map(|(first, second)| family.get_metric_with_label_values(&[first, second]))
                .collect::<Vec<_>>()
        };
        let children: Result<_, _> = words::<L>().into_iter().flat_map(one).collect();
        Ok(ByTwo {
            children: children?,
            sets: std::marker::PhantomData,
        })
    }

    fn add<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, MetricsError> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn find(name: &'static str, kind: Kind) -> Result<&'static Metric, MetricsError> {
    let metric = TABLE
        .iter()
        .find(|metric| metric.name == name && metric.kind == kind);
    metric.ok_or(MetricsError::NotInTable(name))
}

fn options(name: &'static str, kind: Kind) -> Result<Opts, MetricsError> {
    Ok(Opts::new(name, find(name, kind)?.help))
}

/// Seconds. From what a cached answer of the ingress takes to the longest response deadline.
const BUCKETS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// One metric for each value of a label.
pub(super) struct By<L, T> {
    children: Vec<T>,
    set: std::marker::PhantomData<L>,
}

impl<L: Label, T> By<L, T> {
    fn new(child: impl Fn(&'static str) -> prometheus::Result<T>) -> Result<Self, MetricsError> {
        let children: Result<_, _> = words::<L>().into_iter().map(child).collect();
        Ok(Self {
            children: children?,
            set: std::marker::PhantomData,
        })
    }

    pub(super) fn at(&self, value: L) -> &T {
        &self.children[value.index()]
    }
}

/// One counter for each pair of values of two labels.
pub(super) struct ByTwo<L, M> {
    children: Vec<IntCounter>,
    sets: std::marker::PhantomData<(L, M)>,
}

impl<L: Label, M: Label> ByTwo<L, M> {
    pub(super) fn at(&self, one: L, other: M) -> &IntCounter {
        &self.children[one.index() * M::VALUES.len() + other.index()]
    }
}

/// One counter for each value of an enum that is not a plain list of words.
pub(super) struct ByReason<K>(HashMap<K, IntCounter>);

impl<K: std::hash::Hash + Eq> ByReason<K> {
    pub(super) fn new(
        values: impl Iterator<Item = K>,
        child: impl Fn(&K) -> prometheus::Result<IntCounter>,
    ) -> Result<Self, MetricsError> {
        let children = values.map(|value| child(&value).map(|counter| (value, counter)));
        Ok(Self(children.collect::<Result<_, _>>()?))
    }

    pub(super) fn count(&self, value: &K) {
        if let Some(counter) = self.0.get(value) {
            counter.inc();
        }
    }

    pub(super) fn get(&self, value: &K) -> u64 {
        self.0.get(value).map_or(0, IntCounter::get)
    }
}

/// The counters of refusals, each at 0 from the start.
pub(super) fn refusals(family: &IntCounterVec) -> Result<ByReason<Refusal>, MetricsError> {
    ByReason::new(Refusal::all(), |refusal| {
        family.get_metric_with_label_values(&[refusal.label(), refusal.blame().label()])
    })
}
