//! Devices to log: the gateway and the subscribers.

use super::{Pipeline, listen};
use crate::config::Settings;
use crate::config::subscriber::Subscriber;
use crate::descriptors;
use crate::directory::{Directory, Instance};
use anyhow::Context;
use millstream_ingest::clock::SystemClock;
use millstream_ingest::gateway::{self, Counters, Listeners, Observer};
use millstream_ingest::identity::{Access, AccessSettings};
use millstream_ingest::route::{Route, Router};
use millstream_ingest::session::Sessions;
use millstream_ingest::subscriber;
use std::sync::Arc;
use tokio::sync::watch;

impl Pipeline {
    /// Starts the gateway, if it listens at all, and a subscriber for each broker.
    pub(super) async fn start_collect(
        &mut self,
        settings: &Settings,
        directory: &Directory,
        observer: Arc<dyn Observer>,
    ) -> anyhow::Result<()> {
        let router = Arc::new(Router::new(&settings.streams));
        if settings.gateway.listens() {
            self.start_gateway(settings, directory, Arc::clone(&router), Arc::clone(&observer)).await?;
        }
        let several = settings.subscribers.iter().any(Subscriber::is_one_of_several);
        let instance = if several { Some(Arc::new(directory.instance()?)) } else { None };
        for subscriber in &settings.subscribers {
            let (router, observer) = (Arc::clone(&router), Arc::clone(&observer));
            self.start_subscriber(subscriber, directory, instance.clone(), router, observer)?;
        }
        Ok(())
    }

    async fn start_gateway(
        &mut self,
        settings: &Settings,
        directory: &Directory,
        router: Arc<Router>,
        observer: Arc<dyn Observer>,
    ) -> anyhow::Result<()> {
        let gateway = &settings.gateway;
        let mut listeners = Listeners::default();
        if let Some(address) = gateway.listen {
            let listener = listen(address, "MILLSTREAM__GATEWAY__LISTEN").await?;
            self.addresses.gateway = Some(listener.local_addr()?);
            listeners.plain = Some(listener);
        }
        if let Some(tls) = &gateway.tls {
            let listener = listen(tls.listen, "MILLSTREAM__GATEWAY__TLS__LISTEN").await?;
            self.addresses.gateway_tls = Some(listener.local_addr()?);
            listeners.tls = Some(listener);
        }
        let access = Arc::new(open_access(settings, directory)?);
        let counters = Counters::default();
        self.observed.gateway = Some(counters.clone());
        let observer = Arc::new(Counting { observer, counters });
        std::fs::create_dir_all(directory.path())
            .with_context(|| format!("failed to make {}", directory.path().display()))?;
        let sessions = Sessions::open(&directory.sessions()).context("failed to open the sessions")?;
        let (log, mut limits, token) = (self.log()?.shared(), gateway.limits.clone(), self.collect.token());
        limits.connections_max = descriptors::room_for(limits.connections_max);
        self.collect.spawn("gateway", async move {
            let clock = Arc::new(SystemClock);
            gateway::run(limits, listeners, access, log, router, sessions, clock, observer, token)
                .await
                .map_err(Into::into)
        });
        Ok(())
    }

    fn start_subscriber(
        &mut self,
        subscriber: &Subscriber,
        directory: &Directory,
        instance: Option<Arc<Instance>>,
        router: Arc<Router>,
        observer: Arc<dyn Observer>,
    ) -> anyhow::Result<()> {
        let (mut settings, log, token) = (subscriber.settings()?, self.log()?.shared(), self.collect.token());
        let instance = instance.filter(|_| subscriber.is_one_of_several());
        if let Some(instance) = &instance {
            settings.client_id = format!("{}-{}", settings.client_id, instance.id());
        }
        settings.session_mark = Some(directory.session_mark(subscriber.name()));
        let status = watch::Sender::default();
        self.observed.subscribers.insert(subscriber.name().to_owned(), status.subscribe());
        self.collect.spawn(format!("subscriber {}", subscriber.name()), async move {
            let ended =
                subscriber::run(settings, log, router, Arc::new(SystemClock), observer, token, status).await;
            // Nobody else may be this one before.
            drop(instance);
            ended.map_err(Into::into)
        });
        Ok(())
    }
}

/// Tells another observer, and knows where the gateway counts.
#[derive(Debug)]
struct Counting {
    observer: Arc<dyn Observer>,
    counters: Counters,
}

impl Observer for Counting {
    fn first_seen(&self, topic: &str, route: &Route) {
        self.observer.first_seen(topic, route);
    }

    fn counters(&self) -> Counters {
        self.counters.clone()
    }
}

/// Reads who devices are, and says so where nobody could connect.
fn open_access(settings: &Settings, directory: &Directory) -> anyhow::Result<Access> {
    let credentials = directory.credentials(settings);
    let rules = AccessSettings { credentials: Some(credentials.clone()), ..settings.gateway.access.clone() };
    let tls = settings.gateway.tls.as_ref().map(|tls| tls.settings.clone());
    let vouched = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let access = Access::open(rules, tls).context("failed to read who the devices are")?;
    if !settings.gateway.access.anonymous && !vouched && access.devices() == 0 {
        tracing::warn!(
            credentials = %credentials.display(),
            "no device can connect, because none has credentials; `millstream device add NAME` makes them, and they count at once"
        );
    }
    Ok(access)
}
