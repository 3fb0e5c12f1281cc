//! Two futures of one task, polled in a fixed order: operations started in one poll are submitted together.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// Runs `main` to its end with `side` beside it. `side` is polled first in each round; when it fails, `main` is
/// dropped and the failure returned. Returns `main`'s output and whether `side` had ended well by then; a `side` that
/// had not is dropped.
///
/// # Errors
/// Those of `side`.
pub(super) async fn beside<T, E>(
    side: impl Future<Output = Result<(), E>>,
    main: impl Future<Output = T>,
) -> Result<(T, bool), E> {
    let mut side = pin!(side);
    let mut main = pin!(main);
    let mut side_ended = false;
    poll_fn(move |context| {
        if !side_ended && let Poll::Ready(result) = side.as_mut().poll(context) {
            side_ended = true;
            if let Err(error) = result {
                return Poll::Ready(Err(error));
            }
        }
        main.as_mut().poll(context).map(|output| Ok((output, side_ended)))
    })
    .await
}
