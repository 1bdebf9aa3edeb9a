//! The agent's socket.

mod call;
mod frames;
mod hpack;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use caracal_agent_api::{
    DEFAULT_SOCKET, SOCKET_ENV,
    v1::{
        AssignReply, AssignRequest, AttachReply, AttachRequest, AwaitEndpointReply, AwaitEndpointRequest,
        DetachReply, DetachRequest,
    },
};
use caracal_ipam::Assign;
use caracal_net::{Family, IfAddr, PerFamily};
use prost::Message;

use crate::env::Env;

const ASSIGN: &str = "/caracal.agent.v1.Addresses/Assign";
const AWAIT_ENDPOINT: &str = "/caracal.agent.v1.Agent/AwaitEndpoint";
const ATTACH: &str = "/caracal.agent.v1.Pods/Attach";
const DETACH: &str = "/caracal.agent.v1.Pods/Detach";

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
            socket: said.map_or(DEFAULT_SOCKET, String::as_str).to_owned(),
        }
    }

    /// Where the agent listens.
    pub(crate) fn socket(&self) -> &str {
        &self.socket
    }

    /// Whether there is an agent, as far as its socket tells.
    pub(crate) fn is_there(&self) -> bool {
        Path::new(&self.socket).exists()
    }

    /// The only answer to a request.
    fn answer<M: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
        deadline: Instant,
    ) -> Result<M, String> {
        let mut answers = call::ask(&self.socket, method, request, deadline)?;
        let reply = answers.next(deadline)?;
        reply.ok_or_else(|| "the agent ended without an answer".to_owned())
    }

    /// An address from the agent. None when there is no agent, or it cannot: then the datastore itself says what is wrong.
    /// An address that the agent assigned and nobody was told of is under the container's handle: DEL gives it back.
    pub(crate) fn assign(&self, datastore: &str, want: &Assign) -> Option<IfAddr> {
        if !self.is_there() {
            return None;
        }
        match self.ask_address(datastore, want) {
            Ok(address) => Some(address),
            Err(why) => {
                tracing::debug!(why, "the agent assigns no address; asking the datastore");
                None
            }
        }
    }

    fn ask_address(&self, datastore: &str, want: &Assign) -> Result<IfAddr, String> {
        let request = AssignRequest {
            datastore: datastore.to_owned(),
            node: want.node.to_string(),
            handle: want.owner.handle.clone(),
            attributes: want.owner.attributes.clone().into_iter().collect(),
            ipv6: want.family == Family::V6,
            pools: want.pools.clone(),
            namespace_labels: want.namespace_labels.clone().into_iter().collect(),
        };
        let reply: AssignReply = self.answer(ASSIGN, &request, Instant::now() + PATIENCE)?;
        let address: IfAddr = reply
            .address
            .parse()
            .map_err(|e| format!("{}: {e}", reply.address))?;
        if Family::of(address.addr) == want.family {
            Ok(address)
        } else {
            Err(format!("{address} is not of the family asked for"))
        }
    }

    /// Begins to let the agent assign addresses and write the endpoint. None when there is no agent.
    pub(crate) fn attach(&self, request: &AttachRequest) -> Option<Attaching> {
        let deadline = Instant::now() + PATIENCE;
        match call::ask(&self.socket, ATTACH, request, deadline) {
            Ok(answers) => Some(Attaching { answers, deadline }),
            Err(why) => {
                tracing::debug!(why, "the agent attaches nothing; doing it here");
                None
            }
        }
    }

    /// Asks whether the policy of an endpoint is in force; the answer comes when it is, or when the time in the request is
    /// up.
    pub(crate) fn await_endpoint(
        &self,
        request: &AwaitEndpointRequest,
        deadline: Instant,
    ) -> Result<AwaitEndpointReply, String> {
        self.answer(AWAIT_ENDPOINT, request, deadline)
    }

    /// Lets the agent take away what belongs to a container, together with those of others that end at this moment. None
    /// when there is no agent or it does not answer.
    pub(crate) fn detach(&self, request: &DetachRequest) -> Option<DetachReply> {
        if !self.is_there() {
            return None;
        }
        match self.answer(DETACH, request, Instant::now() + DETACH_PATIENCE) {
            Ok(reply) => Some(reply),
            Err(why) => {
                tracing::debug!(why, "the agent detaches nothing; doing it here");
                None
            }
        }
    }
}

impl Attaching {
    /// The addresses, when they and the endpoint are in the datastore. None when the agent cannot.
    pub(crate) fn addresses(&mut self, families: PerFamily<bool>) -> Option<Vec<IfAddr>> {
        let mut first = || -> Result<Vec<IfAddr>, String> {
            let first: Option<AttachReply> = self.answers.next(self.deadline)?;
            let first = first.ok_or("the agent ended without an answer")?;
            let parse = |a: &String| a.parse::<IfAddr>().map_err(|e| format!("{a}: {e}"));
            let addresses: Vec<IfAddr> = first.addresses.iter().map(parse).collect::<Result<_, _>>()?;
            let has = |family| addresses.iter().any(|a| Family::of(a.addr) == family);
            if families.iter().any(|(family, wanted)| *wanted != has(family)) {
                return Err(format!("{addresses:?} are not of the families asked for"));
            }
            Ok(addresses)
        };
        match first() {
            Ok(addresses) => Some(addresses),
            Err(why) => {
                tracing::debug!(why, "the agent attaches nothing; doing it here");
                None
            }
        }
    }

    /// What the agent says of policy when it is in force or the time is up. None when it ended without saying so.
    pub(crate) fn told(&mut self, deadline: Instant) -> Option<Result<(), String>> {
        match self.answers.next::<AttachReply>(deadline) {
            Ok(Some(reply)) if reply.in_force => Some(Ok(())),
            Ok(Some(reply)) => Some(Err(format!("the agent: {}", reply.reason))),
            Ok(None) => None,
            Err(why) if Instant::now() >= deadline => Some(Err(why)),
            Err(_) => None,
        }
    }
}
