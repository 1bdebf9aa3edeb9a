//! Denied packets, for those who watch. The rules that deny tell a netlink log group of each packet; nobody listens to it
//! until somebody watches, and until then the kernel looks for a listener and goes on.

mod packet;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use caracal_agent_api::v1::DeniedPacket;
use caracal_netlink::{Error, Messages, Protocol, Received, Request, Socket, Wait};
use tokio::sync::broadcast;

use crate::agent::{Order, Orders};

pub(crate) use packet::{Headers, headers};

/// The netlink log group that denied packets are told of. Calico's own are 1 to 3.
pub(crate) const GROUP: u16 = 51_738;

/// `NFNL_SUBSYS_ULOG` with `NFULNL_MSG_PACKET` and `NFULNL_MSG_CONFIG` (`linux/netfilter/nfnetlink_log.h`).
const PACKET: u16 = 4 << 8;
const CONFIG: u16 = (4 << 8) | 1;

const CFG_COMMAND: u16 = 1;
const CFG_MODE: u16 = 2;
const CFG_THRESHOLD: u16 = 5;
const BIND: u8 = 1;
const COPY_PACKET: u8 = 2;

const PACKET_HEADER: u16 = 1;
const TIMESTAMP: u16 = 3;
const IN_DEVICE: u16 = 4;
const OUT_DEVICE: u16 = 5;
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;

/// Bytes of a packet that are copied.
const COPIED: u32 = 128;
/// Denied packets that a slow watcher may be behind.
const BEHIND: usize = 1024;
/// How often the listener looks whether anybody still watches.
const LOOK: Duration = Duration::from_millis(200);

/// A denied packet, as the kernel told it.
#[derive(Debug)]
pub(crate) struct Told {
    /// Nanoseconds of Unix time.
    pub(crate) at: u64,
    /// Where on the packet's way: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting.
    pub(crate) hook: u8,
    /// Numbers of the interfaces; 0 for none.
    pub(crate) in_device: u32,
    pub(crate) out_device: u32,
    /// What the rule wrote: the name of its counter.
    pub(crate) prefix: String,
    /// The packet from its network header on.
    pub(crate) payload: Vec<u8>,
    /// Packets that could not be told before this one.
    pub(crate) lost: u64,
}

/// Those who watch, and what they are told.
#[derive(Debug, Clone)]
pub(crate) struct Denied {
    orders: Orders,
    told: broadcast::Sender<Arc<DeniedPacket>>,
    listening: Arc<Mutex<bool>>,
}

impl Denied {
    pub(crate) fn new(orders: Orders) -> Self {
        Self {
            orders,
            told: broadcast::channel(BEHIND).0,
            listening: Arc::default(),
        }
    }

    /// Begins to watch. Listening begins with the first who watches, before this returns, and ends after the last.
    ///
    /// # Errors
    /// When the kernel's log cannot be listened to.
    pub(crate) fn watch(&self) -> Result<broadcast::Receiver<Arc<DeniedPacket>>, String> {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.told.subscribe();
        if !*listening {
            let socket = bind().map_err(|e| format!("cannot listen to denied packets: {e}"))?;
            let denied = self.clone();
            std::thread::Builder::new()
                .name("denied".into())
                .spawn(move || denied.listen(socket))
                .map_err(|e| format!("cannot start a thread: {e}"))?;
            *listening = true;
        }
        Ok(receiver)
    }

    fn listen(&self, mut socket: Socket) {
        let lost = AtomicU64::new(0);
        loop {
            {
                let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
                if self.told.receiver_count() == 0 {
                    *listening = false;
                    return;
                }
            }
            match socket.recv(Wait::For(LOOK)) {
                Ok(Received::Bytes(bytes)) => {
                    for m in Messages::new(bytes).filter(|m| m.kind == PACKET) {
                        let Some(mut told) = read(m.attrs(4)) else {
                            continue;
                        };
                        told.lost = lost.swap(0, Ordering::Relaxed);
                        let count = told.lost + 1;
                        let order = Order::Denied(Box::new(told), self.told.clone());
                        // Changes of policy go before news about packets.
                        if self.orders.try_send(order).is_err() {
                            lost.fetch_add(count, Ordering::Relaxed);
                        }
                    }
                }
                Ok(Received::Nothing) => {}
                Ok(Received::Overrun) => {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
                Err(e) => {
                    tracing::warn!("listening to denied packets ended: {e}");
                    *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = false;
                    return;
                }
            }
        }
    }
}

fn bind() -> Result<Socket, Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let [high, low] = GROUP.to_be_bytes();
    let header = [0, 0, high, low];
    let mut request = Request::new(CONFIG, 0, &header);
    request.attrs().bytes(CFG_COMMAND, &[BIND]);
    socket.request(&request)?;
    let mut request = Request::new(CONFIG, 0, &header);
    let [a, b, c, d] = COPIED.to_be_bytes();
    request
        .attrs()
        .bytes(CFG_MODE, &[a, b, c, d, COPY_PACKET, 0])
        .be32(CFG_THRESHOLD, 1);
    socket.request(&request)?;
    Ok(socket)
}

fn read(attrs: caracal_netlink::Attrs<'_>) -> Option<Told> {
    let number = |kind| attrs.find(kind).and_then(|a| a.as_be32()).unwrap_or(0);
    let header = attrs.find(PACKET_HEADER)?.value;
    let prefix = attrs.find(PREFIX).and_then(|a| a.as_str()).unwrap_or_default();
    Some(Told {
        at: attrs
            .find(TIMESTAMP)
            .and_then(|a| time(a.value))
            .unwrap_or_else(now),
        hook: *header.get(2)?,
        in_device: number(IN_DEVICE),
        out_device: number(OUT_DEVICE),
        prefix: prefix.trim_end_matches('\0').to_owned(),
        payload: attrs.find(PAYLOAD)?.value.to_vec(),
        lost: 0,
    })
}

/// Seconds and microseconds.
fn time(bytes: &[u8]) -> Option<u64> {
    let number = |b: &[u8]| Some(u64::from_be_bytes(b.try_into().ok()?));
    let (seconds, micros) = (number(bytes.get(..8)?)?, number(bytes.get(8..16)?)?);
    Some(seconds * 1_000_000_000 + micros * 1000)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}
