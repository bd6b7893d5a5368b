//! Waiting that is told of: a store that hangs fails only after minutes, and until then somebody may wonder.

use std::time::Duration;
use tokio::time::timeout;

/// Waits for what is worked on, however long it takes, and tells each time that `patience` has passed again for how long already.
pub(crate) async fn patiently<T>(
    patience: Duration,
    work: impl Future<Output = T>,
    mut tell: impl FnMut(Duration),
) -> T {
    let mut work = std::pin::pin!(work);
    let mut waited = Duration::ZERO;
    loop {
        match timeout(patience, work.as_mut()).await {
            Ok(done) => return done,
            Err(_elapsed) => waited += patience,
        }
        tell(waited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_is_told_of_and_waited_for() {
        let mut told = Vec::new();
        let work = tokio::time::sleep(Duration::from_secs(50));
        patiently(Duration::from_secs(20), work, |waited| told.push(waited.as_secs())).await;
        assert_eq!(told, [20, 40]);
    }
}
