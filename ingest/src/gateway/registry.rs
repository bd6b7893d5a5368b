//! Who is connected: one connection per client identifier.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// The connected clients of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    clients: Mutex<HashMap<Arc<str>, Holder>>,
}

#[derive(Debug)]
struct Holder {
    /// Cancelled by whoever wants the name.
    wanted: CancellationToken,
    /// Cancelled when the name is free.
    gone: CancellationToken,
}

/// The right to be a client. Whoever wants the same name says so through it and waits until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    registry: Arc<Registry>,
    client_id: Arc<str>,
    wanted: CancellationToken,
}

impl Registry {
    /// Becomes the client, after the connection that is has wound up: its messages under way are in the log or are not, and its session says which.
    /// Waits for that as long as it takes.
    pub(crate) async fn claim(self: &Arc<Self>, client_id: &Arc<str>) -> Claim {
        loop {
            let gone = {
                let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(holder) = clients.get(client_id) else {
                    let wanted = CancellationToken::new();
                    let holder = Holder { wanted: wanted.clone(), gone: CancellationToken::new() };
                    clients.insert(Arc::clone(client_id), holder);
                    return Claim { registry: Arc::clone(self), client_id: Arc::clone(client_id), wanted };
                };
                holder.wanted.cancel();
                holder.gone.clone()
            };
            gone.cancelled().await;
        }
    }
}

impl Claim {
    /// Whose it is.
    pub(crate) fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    /// Resolves when a new connection of the same client waits for this one to end.
    pub(crate) async fn wanted(&self) {
        self.wanted.cancelled().await;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut clients = self.registry.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = clients.remove(&self.client_id) {
            holder.gone.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_changes_hands_only_when_its_holder_has_let_go() {
        let registry = Arc::new(Registry::default());
        let name: Arc<str> = "d1".into();
        let first = registry.claim(&name).await;
        let mut second = Box::pin(registry.claim(&name));
        assert!(futures::poll!(&mut second).is_pending());
        first.wanted().await;
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        let second = second.await;
        assert!(futures::poll!(Box::pin(second.wanted())).is_pending());
        let other = registry.claim(&"d2".into()).await;
        assert_eq!(&**other.client_id(), "d2");
    }
}
