use std::collections::BTreeMap;

use caracal_ipam_plan::ReleaseRequest;
use caracal_net::Cidr;
use futures::future::join_all;

use crate::{error::IpamError, ipam::Ipam};

impl Ipam {
    /// Gives back everything that each of the handles holds; each block is written once for all of them. One result for
    /// each handle, in order.
    pub async fn release_handles(&self, handles: &[String]) -> Vec<Result<(), IpamError>> {
        let mut answers = Vec::with_capacity(handles.len());
        let mut by_block: BTreeMap<Cidr, Vec<usize>> = BTreeMap::new();
        let found = join_all(handles.iter().map(|h| self.blocks_of(h))).await;
        for (i, blocks) in found.into_iter().enumerate() {
            answers.push(blocks.map(|blocks| {
                for cidr in blocks {
                    by_block.entry(cidr).or_default().push(i);
                }
            }));
        }
        // One after another: a handle may count in several, and would be in its own way.
        for (cidr, who) in by_block {
            let requests: Vec<ReleaseRequest> = who
                .iter()
                .map(|i| ReleaseRequest::Handle(handles[*i].clone()))
                .collect();
            match self.release_in(&cidr, &requests).await {
                Ok(released) => {
                    tracing::debug!(block = %cidr, handles = who.len(), addresses = ?released.released, "given back");
                }
                Err(error) => who.into_iter().for_each(|i| answers[i] = Err(error.clone())),
            }
        }
        answers
    }
}
