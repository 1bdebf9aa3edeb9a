//! Serving together those who wait at the same moment.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

/// How many are served at once at most.
const AT_ONCE: usize = 256;

/// Of so many that are on their way one is not served alone.
const CROWD: usize = 16;

/// How long after the last one another is waited for then, and how long at most.
const GATHER: (Duration, Duration) = (Duration::from_millis(8), Duration::from_millis(24));

/// The way to the one who serves: requests that come while a round is under way are served together by the next one.
#[derive(Debug)]
pub(super) struct Together<T, A> {
    sender: mpsc::Sender<(T, oneshot::Sender<A>)>,
}

impl<T: Send, A: Send> Together<T, A> {
    /// The handle for those who ask, and the task that serves them. `serve` answers to each, in order.
    pub(super) fn new<F>(serve: F) -> (Self, impl Future<Output = ()>)
    where
        F: AsyncFn(Vec<T>) -> Vec<A>,
    {
        Self::with(serve, false, || 0)
    }

    /// The same; one who has gone before its turn gets nothing. `here` says how many are on their way, those who ask among
    /// them: of a crowd the next ones are waited for a moment, for they cost less together and have to wait for each other
    /// anyway.
    pub(super) fn of_those_who_wait<F>(serve: F, here: impl Fn() -> usize) -> (Self, impl Future<Output = ()>)
    where
        F: AsyncFn(Vec<T>) -> Vec<A>,
    {
        Self::with(serve, true, here)
    }

    fn with<F>(serve: F, only_who_waits: bool, here: impl Fn() -> usize) -> (Self, impl Future<Output = ()>)
    where
        F: AsyncFn(Vec<T>) -> Vec<A>,
    {
        let (sender, mut receiver) = mpsc::channel(4 * AT_ONCE);
        let task = async move {
            let mut waiting: Vec<(T, oneshot::Sender<A>)> = Vec::new();
            while receiver.recv_many(&mut waiting, AT_ONCE).await > 0 {
                let latest = Instant::now() + GATHER.1;
                while here() >= CROWD.max(2 * waiting.len()) && Instant::now() < latest {
                    let more = receiver.recv_many(&mut waiting, AT_ONCE);
                    if !matches!(timeout(GATHER.0, more).await, Ok(1..)) {
                        break;
                    }
                }
                waiting.retain(|(_, who)| !(only_who_waits && who.is_closed()));
                if waiting.is_empty() {
                    continue;
                }
                let (wishes, who): (Vec<T>, Vec<_>) = waiting.drain(..).unzip();
                for (who, answer) in who.into_iter().zip(serve(wishes).await) {
                    // One who has gone meanwhile asks again or finds it done.
                    let _ = who.send(answer);
                }
            }
        };
        (Self { sender }, task)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When the agent is ending.
    pub(super) async fn ask(&self, wish: T) -> Result<A, String> {
        let ending = || "the agent is ending".to_owned();
        let (sender, answer) = oneshot::channel();
        self.sender.send((wish, sender)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_are_served_together_and_each_gets_its_own_answer() {
        let rounds = Arc::new(Mutex::new(Vec::new()));
        let seen = rounds.clone();
        let (together, serve) = Together::new(async move |wishes: Vec<u32>| {
            seen.lock().unwrap().push(wishes.len());
            // Others come meanwhile.
            tokio::task::yield_now().await;
            wishes.into_iter().map(|w| w * 2).collect()
        });
        let server = tokio::spawn(serve);
        let together = Arc::new(together);
        let mut asking = JoinSet::new();
        for i in 0..50 {
            let together = together.clone();
            asking.spawn(async move { (i, together.ask(i).await) });
        }
        let answers = asking.join_all().await;
        assert_eq!(answers.len(), 50);
        for (i, twice) in answers {
            assert_eq!(twice, Ok(i * 2));
        }
        assert!(rounds.lock().unwrap().len() < 50, "{rounds:?}");
        drop(together);
        server.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_crowd_the_next_ones_are_waited_for_and_of_a_few_not() {
        for (here, rounds) in [(CROWD - 1, vec![1, 1, 1]), (CROWD, vec![2, 1])] {
            let seen = Arc::new(Mutex::new(Vec::new()));
            let own = seen.clone();
            let serve = async move |wishes: Vec<u32>| {
                own.lock().unwrap().push(wishes.len());
                wishes
            };
            let (together, serve) = Together::of_those_who_wait(serve, move || here);
            let server = tokio::spawn(serve);
            let ask = async |i, after| {
                tokio::time::sleep(after).await;
                together.ask(i).await
            };
            let begun = Instant::now();
            let answers = tokio::join!(ask(1, Duration::ZERO), ask(2, GATHER.0 / 2), ask(3, GATHER.0 * 3));
            assert_eq!(answers, (Ok(1), Ok(2), Ok(3)));
            assert_eq!(*seen.lock().unwrap(), rounds);
            assert!(begun.elapsed() <= GATHER.0 * 3 + GATHER.1);
            drop(together);
            server.await.unwrap();
        }
    }

    #[tokio::test]
    async fn without_a_server_the_answer_is_that_it_ends() {
        let (together, serve) = Together::<u32, u32>::new(async |w: Vec<u32>| w);
        drop(serve);
        assert!(together.ask(1).await.unwrap_err().contains("ending"));
    }
}
