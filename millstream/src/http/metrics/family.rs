//! A metric with all its labels, and how it becomes text.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt;

/// Names and values of a sample's labels.
pub(super) type Labels = Vec<(&'static str, String)>;

/// A metric: its name, what it says, and its samples.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Family {
    /// As it is read, but for the `_total` of a counter.
    name: &'static str,
    help: &'static str,
    kind: Kind,
    samples: Vec<(Labels, f64)>,
}

/// How a metric goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Up only, as long as the process lives.
    Counter,
    /// Up and down.
    Gauge,
}

impl Family {
    /// A metric that only goes up; its text is `name_total`.
    pub(super) fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Counter, samples: Vec::new() }
    }

    /// A metric that goes up and down.
    pub(super) fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Gauge, samples: Vec::new() }
    }

    /// Adds a sample. A count beyond 2^53 loses its last digits, as it would in Prometheus.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows doubles only")]
    pub(super) fn count(&mut self, labels: impl Into<Labels>, value: u64) {
        self.samples.push((labels.into(), value as f64));
    }

    /// Adds a sample.
    pub(super) fn value(&mut self, labels: impl Into<Labels>, value: f64) {
        self.samples.push((labels.into(), value));
    }

    /// The same with one sample.
    pub(super) fn with(mut self, labels: impl Into<Labels>, value: u64) -> Self {
        self.count(labels, value);
        self
    }

    #[cfg(test)]
    pub(super) fn name(&self) -> &'static str {
        self.name
    }
}

/// A label.
pub(super) fn label(name: &'static str, value: impl fmt::Display) -> (&'static str, String) {
    (name, value.to_string())
}

/// What is written out together.
#[derive(Debug)]
pub(super) struct Families(pub(super) Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Family { name, help, kind, samples } in self.0.iter().filter(|family| !family.samples.is_empty())
        {
            let metric_type = match kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(name, help, None, metric_type)?;
            for (labels, value) in samples {
                // An empty set of labels would be written as `{}`.
                if labels.is_empty() {
                    write(&mut metric, *kind, *value)?;
                } else {
                    write(&mut metric.encode_family(labels)?, *kind, *value)?;
                }
            }
        }
        Ok(())
    }
}

fn write(sample: &mut MetricEncoder<'_>, kind: Kind, value: f64) -> Result<(), fmt::Error> {
    match kind {
        Kind::Counter => sample.encode_counter::<NoLabelSet, _, f64>(&value, None),
        Kind::Gauge => sample.encode_gauge(&value),
    }
}
