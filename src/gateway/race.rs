//! Two futures of one task, polled in a fixed order: operations started in one poll are submitted together.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Runs `main` to its end with `side` beside it. `side` is polled first in each round; when it fails, `main` is
/// left as it is and the failure returned. Returns `main`'s output and whether `side` had ended well by then. The caller
/// pins both where they are: moved in here, their hundreds of bytes would be copied for each request.
///
/// # Errors
/// Those of `side`.
pub(super) async fn beside<T, E>(
    mut side: Pin<&mut impl Future<Output = Result<(), E>>>,
    mut main: Pin<&mut impl Future<Output = T>>,
) -> Result<(T, bool), E> {
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
