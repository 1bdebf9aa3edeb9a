//! ADD with the agent: it assigns addresses and writes the endpoint while the link is made here.

use std::time::Instant;

use caracal_agent_api::v1::AttachRequest;
use caracal_api::Resource;
use caracal_net::PerFamily;

use crate::{
    add::{Run, Undo},
    addresses, endpoint,
    error::CniError,
    plan::{AddressSource, Observed, Step, Wait, Wanted, plan_after_agent, plan_with_agent},
    policy,
};

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
        // With an old link of that name the agent could say that all is in force, which is so of that one alone.
        let plain = requested.is_empty() && local.inner_link.is_none() && local.host_link.is_none();
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
        let mut attaching = self.call.agent.attach(request);
        // The kernel's part, while the agent is at work.
        let link = steps.iter().try_for_each(|step| self.kernel.execute(step));
        let addresses = attaching.as_mut().and_then(|a| a.addresses(families));
        link?;
        for step in &steps {
            self.call.given.after(step)?;
        }
        let Some(addresses) = addresses else {
            return Ok(false);
        };
        self.addresses = addresses;
        self.attaching = attaching;
        self.call.given.after(&Step::Attach)?;
        self.steps(&plan_after_agent(wanted, &self.addresses)).await?;
        Ok(true)
    }

    /// What the agent, which wrote the endpoint, says of its policy: in force, or what is missing when the time is up. Nothing
    /// when it ended without saying so: then it or the next one is asked anew.
    pub(crate) fn told(&mut self, wait: Wait) -> Option<Result<(), String>> {
        let mut attaching = self.attaching.take()?;
        let (Wait::AtMost(limit) | Wait::OrFail(limit)) = wait else {
            return None;
        };
        // The agent's own limit ends first, so that it can say what is missing.
        attaching.told(Instant::now() + limit + policy::LATE)
    }
}
