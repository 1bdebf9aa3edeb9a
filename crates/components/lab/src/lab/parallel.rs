//! Many things at once, of which each mostly waits for a program.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::runtime::{Builder, Runtime};

use crate::explain::explain;

/// How many things are done at a time.
const AT_ONCE: usize = 16;

/// Does `work` on every item; the results in their order. All of them are tried, whatever fails.
pub(super) fn map<T: Send, R: Send>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let queue: Mutex<VecDeque<(usize, T)>> = Mutex::new(items.into_iter().enumerate().collect());
    let done = Mutex::new(Vec::new());
    let count = queue.lock().unwrap_or_else(PoisonError::into_inner).len();
    std::thread::scope(|scope| {
        for _ in 0..count.min(AT_ONCE) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((n, item)) = next else { return };
                    let result = work(item);
                    done.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((n, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The results if all are good, else one error that names every failure.
pub(super) fn all<R>(results: Vec<anyhow::Result<R>>) -> anyhow::Result<Vec<R>> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(r) => good.push(r),
            Err(e) => bad.push(explain(&e)),
        }
    }
    if bad.is_empty() {
        return Ok(good);
    }
    anyhow::bail!("{}", bad.join("\n"))
}

/// Runs a future to its end. All of them share one runtime, so that a connection outlives the call that made it.
pub(super) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = match RUNTIME.get() {
        Some(runtime) => runtime,
        None => {
            let new = Builder::new_current_thread().enable_all().build()?;
            // Another thread may have been faster; then that one's is taken.
            RUNTIME.get_or_init(|| new)
        }
    };
    runtime.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_order_and_all_failures_are_named() {
        let doubled = map(0..100, |n| n * 2);
        assert_eq!(doubled, (0..100).map(|n| n * 2).collect::<Vec<_>>());
        let mixed = map(0..4, |n| {
            if n % 2 == 0 {
                Ok(n)
            } else {
                Err(anyhow::anyhow!("no {n}"))
            }
        });
        assert_eq!(all(mixed).unwrap_err().to_string(), "no 1\nno 3");
        assert!(map(Vec::<u8>::new(), |n| n).is_empty());
    }
}
