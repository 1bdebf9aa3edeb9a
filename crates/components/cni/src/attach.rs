//! ADD with the agent: it assigns addresses and writes the endpoint while the link is made here.

use std::time::Duration;

use caracal_agent_api::v1::{AttachReply, AttachRequest};
use caracal_api::Resource;
use caracal_net::{IfAddr, PerFamily};
use caracal_sys::NetNs;
use tokio::{sync::oneshot, time::timeout};
use tonic::Streaming;

use crate::{
    add::{Run, Undo},
    addresses, endpoint,
    error::{CniError, Code},
    kernel,
    plan::{AddressSource, Observed, Step, Wait, Wanted, plan_after_agent, plan_with_agent},
    policy,
};

/// How much later than its limit the agent's last answer may come.
const LATE: Duration = Duration::from_millis(200);

/// What the agent answered.
type Attached = Option<(Vec<IfAddr>, Streaming<AttachReply>)>;

impl Run<'_> {
    /// The families to assign from, when the agent can do it: for a new container with addresses from pools.
    pub(crate) fn can_ask_agent(
        &self,
        local: &Observed,
        wanted: &Wanted<'_>,
    ) -> Result<Option<PerFamily<bool>>, CniError> {
        let AddressSource::Calico { families, requested } = &wanted.addresses else {
            return Ok(None);
        };
        let plain = requested.is_empty() && local.inner_link.is_none();
        let can = plain && self.call.agent.is_there() && !endpoint::needs_addresses(wanted.conf)?;
        Ok(can.then_some(*families))
    }

    fn request(&self, wanted: &Wanted<'_>, families: &PerFamily<bool>) -> Result<AttachRequest, CniError> {
        let call = self.call;
        let bytes = |r: Resource| r.to_value().to_string().into_bytes();
        let mut request = AttachRequest {
            datastore: call.store.describe(),
            node: call.id.node.to_string(),
            endpoint: bytes(endpoint::endpoint(&call.id, wanted.conf, &[], None)?.into()),
            profile: addresses::profile_name(&call.id),
            timeout_ms: policy::wait_ms(wanted.wait),
            ..AttachRequest::default()
        };
        if call.id.pod.is_none() {
            request.new_profile = bytes(endpoint::network_profile(&call.id.network).into());
        }
        self.assigner.fill(&mut request, families);
        Ok(request)
    }

    /// Attaches the container together with the agent. False when the agent did not: then all is still to be done, but for
    /// the link.
    pub(crate) async fn with_agent(
        &mut self,
        local: &Observed,
        wanted: &Wanted<'_>,
        families: PerFamily<bool>,
    ) -> Result<bool, CniError> {
        let steps = plan_with_agent(local, wanted, families)?;
        let request = self.request(wanted, &families)?;
        // The answer may be lost, or what was asked for be done late.
        self.undo.extend([Undo::Addresses, Undo::Endpoint, Undo::Link]);
        let link = self.make_link(steps.clone());
        let (attached, link): (Attached, _) = tokio::join!(self.call.agent.attach(request, families), link);
        link?;
        for step in &steps {
            self.call.given.after(step)?;
        }
        let Some((addresses, answers)) = attached else {
            return Ok(false);
        };
        self.addresses = addresses;
        self.answers = Some(answers);
        self.call.given.after(&Step::Attach)?;
        self.steps(&plan_after_agent(wanted, &self.addresses)).await?;
        Ok(true)
    }

    /// The kernel's part, on a thread because it does not wait for anybody else.
    fn make_link(&self, steps: Vec<Step>) -> impl Future<Output = Result<(), CniError>> + use<> {
        let (send, receive) = oneshot::channel();
        let path = self.call.env.netns.clone();
        let own = self.netns.id();
        let work = move || -> Result<(), CniError> {
            let netns: NetNs = kernel::open_netns(&path)?;
            if netns.id() != own {
                return Err(CniError::new(
                    Code::UnknownContainer,
                    "network namespace of the container",
                    format!("{path} is another one than a moment ago"),
                ));
            }
            let mut rtnl = kernel::open_here()?;
            steps
                .iter()
                .try_for_each(|step| kernel::execute(&mut rtnl, &netns, step))
        };
        let started = std::thread::Builder::new()
            .name("make-link".into())
            .spawn(move || {
                // Nobody listens any more when the call has failed meanwhile.
                let _ = send.send(work());
            });
        let failed = |e: &dyn std::fmt::Display| CniError::new(Code::Kernel, "making the interface", e);
        async move {
            match started {
                Err(e) => Err(failed(&e)),
                Ok(_) => receive.await.map_err(|e| failed(&e))?,
            }
        }
    }

    /// What the agent, which wrote the endpoint, says of its policy: in force, or what is missing when the time is up. Nothing
    /// when it ended without saying so: then it or the next one is asked anew.
    pub(crate) async fn told(&mut self, wait: Wait) -> Option<Result<(), String>> {
        let mut answers = self.answers.take()?;
        let (Wait::AtMost(limit) | Wait::OrFail(limit)) = wait else {
            return None;
        };
        // The agent's own limit ends first, so that it can say what is missing.
        match timeout(limit + LATE, answers.message()).await {
            Ok(Ok(Some(reply))) if reply.in_force => Some(Ok(())),
            Ok(Ok(Some(reply))) => Some(Err(format!("the agent: {}", reply.reason))),
            Ok(_) => None,
            Err(_) => Some(Err("the agent did not answer".to_owned())),
        }
    }
}
