use caracal_net::IfAddr;
use tokio::sync::{mpsc, oneshot};

use crate::{
    assign::{Assign, AssignOptions},
    error::{IpamError, ended},
    ipam::Ipam,
};

/// How many requests one round serves at most.
const GROUP: usize = 256;

type Answer = Result<Vec<IfAddr>, IpamError>;

/// Groups requests: those that come while a round is under way are served together by the next one, so that each block
/// is written once for all of them. An answer comes only when the allocation is in the datastore.
#[derive(Debug, Clone)]
pub struct Grouped {
    sender: mpsc::Sender<(Assign, oneshot::Sender<Answer>)>,
}

impl Grouped {
    /// The handle for those who ask, and the task that serves them; it ends when the last handle is gone.
    pub fn new(ipam: Ipam, options: AssignOptions) -> (Self, impl Future<Output = ()> + Send) {
        Self::telling(ipam, options, |_| {})
    }

    /// The same, and `tell` hears how many are served by each round.
    pub fn telling(
        ipam: Ipam,
        options: AssignOptions,
        tell: impl Fn(usize) + Send,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, mut receiver) = mpsc::channel(4 * GROUP);
        let serve = async move {
            let mut waiting: Vec<(Assign, oneshot::Sender<Answer>)> = Vec::new();
            while receiver.recv_many(&mut waiting, GROUP).await > 0 {
                // Nobody waits any more for one whose plugin was killed: it gets nothing.
                waiting.retain(|(_, answer)| !answer.is_closed());
                tell(waiting.len());
                let (wants, answers): (Vec<Assign>, Vec<_>) = waiting.drain(..).unzip();
                let results = ipam.assign_group(&wants, &options).await;
                for ((want, answer), result) in wants.iter().zip(answers).zip(results) {
                    let Err(Ok(lost)) = answer.send(result) else {
                        continue;
                    };
                    for a in lost {
                        let handle = Some(want.owner.handle.as_str());
                        if let Err(e) = ipam.release_address(a.addr, handle, None).await {
                            tracing::warn!(address = %a.addr, error = %e, "an address that nobody waits for was not given back");
                        }
                    }
                }
            }
        };
        (Self { sender }, serve)
    }

    /// Assigns `want.count` addresses, or none, together with whoever waits at the same moment.
    ///
    /// # Errors
    /// [`IpamError`].
    pub async fn assign(&self, want: Assign) -> Answer {
        let (sender, receiver) = oneshot::channel();
        self.sender.send((want, sender)).await.map_err(|_| ended())?;
        receiver.await.map_err(|_| ended())?
    }
}
