//! Who is connected: one connection per client identifier.

use crate::identity::access::{Denial, Identity};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio_util::sync::CancellationToken;

/// The connected clients of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    clients: Mutex<HashMap<Arc<str>, Holder>>,
}

#[derive(Debug)]
struct Holder {
    identity: Arc<Identity>,
    orders: Arc<Orders>,
    /// Cancelled when the name is free.
    gone: CancellationToken,
}

/// What a connection is told by others. Written by them, read by the connection.
#[derive(Debug, Default)]
struct Orders {
    /// Cancelled by whoever wants the name.
    wanted: CancellationToken,
    /// Cancelled when the client may not stay.
    expelled: CancellationToken,
    /// Set before that.
    why: OnceLock<Denial>,
}

/// Why a connection is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// A new connection of the same client waits for it.
    MakeWay,
    /// The client is not let in any more.
    Leave(Denial),
}

/// The right to be a client. Whoever wants the same name says so through it and waits until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    registry: Arc<Registry>,
    client_id: Arc<str>,
    orders: Arc<Orders>,
}

impl Registry {
    /// Becomes the client, after the connection that is has wound up: its messages under way are in the log or are not, and its session says which.
    /// Waits for that as long as it takes. `None`: the name is somebody else's, who is not disturbed.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        client_id: &Arc<str>,
        identity: &Arc<Identity>,
    ) -> Option<Claim> {
        loop {
            let gone = {
                let mut clients = self.clients();
                let Some(holder) = clients.get(client_id) else {
                    let orders = Arc::new(Orders::default());
                    let (identity, gone) = (Arc::clone(identity), CancellationToken::new());
                    clients.insert(
                        Arc::clone(client_id),
                        Holder { identity, orders: Arc::clone(&orders), gone },
                    );
                    return Some(Claim {
                        registry: Arc::clone(self),
                        client_id: Arc::clone(client_id),
                        orders,
                    });
                };
                if !identity.owner().may_have(&holder.identity.owner()) {
                    return None;
                }
                holder.orders.wanted.cancel();
                holder.gone.clone()
            };
            gone.cancelled().await;
        }
    }

    /// Tells those clients to leave for whom there is a reason, and no others.
    pub(crate) fn expel(&self, reason: impl Fn(&Identity) -> Option<Denial>) {
        // The reasons are found without the lock, because each may take a signature's time.
        let holders: Vec<_> = self
            .clients()
            .values()
            .map(|holder| (Arc::clone(&holder.identity), Arc::clone(&holder.orders)))
            .collect();
        for (identity, orders) in holders {
            if let Some(denial) = reason(&identity) {
                // Whoever was told before is going already.
                drop(orders.why.set(denial));
                orders.expelled.cancel();
            }
        }
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Arc<str>, Holder>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Whose it is.
    pub(crate) fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    /// Resolves when the connection is to end. Cancel-safe.
    pub(crate) async fn ordered(&self) -> Order {
        tokio::select! {
            biased;
            () = self.orders.expelled.cancelled() => {
                Order::Leave(self.orders.why.get().cloned().unwrap_or(Denial::Changed))
            }
            () = self.orders.wanted.cancelled() => Order::MakeWay,
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(holder) = self.registry.clients().remove(&self.client_id) {
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
        let (name, anybody): (Arc<str>, _) = ("d1".into(), Arc::new(Identity::anonymous()));
        let first = registry.claim(&name, &anybody).await.unwrap();
        let mut second = Box::pin(registry.claim(&name, &anybody));
        assert!(futures::poll!(&mut second).is_pending());
        assert_eq!(first.ordered().await, Order::MakeWay);
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        let second = second.await.unwrap();
        assert!(futures::poll!(Box::pin(second.ordered())).is_pending());
        let other = registry.claim(&"d2".into(), &anybody).await.unwrap();
        assert_eq!(&**other.client_id(), "d2");
        registry.expel(|_| Some(Denial::Changed));
        assert_eq!(second.ordered().await, Order::Leave(Denial::Changed));
    }
}
