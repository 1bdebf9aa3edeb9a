use std::collections::BTreeMap;

use caracal_ipam_plan::{Block, PlanError, Step};

use crate::{
    error::IpamError,
    execute::{Outcome, execute},
    ipam::Ipam,
    observe::block,
};

/// A change of who owns the addresses of a handle, for live migration. What is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerChange {
    /// The active owner's attributes.
    pub active: Option<BTreeMap<String, String>>,
    /// The attributes of the owner that takes over; empty for none.
    pub alternate: Option<BTreeMap<String, String>>,
    /// Only if the active owner has these attributes now.
    pub expect_active: Option<BTreeMap<String, String>>,
    /// Only if the alternate owner has these attributes now.
    pub expect_alternate: Option<BTreeMap<String, String>>,
}

impl Ipam {
    /// Changes who owns the addresses that `handle` holds; says how many changed.
    ///
    /// # Errors
    /// [`PlanError::OwnerDiffers`] when an expectation does not hold; nothing is changed in that block then.
    pub async fn set_owner(&self, handle: &str, change: &OwnerChange) -> Result<usize, IpamError> {
        let mut changed = 0;
        let held = self.addresses_of(handle).await?;
        let mut cidrs: Vec<_> = held.iter().map(caracal_net::IfAddr::network).collect();
        cidrs.dedup();
        for cidr in cidrs {
            let mut tries = self.tries();
            loop {
                let Some(stored) = block(self.store(), &cidr).await? else {
                    break;
                };
                let mut b = Block::read(stored)?;
                expect(&b, handle, change)?;
                let n = b.change_attributes(handle, |_, a| {
                    if let Some(active) = &change.active {
                        a.secondary.clone_from(active);
                    }
                    if let Some(alternate) = &change.alternate {
                        a.alternate_owner_attrs.clone_from(alternate);
                    }
                });
                if n == 0 {
                    break;
                }
                b.seal();
                let step = Step::PutBlock(b.into_object());
                if execute(self.store(), vec![step]).await? == Outcome::Done {
                    changed += n;
                    break;
                }
                tries.again().await?;
            }
        }
        Ok(changed)
    }
}

fn expect(block: &Block, handle: &str, change: &OwnerChange) -> Result<(), IpamError> {
    let own = block
        .allocations()
        .filter(|a| a.attribute.handle_id.as_deref() == Some(handle));
    for a in own {
        let differs = |want: &Option<BTreeMap<String, String>>, is: &BTreeMap<String, String>| {
            want.as_ref().is_some_and(|w| w != is)
        };
        if differs(&change.expect_active, &a.attribute.secondary)
            || differs(&change.expect_alternate, &a.attribute.alternate_owner_attrs)
        {
            return Err(PlanError::OwnerDiffers {
                address: a.addr,
                handle: handle.to_owned(),
            }
            .into());
        }
    }
    Ok(())
}
