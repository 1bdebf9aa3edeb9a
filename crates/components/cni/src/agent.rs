//! The agent's socket.

mod call;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use caracal_agent_api::{
    DEFAULT_SOCKET, SOCKET_ENV, pods,
    v1::{
        AssignRequest, AttachReply, AttachRequest, AwaitEndpointReply, AwaitEndpointRequest, DetachReply,
        DetachRequest, pod_answer::Answer, pod_call::Ask,
    },
};
use caracal_ipam::Assign;
use caracal_net::{Family, IfAddr, PerFamily};

pub(crate) use call::Unanswered;

use crate::env::Env;

/// How long the agent may take for an address; then the datastore is asked without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the agent may take for the end of a container. It gives up on its datastore before.
const DETACH_PATIENCE: Duration = Duration::from_millis(2500);

/// The agent of this node, if there is one.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: String,
}

/// What the agent is at work on.
#[derive(Debug)]
pub(crate) struct Attaching {
    answers: call::Answers,
    deadline: Instant,
}

impl Agent {
    pub(crate) fn new(env: &Env) -> Self {
        let said = env.all.get(SOCKET_ENV).filter(|s| !s.is_empty());
        Self {
            socket: pods::socket(said.map_or(DEFAULT_SOCKET, String::as_str)),
        }
    }

    /// Where the agent hears plugins.
    pub(crate) fn socket(&self) -> &str {
        &self.socket
    }

    /// Whether there is an agent, as far as its socket tells.
    pub(crate) fn is_there(&self) -> bool {
        Path::new(&self.socket).exists()
    }

    /// The only answer to a request; `read` knows which one it has to be.
    fn answer<T>(
        &self,
        ask: Ask,
        deadline: Instant,
        read: impl FnOnce(Answer) -> Option<T>,
    ) -> Result<T, Unanswered> {
        let answer = call::ask(&self.socket, ask, deadline)?.next(deadline)?;
        let answer = answer.ok_or_else(|| "the agent ended without an answer".to_owned())?;
        let misfit = || "the agent answers to something else".to_owned();
        Ok(read(answer).ok_or_else(misfit)?)
    }

    /// An address from the agent. None when there is no agent, or it cannot: then the datastore itself says what is wrong.
    /// An address that the agent assigned and nobody was told of is under the container's handle: DEL gives it back.
    pub(crate) fn assign(&self, datastore: &str, want: &Assign) -> Option<IfAddr> {
        if !self.is_there() {
            return None;
        }
        match self.ask_address(datastore, want) {
            Ok(address) => Some(address),
            Err(Unanswered { why, .. }) => {
                tracing::debug!(why, "the agent assigns no address; asking the datastore");
                None
            }
        }
    }

    fn ask_address(&self, datastore: &str, want: &Assign) -> Result<IfAddr, Unanswered> {
        let request = AssignRequest {
            datastore: datastore.to_owned(),
            node: want.node.to_string(),
            handle: want.owner.handle.clone(),
            attributes: want.owner.attributes.clone().into_iter().collect(),
            ipv6: want.family == Family::V6,
            pools: want.pools.clone(),
            namespace_labels: want.namespace_labels.clone().into_iter().collect(),
        };
        let deadline = Instant::now() + PATIENCE;
        let reply = self.answer(Ask::Assign(request), deadline, |a| match a {
            Answer::Assign(reply) => Some(reply),
            _ => None,
        })?;
        let address: IfAddr = reply
            .address
            .parse()
            .map_err(|e| format!("{}: {e}", reply.address))?;
        if Family::of(address.addr) == want.family {
            Ok(address)
        } else {
            Err(format!("{address} is not of the family asked for").into())
        }
    }

    /// Begins to let the agent assign addresses and write the endpoint. None when there is no agent.
    pub(crate) fn attach(&self, request: AttachRequest) -> Option<Attaching> {
        let deadline = Instant::now() + PATIENCE;
        match call::ask(&self.socket, Ask::Attach(request), deadline) {
            Ok(answers) => Some(Attaching { answers, deadline }),
            Err(Unanswered { why, .. }) => {
                tracing::debug!(why, "the agent attaches nothing; doing it here");
                None
            }
        }
    }

    /// Asks whether the policy of an endpoint is in force; the answer comes when it is, or when the time in the request is
    /// up.
    pub(crate) fn await_endpoint(
        &self,
        request: AwaitEndpointRequest,
        deadline: Instant,
    ) -> Result<AwaitEndpointReply, Unanswered> {
        self.answer(Ask::AwaitEndpoint(request), deadline, |a| match a {
            Answer::AwaitEndpoint(reply) => Some(reply),
            _ => None,
        })
    }

    /// Lets the agent take away what belongs to a container, together with those of others that end at this moment. None
    /// when there is no agent or it does not answer.
    pub(crate) fn detach(&self, request: &DetachRequest) -> Option<DetachReply> {
        if !self.is_there() {
            return None;
        }
        let (ask, deadline) = (Ask::Detach(request.clone()), Instant::now() + DETACH_PATIENCE);
        let told = self.answer(ask, deadline, |a| match a {
            Answer::Detach(reply) => Some(reply),
            _ => None,
        });
        match told {
            Ok(reply) => Some(reply),
            Err(Unanswered { why, .. }) => {
                tracing::debug!(why, "the agent detaches nothing; doing it here");
                None
            }
        }
    }
}

impl Attaching {
    fn next(&mut self, deadline: Instant) -> Result<Option<AttachReply>, Unanswered> {
        match self.answers.next(deadline)? {
            None => Ok(None),
            Some(Answer::Attach(reply)) => Ok(Some(reply)),
            Some(_) => Err("the agent answers to something else".to_owned().into()),
        }
    }

    fn first(&mut self, families: PerFamily<bool>) -> Result<Vec<IfAddr>, Unanswered> {
        let first = self.next(self.deadline)?;
        let first = first.ok_or_else(|| "the agent ended without an answer".to_owned())?;
        let parse = |a: &String| a.parse::<IfAddr>().map_err(|e| format!("{a}: {e}"));
        let addresses: Vec<IfAddr> = first.addresses.iter().map(parse).collect::<Result<_, _>>()?;
        let has = |family| addresses.iter().any(|a| Family::of(a.addr) == family);
        if families.iter().any(|(family, wanted)| *wanted != has(family)) {
            return Err(format!("{addresses:?} are not of the families asked for").into());
        }
        Ok(addresses)
    }

    /// The addresses, when they and the endpoint are in the datastore. None when the agent cannot.
    pub(crate) fn addresses(&mut self, families: PerFamily<bool>) -> Option<Vec<IfAddr>> {
        match self.first(families) {
            Ok(addresses) => Some(addresses),
            Err(Unanswered { why, .. }) => {
                tracing::debug!(why, "the agent attaches nothing; doing it here");
                None
            }
        }
    }

    /// What the agent says of policy when it is in force or the time is up. None when it ended without saying so.
    pub(crate) fn told(&mut self, deadline: Instant) -> Option<Result<(), String>> {
        match self.next(deadline) {
            Ok(Some(reply)) if reply.in_force => Some(Ok(())),
            Ok(Some(reply)) => Some(Err(format!("the agent: {}", reply.reason))),
            Ok(None) => None,
            Err(e) if Instant::now() >= deadline => Some(Err(e.why)),
            Err(_) => None,
        }
    }
}
