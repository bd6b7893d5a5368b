//! Carries what belongs to one query through the engine's settings: the one thing that it hands to every function and every rule.

use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::{Result, plan_err};
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// What can be carried: one of its kind at a time.
pub(crate) trait Carried: Debug + Send + Sync + Sized + 'static {
    /// By what the engine tells it from others.
    const NAME: &'static str;

    /// Gives it to whoever works with these settings.
    fn put(self: Arc<Self>, settings: &mut ConfigOptions) {
        settings.extensions.insert(Carrier(self));
    }

    /// The one that these settings carry.
    fn of(settings: &ConfigOptions) -> Option<&Arc<Self>> {
        settings.extensions.get::<Carrier<Self>>().map(|carrier| &carrier.0)
    }
}

/// No setting that anybody could change.
#[derive(Debug)]
struct Carrier<T>(Arc<T>);

impl<T: Carried> ConfigExtension for Carrier<T> {
    const PREFIX: &'static str = T::NAME;
}

impl<T: Carried> ExtensionOptions for Carrier<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(Self(Arc::clone(&self.0)))
    }

    fn set(&mut self, key: &str, _: &str) -> Result<()> {
        plan_err!("{key} is no setting")
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}
