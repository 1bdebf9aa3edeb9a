//! How fast links send: a token bucket at a link's root, and a detour for what comes in, through a device of kind `ifb`
//! that sends it on at a limited speed.
//!
//! Our queueing disciplines have a handle of their own, by which they are told from those of others.

use caracal_netlink::{AttrWriter, Request as Raw, flags};
use netlink_packet_route::link::InfoKind;

use crate::{LinkError, Rtnl, links::LinkChange};

/// `RTM_NEWQDISC` and its fellows (`linux/rtnetlink.h`).
const NEW_QDISC: u16 = 36;
const DEL_QDISC: u16 = 37;
const GET_QDISC: u16 = 38;
const NEW_FILTER: u16 = 44;

const KIND: u16 = 1;
const OPTIONS: u16 = 2;

const ROOT: u32 = 0xffff_ffff;
const INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
/// The handle of a token bucket of ours.
const OURS: u32 = 0xca1a_0000;

/// How long a packet waits at most in a full bucket's queue, as Calico's bandwidth limits have it: 25 ms.
const WAIT: u64 = 40;

/// A limit of what a link sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bytes in a second.
    pub bytes: u64,
    /// Bytes that may go at once.
    pub burst: u32,
    /// While a burst goes: bytes in a second, more than `bytes`, and bytes at once.
    pub peak: Option<(u64, u32)>,
}

/// `struct tcmsg`.
fn header(link: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for word in [link, handle, parent, info] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// `struct tc_ratespec` of an Ethernet link; faster than 32 bits can say is said beside it.
fn rate_spec(bytes: u64) -> [u8; 12] {
    let rate = u32::try_from(bytes).unwrap_or(u32::MAX).to_ne_bytes();
    [0, 1, 0, 0, 0, 0, 0, 0, rate[0], rate[1], rate[2], rate[3]]
}

fn bucket(w: &mut AttrWriter<'_>, rate: &Rate) {
    const PARAMETERS: u16 = 1;
    const RATE: u16 = 4;
    const PEAK_RATE: u16 = 5;
    const BURST: u16 = 6;
    const PEAK_BURST: u16 = 7;
    let queue = (rate.bytes / WAIT).saturating_add(rate.burst.into());
    let mut parameters = rate_spec(rate.bytes).to_vec();
    parameters.extend(rate.peak.map_or([0; 12], |(peak, _)| rate_spec(peak)));
    // The queue's length; the two times behind it are given as bytes below.
    for word in [u32::try_from(queue).unwrap_or(u32::MAX), 0, 0] {
        parameters.extend(word.to_ne_bytes());
    }
    w.bytes(PARAMETERS, &parameters)
        .bytes(RATE, &rate.bytes.to_ne_bytes())
        .u32(BURST, rate.burst);
    if let Some((peak, burst)) = rate.peak {
        w.bytes(PEAK_RATE, &peak.to_ne_bytes()).u32(PEAK_BURST, burst);
    }
}

/// A filter that takes every packet and has another link send it.
fn detour(w: &mut AttrWriter<'_>, to: u32) {
    const SELECTOR: u16 = 5;
    const ACTIONS: u16 = 7;
    const PARAMETERS: u16 = 2;
    const TERMINAL: u8 = 1;
    const STOLEN: i32 = 4;
    const SEND: i32 = 1;
    // struct tc_u32_sel with one key of no bits: everything.
    let mut selector = [0; 32];
    (selector[0], selector[2]) = (TERMINAL, 1);
    w.bytes(SELECTOR, &selector);
    w.nest(ACTIONS, |w| {
        w.nest(1, |w| {
            w.str(KIND, "mirred").nest(OPTIONS, |w| {
                // struct tc_mirred
                let mut parameters = Vec::new();
                for word in [0, 0, STOLEN, 0, 0, SEND, to.cast_signed()] {
                    parameters.extend(word.to_ne_bytes());
                }
                w.bytes(PARAMETERS, &parameters);
            });
        });
    });
}

impl Rtnl {
    fn shape(
        &mut self,
        action: &'static str,
        link: u32,
        kind: u16,
        more: u16,
        header: &[u8],
        fill: impl FnOnce(&mut AttrWriter<'_>),
    ) -> Result<(), LinkError> {
        let mut request = Raw::new(kind, more | flags::ACK, header);
        fill(&mut request.attrs());
        self.raw(action, || format!("link number {link}"), &request)
    }

    /// Limits what a link sends; nothing else that was at its root stays there.
    pub fn limit(&mut self, link: u32, rate: &Rate) -> Result<(), LinkError> {
        let more = flags::CREATE | flags::REPLACE;
        let head = header(link, OURS, ROOT, 0);
        self.shape("limit the speed of", link, NEW_QDISC, more, &head, |w| {
            w.str(KIND, "tbf").nest(OPTIONS, |w| bucket(w, rate));
        })
    }

    /// Takes a limit of ours away again; tells whether there was one.
    pub fn unlimit(&mut self, link: u32) -> Result<bool, LinkError> {
        let head = header(link, OURS, ROOT, 0);
        self.gone("end the limit of", link, &head)
    }

    /// Has another link send what comes in by this one.
    pub fn redirect(&mut self, from: u32, to: u32) -> Result<(), LinkError> {
        const EVERY_PROTOCOL: u32 = 0x0003;
        const FIRST: u32 = 1 << 16;
        let head = header(from, INGRESS_HANDLE, INGRESS, 0);
        let made = self.shape(
            "redirect",
            from,
            NEW_QDISC,
            flags::CREATE | flags::EXCL,
            &head,
            |w| {
                w.str(KIND, "ingress");
            },
        );
        match made {
            Err(e) if e.errno() == Some(libc::EEXIST) => {}
            other => other?,
        }
        let info = FIRST | u32::from(u16::try_from(EVERY_PROTOCOL).unwrap_or(3).to_be());
        let head = header(from, 0x8000_0001, INGRESS_HANDLE, info);
        let more = flags::CREATE | flags::REPLACE;
        self.shape("redirect", from, NEW_FILTER, more, &head, |w| {
            w.str(KIND, "u32").nest(OPTIONS, |w| detour(w, to));
        })
    }

    /// Ends a redirection; tells whether there was one.
    pub fn unredirect(&mut self, from: u32) -> Result<bool, LinkError> {
        let head = header(from, INGRESS_HANDLE, INGRESS, 0);
        self.gone("end the redirection of", from, &head)
    }

    fn gone(&mut self, action: &'static str, link: u32, head: &[u8]) -> Result<bool, LinkError> {
        match self.shape(action, link, DEL_QDISC, 0, head, |_| {}) {
            Ok(()) => Ok(true),
            // None there, one of somebody else, or no link any more.
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The numbers of the links with a limit of ours.
    pub fn limited(&mut self) -> Result<Vec<u32>, LinkError> {
        let request = Raw::new(GET_QDISC, 0, &header(0, 0, 0, 0));
        self.raw_dump("list queueing disciplines", &request, |m| {
            let word = |at: usize| Some(u32::from_ne_bytes(m.payload.get(at..at + 4)?.try_into().ok()?));
            (word(8)? == OURS).then(|| word(4)).flatten()
        })
    }

    /// Makes a device that sends what is redirected to it, down.
    pub fn create_ifb(&mut self, name: &str) -> Result<(), LinkError> {
        let message = Self::link_message(name, &LinkChange::default())?;
        self.create("create ifb device", name, message, InfoKind::Ifb, None)
    }
}
