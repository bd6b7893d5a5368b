//! A panic of the engine, made an error of the one query that met it.

use crate::error::{QueryError, QueryErrorKind};
use futures::FutureExt;
use std::any::Any;
use std::panic::AssertUnwindSafe;

/// Does a part of a query's work. What was being worked on is given up after a panic: nobody sees it half done.
pub(crate) async fn rescued<T>(work: impl Future<Output = Result<T, QueryError>>) -> Result<T, QueryError> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| Err(engine_failed(panic.as_ref())))
}

fn engine_failed(panic: &(dyn Any + Send)) -> QueryError {
    let said =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let message = format!("the engine failed on it: {}", said.unwrap_or("it did not say why"));
    QueryError::new(QueryErrorKind::Internal, message)
        .hint("this is a fault of the engine; another way to ask may work")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error() {
        let error = rescued::<()>(async { panic!("out of {}", "range") }).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (QueryErrorKind::Internal, "the engine failed on it: out of range")
        );
    }
}
