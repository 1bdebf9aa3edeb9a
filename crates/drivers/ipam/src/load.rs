use caracal_api::{
    BlockAffinitySpec, IpPoolSpec, IpReservationSpec, IpamBlockSpec, IpamHandleSpec, NodeSpec, Object,
    Resource, ResourceKey, Spec, WorkloadEndpointSpec,
};
use caracal_ipam_plan::Snapshot;

use crate::{
    error::{IpamError, doing},
    ipam::Ipam,
    observe::list,
};

impl Ipam {
    /// Reads everything that says whether the IPAM database is right. What cannot be read is named in it, but for the
    /// configuration, without which nothing can be said.
    ///
    /// # Errors
    /// [`IpamError`] when the datastore fails.
    pub async fn load(&self) -> Result<Snapshot, IpamError> {
        let mut s = Snapshot {
            config: self.config().await?,
            ..Snapshot::default()
        };
        let bad = &mut s.malformed;
        s.pools = self.kind::<IpPoolSpec>("reading the IP pools", bad).await?;
        s.reservations = self
            .kind::<IpReservationSpec>("reading the IP reservations", bad)
            .await?;
        s.blocks = self.kind::<IpamBlockSpec>("reading all IPAM blocks", bad).await?;
        s.handles = self
            .kind::<IpamHandleSpec>("reading all IPAM handles", bad)
            .await?;
        s.affinities = self
            .kind::<BlockAffinitySpec>("reading the block affinities", bad)
            .await?;
        self.load_users(&mut s).await?;
        Ok(s)
    }

    /// Reads again who may use addresses.
    pub(crate) async fn load_users(&self, s: &mut Snapshot) -> Result<(), IpamError> {
        s.nodes = self
            .kind::<NodeSpec>("reading the nodes", &mut s.malformed)
            .await?;
        s.endpoints = self
            .kind::<WorkloadEndpointSpec>("reading the workload endpoints", &mut s.malformed)
            .await?;
        Ok(())
    }

    async fn kind<S: Spec>(
        &self,
        what: &'static str,
        malformed: &mut Vec<(ResourceKey, String)>,
    ) -> Result<Vec<Object<S>>, IpamError>
    where
        Object<S>: TryFrom<Resource>,
    {
        let listed = list::<S>(self.store(), None).await.map_err(doing(what))?;
        malformed.extend(listed.malformed);
        Ok(listed.items)
    }
}
