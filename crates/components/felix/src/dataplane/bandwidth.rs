//! Bandwidth of workloads, from the annotations of their pods: what a pod receives is limited where the host's side of its
//! link sends it; what it sends takes a detour through a device of its own, which sends it on at the limited speed.

use std::collections::BTreeMap;

use caracal_api::QosControls;
use caracal_link::{Link, LinkChange, LinkError, Rate, Rtnl};

/// How the names of the detours' devices begin.
const DEVICE: &str = "bwcali";

/// The most that a packet can be while nothing smaller was asked for.
const PACKET: u32 = 65_535;

/// The limits of one workload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Limits {
    to: Option<Rate>,
    from: Option<Rate>,
}

impl Limits {
    fn of(q: &QosControls) -> Self {
        Self {
            to: rate(
                q.ingress_bandwidth,
                q.ingress_burst,
                q.ingress_peakrate,
                q.ingress_minburst,
            ),
            from: rate(
                q.egress_bandwidth,
                q.egress_burst,
                q.egress_peakrate,
                q.egress_minburst,
            ),
        }
    }
}

/// From bits, as people write them, to bytes.
fn rate(bandwidth: Option<i64>, burst: Option<i64>, peak: Option<i64>, least: Option<i64>) -> Option<Rate> {
    let bytes = |bits: i64| u64::try_from(bits).ok().map(|b| b / 8).filter(|b| *b > 0);
    let small = |bits: i64| u32::try_from(bytes(bits)?).ok();
    let per_second = bytes(bandwidth?)?;
    let least = least.and_then(small).unwrap_or(PACKET);
    Some(Rate {
        bytes: per_second,
        // Less than a packet would never let one through.
        burst: burst.and_then(small).unwrap_or(1 << 29).max(2_000),
        peak: peak
            .and_then(bytes)
            .filter(|p| *p > per_second)
            .map(|p| (p, least.max(2_000))),
    })
}

/// The device of an interface's detour.
fn device(interface: &str) -> String {
    // FNV-1a: another version of this program must find the same name.
    let step = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    let hash = interface.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    format!("{DEVICE}{:09x}", hash & 0xf_ffff_ffff)
}

/// What was put in force.
#[derive(Debug, Default)]
pub(crate) struct Bandwidth {
    /// By interface, with its number.
    known: BTreeMap<String, (u32, Limits)>,
    /// Interfaces with a limit of an agent before this one; what of it is right is not known.
    inherited: Option<Vec<u32>>,
}

impl Bandwidth {
    /// Gives an interface the limits of its workload, if they are not in force.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn apply(
        &mut self,
        rtnl: &mut Rtnl,
        link: &Link,
        qos: Option<&QosControls>,
    ) -> Result<(), LinkError> {
        let limits = qos.map(Limits::of).unwrap_or_default();
        let inherited = match &mut self.inherited {
            Some(inherited) => inherited,
            none => none.insert(rtnl.limited()?),
        };
        let now = (link.index, limits);
        let was = self.known.get(&link.name).copied();
        let inherits = inherited.contains(&link.index);
        if was == Some(now) || was.is_none() && limits == Limits::default() && !inherits {
            return Ok(());
        }
        match &limits.to {
            Some(rate) => rtnl.limit(link.index, rate)?,
            None => drop(rtnl.unlimit(link.index)?),
        }
        match &limits.from {
            Some(rate) => detour(rtnl, link, rate)?,
            None => end_detour(rtnl, &link.name, Some(link.index))?,
        }
        inherited.retain(|index| *index != link.index);
        if limits == Limits::default() {
            self.known.remove(&link.name);
        } else {
            self.known.insert(link.name.clone(), now);
        }
        Ok(())
    }

    /// An interface has no workload any more, or is gone.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn forget(
        &mut self,
        rtnl: &mut Rtnl,
        interface: &str,
        link: Option<&Link>,
    ) -> Result<(), LinkError> {
        if self.known.remove(interface).is_none() {
            return Ok(());
        }
        if let Some(link) = link {
            rtnl.unlimit(link.index)?;
        }
        end_detour(rtnl, interface, link.map(|l| l.index))
    }

    /// Everything is put in force again at the next occasion: somebody may have changed it.
    pub(crate) fn doubt(&mut self) {
        self.inherited = None;
        // No link has this number.
        self.known.values_mut().for_each(|(index, _)| *index = 0);
    }

    /// The interfaces with limits.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = &String> {
        self.known.keys()
    }
}

fn detour(rtnl: &mut Rtnl, link: &Link, rate: &Rate) -> Result<(), LinkError> {
    let name = device(&link.name);
    if rtnl.link(name.as_str())?.is_none() {
        rtnl.create_ifb(&name)?;
    }
    let change = LinkChange {
        mtu: Some(link.mtu),
        alias: Some(&link.name),
        ..LinkChange::up()
    };
    rtnl.set_link(name.as_str(), &change)?;
    let device = rtnl.require_link(name.as_str())?;
    rtnl.limit(device.index, rate)?;
    rtnl.redirect(link.index, device.index)
}

fn end_detour(rtnl: &mut Rtnl, interface: &str, index: Option<u32>) -> Result<(), LinkError> {
    let name = device(interface);
    // Without the device there was no detour, and what else comes in there is not ours.
    if rtnl.link(name.as_str())?.is_some() {
        if let Some(index) = index {
            rtnl.unredirect(index)?;
        }
        rtnl.delete_link(name.as_str())?;
    }
    Ok(())
}

/// Whether packets to a workload are limited, and packets from it.
pub(crate) fn wanted(qos: Option<&QosControls>) -> (bool, bool) {
    let limits = qos.map(Limits::of).unwrap_or_default();
    (limits.to.is_some(), limits.from.is_some())
}

/// Takes back the limits that nobody wants: `wants` says of an interface what [`wanted`] says of its workload.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn sweep(rtnl: &mut Rtnl, wants: impl Fn(&str) -> (bool, bool)) -> Result<(), LinkError> {
    let links = rtnl.links()?;
    let ours = |l: &&Link| l.name.starts_with(DEVICE) && l.kind.as_deref() == Some("ifb");
    for device in links.iter().filter(ours) {
        let interface = device.alias.as_deref().unwrap_or_default();
        if wants(interface).1 {
            continue;
        }
        if let Some(link) = links.iter().find(|l| l.name == interface) {
            rtnl.unredirect(link.index)?;
        }
        rtnl.delete_link(device.index)?;
    }
    for index in rtnl.limited()? {
        let link = links.iter().find(|l| l.index == index);
        if link.is_some_and(|l| !wants(&l.name).0 && !l.name.starts_with(DEVICE)) {
            rtnl.unlimit(index)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_become_bytes() {
        let r = rate(Some(8_000_000), Some(80_000), Some(16_000_000), None).unwrap();
        assert_eq!(
            (r.bytes, r.burst, r.peak),
            (1_000_000, 10_000, Some((2_000_000, PACKET)))
        );
        assert_eq!(
            rate(Some(1_000_000), Some(4 << 30), None, None).unwrap().burst,
            1 << 29
        );
        assert_eq!(
            rate(Some(8_000), None, Some(8_000), None).unwrap().peak,
            None,
            "no faster than the rate"
        );
        assert_eq!(rate(None, Some(5), None, None), None);
        assert_eq!(rate(Some(-1), None, None, None), None);
    }

    #[test]
    fn devices_have_names_that_fit() {
        assert_ne!(device("cali1"), device("cali2"));
        assert_eq!(device("cali12345678901").len(), 15);
    }
}
