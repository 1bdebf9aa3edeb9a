//! Numbers of the kernel's nf_tables interface (`linux/netfilter/nf_tables.h`).

pub(crate) const SUBSYSTEM: u16 = 10;
pub(crate) const BATCH_BEGIN: u16 = 16;
pub(crate) const BATCH_END: u16 = 17;
/// Multicast group of nf_tables changes.
pub(crate) const GROUP: u32 = 7;

/// Message types, without the subsystem.
pub(crate) mod msg {
    pub(crate) const NEW_TABLE: u16 = 0;
    pub(crate) const GET_TABLE: u16 = 1;
    pub(crate) const DEL_TABLE: u16 = 2;
    pub(crate) const NEW_CHAIN: u16 = 3;
    pub(crate) const GET_CHAIN: u16 = 4;
    pub(crate) const DEL_CHAIN: u16 = 5;
    pub(crate) const NEW_RULE: u16 = 6;
    pub(crate) const GET_RULE: u16 = 7;
    pub(crate) const DEL_RULE: u16 = 8;
    pub(crate) const NEW_SET: u16 = 9;
    pub(crate) const GET_SET: u16 = 10;
    pub(crate) const DEL_SET: u16 = 11;
    pub(crate) const NEW_ELEM: u16 = 12;
    pub(crate) const GET_ELEM: u16 = 13;
    pub(crate) const DEL_ELEM: u16 = 14;
    pub(crate) const NEW_GEN: u16 = 15;
    pub(crate) const GET_GEN: u16 = 16;
    pub(crate) const NEW_OBJ: u16 = 18;
    pub(crate) const GET_OBJ: u16 = 19;
    pub(crate) const DEL_OBJ: u16 = 20;
}

pub(crate) mod table {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const USERDATA: u16 = 6;
}

pub(crate) mod chain {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 3;
    pub(crate) const HOOK: u16 = 4;
    pub(crate) const POLICY: u16 = 5;
    pub(crate) const TYPE: u16 = 7;
    pub(crate) const HOOK_NUMBER: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
}

pub(crate) mod rule {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const HANDLE: u16 = 3;
    pub(crate) const EXPRESSIONS: u16 = 4;
    pub(crate) const POSITION: u16 = 6;
    pub(crate) const USERDATA: u16 = 7;
}

pub(crate) mod set {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const KEY_TYPE: u16 = 4;
    pub(crate) const KEY_LEN: u16 = 5;
    pub(crate) const DATA_TYPE: u16 = 6;
    pub(crate) const DATA_LEN: u16 = 7;
    pub(crate) const DESC: u16 = 9;
    pub(crate) const ID: u16 = 10;
    pub(crate) const USERDATA: u16 = 13;
    pub(crate) const OBJ_TYPE: u16 = 15;
    pub(crate) const EXPR: u16 = 17;

    pub(crate) const DESC_SIZE: u16 = 1;
    pub(crate) const DESC_CONCAT: u16 = 2;
    pub(crate) const FIELD_LEN: u16 = 1;

    pub(crate) const F_INTERVAL: u32 = 0x4;
    pub(crate) const F_MAP: u32 = 0x8;
    pub(crate) const F_OBJECT: u32 = 0x40;
    pub(crate) const F_CONCAT: u32 = 0x80;
}

/// Named objects; ours are counters.
pub(crate) mod object {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
    pub(crate) const TYPE: u16 = 3;
    pub(crate) const DATA: u16 = 4;

    pub(crate) const COUNTER: u32 = 1;

    pub(crate) const BYTES: u16 = 1;
    pub(crate) const PACKETS: u16 = 2;
}

pub(crate) mod elem {
    pub(crate) const LIST_TABLE: u16 = 1;
    pub(crate) const LIST_SET: u16 = 2;
    pub(crate) const LIST_ELEMENTS: u16 = 3;
    pub(crate) const KEY: u16 = 1;
    pub(crate) const DATA: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const USERDATA: u16 = 6;
    pub(crate) const OBJREF: u16 = 9;
    pub(crate) const KEY_END: u16 = 10;

    pub(crate) const F_END: u32 = 1;
    pub(crate) const F_CATCH_ALL: u32 = 2;
}

pub(crate) mod data {
    pub(crate) const VALUE: u16 = 1;
    pub(crate) const VERDICT: u16 = 2;
    pub(crate) const VERDICT_CODE: u16 = 1;
    pub(crate) const VERDICT_CHAIN: u16 = 2;
    /// Type of a map's data: verdicts.
    pub(crate) const TYPE_VERDICT: u32 = 0xffff_ff00;
}

pub(crate) mod generation {
    pub(crate) const ID: u16 = 1;
}

/// One in a list of attributes.
pub(crate) const LIST_ELEM: u16 = 1;

/// First 32-bit register; register 0 is the verdict.
pub(crate) const REG: u32 = 8;
pub(crate) const REG_VERDICT: u32 = 0;
/// 32-bit registers of one 128-bit register.
pub(crate) const REG_WORDS: u32 = 4;
