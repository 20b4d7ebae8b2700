//! Queues that are bounded in bytes as in number: a large message waits until its queue is empty, so that a queue holds
//! one of them at most.

use tokio::sync::mpsc::{
    Sender,
    error::{SendError, TrySendError},
};

/// A message beyond this is large.
const LARGE_BYTES: usize = 65_536;

/// How many places of its queue a message of so many bytes needs at the moment in which it is queued.
fn places<T>(queue: &Sender<T>, bytes: usize) -> usize {
    if bytes > LARGE_BYTES { queue.max_capacity() } else { 1 }
}

/// Queues `item`, which holds so many bytes, as soon as there is room. Dropping the future before it is done queues
/// nothing.
///
/// # Errors
/// Nobody reads the queue any more.
pub async fn offer<T>(queue: &Sender<T>, bytes: usize, item: T) -> Result<(), SendError<T>> {
    match queue.reserve_many(places(queue, bytes)).await.ok().and_then(|mut places| places.next()) {
        Some(place) => {
            place.send(item);
            Ok(())
        }
        None => Err(SendError(item)),
    }
}

/// Queues `item`, which holds so many bytes, if there is room now.
///
/// # Errors
/// There is none, or nobody reads the queue any more.
pub fn try_offer<T>(queue: &Sender<T>, bytes: usize, item: T) -> Result<(), TrySendError<T>> {
    let place = match queue.try_reserve_many(places(queue, bytes)) {
        Ok(mut places) => places.next(),
        Err(TrySendError::Closed(())) => None,
        Err(TrySendError::Full(())) => return Err(TrySendError::Full(item)),
    };
    let Some(place) = place else { return Err(TrySendError::Closed(item)) };
    place.send(item);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{sync::mpsc, time::timeout};

    use super::*;

    #[tokio::test]
    async fn a_queue_holds_one_large_message_and_as_many_small_ones_as_it_has_places() {
        let (to, mut from) = mpsc::channel(4);
        let large = LARGE_BYTES + 1;
        try_offer(&to, LARGE_BYTES, 1).unwrap();
        assert!(matches!(try_offer(&to, large, 2), Err(TrySendError::Full(2))), "behind another one");
        from.recv().await.unwrap();
        try_offer(&to, large, 3).unwrap();
        for small in 4..7 {
            try_offer(&to, LARGE_BYTES, small).unwrap();
        }
        assert!(matches!(try_offer(&to, 0, 7), Err(TrySendError::Full(7))));
        // Until all is read, and not longer.
        for read in 3..6 {
            assert_eq!(from.recv().await, Some(read));
            assert!(timeout(Duration::ZERO, offer(&to, large, 8)).await.is_err(), "{read}");
        }
        assert_eq!(from.recv().await, Some(6));
        offer(&to, large, 9).await.unwrap();
        assert_eq!(from.recv().await, Some(9), "what was given up was not queued");
    }

    #[tokio::test]
    async fn a_queue_that_nobody_reads_any_more_gives_the_message_back() {
        let (to, from) = mpsc::channel(2);
        drop(from);
        for bytes in [0, LARGE_BYTES + 1] {
            assert!(matches!(try_offer(&to, bytes, 1), Err(TrySendError::Closed(1))));
            assert!(matches!(offer(&to, bytes, 2).await, Err(SendError(2))));
        }
    }
}
