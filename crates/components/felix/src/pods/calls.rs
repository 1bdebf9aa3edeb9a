//! The plugins' socket: a connection and a task for each call.
//!
//! **Invariant:** what a plugin that has gone away asked for is dropped at once, wherever it is.
//! **Invariant:** connections, what is read of each, and the time for a call to come and for an answer to go are bounded.

use std::{sync::Arc, time::Duration};

use caracal_agent_api::{
    pods::{LARGEST, VERSION, frame},
    v1::{AttachReply, PodAnswer, PodCall, Refused, pod_answer::Answer, pod_call::Ask, refused::Code},
};
use caracal_runtime::Shutdown;
use prost::Message;
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream, unix::WriteHalf},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_stream::StreamExt;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::Service;
use crate::addresses;

/// How many are heard at a time; others wait until one has gone. Half of the files that a process may usually have open.
const AT_ONCE: u32 = 512;

/// How long a call may take to come, and an answer to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long those who are being served are waited for at the end.
const AT_THE_END: Duration = Duration::from_secs(3);

/// The pause when no connection can be taken.
const PAUSE: Duration = Duration::from_millis(100);

/// What most calls fit in.
const BUFFER: usize = 2048;

/// Why the plugin has to do it itself.
#[derive(Debug)]
pub(crate) struct Refusal(Refused);

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Refused {
            code: code.into(),
            message: message.into(),
        })
    }
}

/// What plugins may ask for.
pub(crate) struct Calls {
    pods: Arc<Service>,
    addresses: addresses::Service,
    pub(super) at_once: u32,
}

impl Calls {
    pub(crate) fn new(pods: Arc<Service>, addresses: addresses::Service) -> Self {
        Self {
            pods,
            addresses,
            at_once: AT_ONCE,
        }
    }

    /// Serves until the shutdown, and then those who are being served.
    pub(crate) async fn serve(self, listener: UnixListener, shutdown: &Shutdown) {
        let at_once = self.at_once;
        let (calls, places) = (Arc::new(self), Arc::new(Semaphore::new(at_once as usize)));
        let listen = async {
            loop {
                let place = places.clone().acquire_owned().await;
                let place = place.expect("nobody closes the semaphore");
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let calls = calls.clone();
                        tokio::spawn(async move {
                            if let Err(why) = calls.connection(stream).await {
                                tracing::debug!(why, "a call of a CNI plugin");
                            }
                            drop(place);
                        });
                    }
                    Err(e) => {
                        tracing::warn!(error = %e, "no CNI plugin can be heard");
                        sleep(PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = listen => {}
            () = shutdown.wait() => {}
        }
        drop(listener);
        if timeout(AT_THE_END, places.acquire_many(at_once)).await.is_err() {
            tracing::warn!("ending while CNI plugins are still being served");
        }
    }

    async fn connection(&self, mut stream: UnixStream) -> Result<(), String> {
        let (read, mut write) = stream.split();
        let mut codec = LengthDelimitedCodec::new();
        codec.set_max_frame_length(LARGEST);
        let mut frames = FramedRead::with_capacity(read, codec, BUFFER);
        let first = tokio::select! {
            first = timeout(PATIENCE, frames.next()) => first.map_err(|_| "it does not come")?,
            () = self.pods.shutdown.wait() => return Ok(()),
        };
        let Some(first) = first else {
            return Ok(());
        };
        let call = first.map_err(|e| e.to_string())?;
        let call = PodCall::decode(call).map_err(|e| e.to_string())?;
        tokio::select! {
            served = self.call(call, &mut write) => served,
            // Nothing is to come after the call but the end.
            _ = frames.next() => Err("whoever asked has gone, or says more than one thing".to_owned()),
        }
    }

    async fn call(&self, call: PodCall, to: &mut WriteHalf<'_>) -> Result<(), String> {
        match self.answers(call, to).await {
            Ok(Some(last)) => send(to, last).await,
            Ok(None) => Ok(()),
            Err(Refusal(refused)) => send(to, Answer::Refused(refused)).await,
        }
    }

    /// The last answer; those before it are sent.
    async fn answers(&self, call: PodCall, to: &mut WriteHalf<'_>) -> Result<Option<Answer>, Refusal> {
        if call.version != VERSION {
            let theirs = call.version;
            let why = format!("this agent speaks version {VERSION} of the plugins' calls, not {theirs}");
            return Err(Refusal::new(Code::Version, why));
        }
        match call.ask {
            Some(Ask::Attach(r)) => {
                let attached = self.pods.attach(r).await?;
                let first = AttachReply {
                    addresses: attached.addresses.iter().map(ToString::to_string).collect(),
                    ..AttachReply::default()
                };
                if send(to, Answer::Attach(first)).await.is_err() {
                    return Ok(None);
                }
                Ok(self.pods.told(attached).await.map(Answer::Attach))
            }
            Some(Ask::Detach(r)) => Ok(Some(Answer::Detach(self.pods.detach(r).await))),
            Some(Ask::Assign(r)) => Ok(Some(Answer::Assign(self.addresses.assign(r).await?))),
            Some(Ask::AwaitEndpoint(r)) => {
                let reply = self.pods.await_endpoint(r).await;
                Ok(reply.map(Answer::AwaitEndpoint))
            }
            None => Err(Refusal::new(Code::Wrong, "a call that this agent does not know")),
        }
    }
}

async fn send(to: &mut WriteHalf<'_>, answer: Answer) -> Result<(), String> {
    let answer = PodAnswer { answer: Some(answer) };
    let bytes = frame(&answer).map_err(|e| format!("the answer: {e}"))?;
    match timeout(PATIENCE, to.write_all(&bytes)).await {
        Ok(sent) => sent.map_err(|e| format!("answering: {e}")),
        Err(_) => Err("the answer is not read".to_owned()),
    }
}
