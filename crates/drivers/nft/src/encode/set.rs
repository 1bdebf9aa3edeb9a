use std::hash::{DefaultHasher, Hasher};

use caracal_net::Family;
use caracal_netlink::{AttrWriter, Attrs, MessageWriter};
use caracal_rules::ir::{Data, DataType, Element, Key, KeyType, SetDef, Span};
use smallvec::{SmallVec, smallvec};

use super::{
    EncodeError, comment_bytes,
    expr::{put_expr, put_verdict},
    find_tlv, push_tlv,
    value::{ends, host_order, padded, successor, type_number, width},
};
use crate::numbers::{LIST_ELEM, data, elem, object, set};

const UD_KEY_ORDER: u8 = 0;
const UD_DATA_ORDER: u8 = 1;
const UD_COMMENT: u8 = 7;
/// A type that `nft` does not know and leaves alone.
const UD_HASH: u8 = 0xca;
const UD_ELEMENT_COMMENT: u8 = 0;

/// `nft` packs the types of a concatenation into one number, six bits each.
const TYPE_BITS: u32 = 6;
const FIELDS_MAX: usize = 5;

fn types_number(types: &[KeyType], family: Family) -> u32 {
    types
        .iter()
        .fold(0, |n, t| (n << TYPE_BITS) | type_number(*t, family))
}

fn len_of(types: &[KeyType], family: Family) -> usize {
    match types {
        [one] => width(*one, family),
        many => many.iter().map(|t| padded(*t, family)).sum(),
    }
}

fn order_of(types: &[KeyType]) -> [u8; 4] {
    // 1 is the host's order, 2 network order, 0 each field's own.
    u32::to_ne_bytes(match types {
        [one] if host_order(*one) => 1,
        [_] => 2,
        _ => 0,
    })
}

/// Whether elements are ranges over several fields.
pub(crate) fn is_concat(def: &SetDef) -> bool {
    def.interval && def.key.len() > 1
}

/// Tells definitions apart; 0 is none of ours. What is told about a set's content makes no other set, and the hash is that of
/// agents which told nothing.
pub(crate) fn def_hash(def: &SetDef, family: Family) -> u64 {
    let SetDef {
        key,
        data,
        interval,
        size,
        counters,
        comment,
        about: _,
    } = def;
    let mut hasher = DefaultHasher::new();
    hasher.write_u8(family.number());
    let text = format!(
        "SetDef {{ key: {key:?}, data: {data:?}, interval: {interval:?}, size: {size:?}, counters: {counters:?}, comment: \
         {comment:?} }}"
    );
    hasher.write(text.as_bytes());
    hasher.finish().max(1)
}

/// The hash that a set in the kernel carries.
pub(crate) fn def_hash_of(attrs: Attrs<'_>) -> u64 {
    attrs
        .find(set::USERDATA)
        .and_then(|u| find_tlv(u.value, UD_HASH))
        .and_then(|h| h.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

/// Whether the kernel can hold such a set.
pub(crate) fn check_def(def: &SetDef) -> Result<(), EncodeError> {
    let longest = def.key.len().max(match &def.data {
        Some(DataType::Value(types)) => types.len(),
        _ => 1,
    });
    if def.key.is_empty() || longest > FIELDS_MAX {
        return Err(EncodeError(format!(
            "a key has 1 to {FIELDS_MAX} fields, not {longest}"
        )));
    }
    Ok(())
}

/// Attributes of a new set.
pub(crate) fn put_set(
    message: &mut MessageWriter<'_>,
    table: &str,
    name: &str,
    def: &SetDef,
    id: u32,
    family: Family,
) {
    let concat = is_concat(def);
    let mut flags = 0;
    flags |= if def.interval { set::F_INTERVAL } else { 0 };
    flags |= match def.data {
        Some(DataType::Counter) => set::F_OBJECT,
        Some(_) => set::F_MAP,
        None => 0,
    };
    flags |= if concat { set::F_CONCAT } else { 0 };
    let len = |types: &[KeyType]| u32::try_from(len_of(types, family)).unwrap_or(u32::MAX);
    let mut userdata = Vec::new();
    push_tlv(&mut userdata, UD_KEY_ORDER, &order_of(&def.key));

    let mut w = message.attrs();
    w.str(set::TABLE, table)
        .str(set::NAME, name)
        .be32(set::FLAGS, flags);
    w.be32(set::KEY_TYPE, types_number(&def.key, family))
        .be32(set::KEY_LEN, len(&def.key));
    match &def.data {
        Some(DataType::Verdict) => {
            w.be32(set::DATA_TYPE, data::TYPE_VERDICT);
        }
        Some(DataType::Value(types)) => {
            push_tlv(&mut userdata, UD_DATA_ORDER, &order_of(types));
            w.be32(set::DATA_TYPE, types_number(types, family))
                .be32(set::DATA_LEN, len(types));
        }
        Some(DataType::Counter) => {
            w.be32(set::OBJ_TYPE, object::COUNTER);
        }
        None => {}
    }
    w.be32(set::ID, id);
    if concat || def.size.is_some() {
        w.nest(set::DESC, |w| put_desc(w, def, concat, family));
    }
    if !def.told().is_empty() {
        push_tlv(&mut userdata, UD_COMMENT, &comment_bytes(def.told()));
    }
    push_tlv(&mut userdata, UD_HASH, &def_hash(def, family).to_le_bytes());
    w.bytes(set::USERDATA, &userdata);
    if def.counters {
        w.nest(set::EXPR, |w| put_expr(w, "counter", |_| {}));
    }
}

fn put_desc(w: &mut AttrWriter<'_>, def: &SetDef, concat: bool, family: Family) {
    if let Some(size) = def.size {
        w.be32(set::DESC_SIZE, size);
    }
    if concat {
        w.nest(set::DESC_CONCAT, |w| {
            for field in &def.key {
                w.nest(LIST_ELEM, |w| {
                    w.be32(
                        set::FIELD_LEN,
                        u32::try_from(width(*field, family)).unwrap_or(u32::MAX),
                    );
                });
            }
        });
    }
}

/// Enough for an address of either family or an interface name without a heap allocation.
type KeyBytes = SmallVec<[u8; 16]>;

/// An element as the kernel has it. An interval of a one-field set is two of them, its first value and the first
/// value behind it. Kept small: there may be a million.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WireElement {
    pub(crate) key: KeyBytes,
    pub(crate) flags: u32,
    extra: Option<Box<Extra>>,
}

/// What most elements of most sets have not.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Extra {
    key_end: Vec<u8>,
    /// Attributes inside the data attribute.
    data: Vec<u8>,
    /// Name of a counter with its zero byte.
    object: Vec<u8>,
    /// Comment with its zero byte.
    comment: Vec<u8>,
}

impl WireElement {
    fn new(key: &[u8], flags: u32, extra: Extra) -> Self {
        let extra = (extra != Extra::default()).then(|| Box::new(extra));
        Self {
            key: KeyBytes::from_slice(key),
            flags,
            extra,
        }
    }

    /// Bytes in a message, or a little more.
    pub(crate) fn size(&self) -> usize {
        let extra = self.extra.as_ref().map_or(0, |e| {
            e.key_end.len() + e.data.len() + e.object.len() + e.comment.len()
        });
        48 + self.key.len() + extra
    }

    /// Appends it to a list of elements; for a deletion only what finds it.
    pub(crate) fn put(&self, w: &mut AttrWriter<'_>, whole: bool) {
        let none = Extra::default();
        let Extra {
            key_end,
            data,
            object,
            comment,
        } = self.extra.as_deref().unwrap_or(&none);
        w.nest(LIST_ELEM, |w| {
            if self.flags != 0 {
                w.be32(elem::FLAGS, self.flags);
            }
            for (kind, bytes) in [(elem::KEY, &self.key[..]), (elem::KEY_END, &key_end[..])] {
                if !bytes.is_empty() {
                    w.nest(kind, |w| {
                        w.bytes(data::VALUE, bytes);
                    });
                }
            }
            if whole && !data.is_empty() {
                w.nest(elem::DATA, |w| {
                    w.raw(data);
                });
            }
            if whole && !object.is_empty() {
                w.bytes(elem::OBJREF, object);
            }
            if whole && !comment.is_empty() {
                let mut userdata = Vec::new();
                push_tlv(&mut userdata, UD_ELEMENT_COMMENT, comment);
                w.bytes(elem::USERDATA, &userdata);
            }
        });
    }
}

/// First and last value of a key. Fields of a range set are compared as numbers in network order, marks too.
fn joined(
    spans: &[Span],
    types: &[KeyType],
    family: Family,
    ordered: bool,
) -> Result<(Vec<u8>, Vec<u8>), EncodeError> {
    if spans.len() != types.len() || spans.iter().zip(types).any(|(s, t)| s.key_type() != *t) {
        return Err(EncodeError(format!(
            "{} is not of type {types:?}",
            Key::of(spans)
        )));
    }
    if let [span] = spans {
        return ends(span, family);
    }
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (span, kind) in spans.iter().zip(types) {
        let (a, b) = ends(span, family)?;
        let room = padded(*kind, family);
        for (out, mut bytes) in [(&mut first, a), (&mut last, b)] {
            if ordered && *kind == KeyType::Mark && cfg!(target_endian = "little") {
                bytes.reverse();
            }
            bytes.resize(room, 0);
            out.append(&mut bytes);
        }
    }
    Ok((first, last))
}

fn data_attrs(element: &Element, def: &SetDef, family: Family) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    let mut w = AttrWriter::new(&mut out);
    match (element.data(), &def.data) {
        (None, None) | (Some(Data::Counter(_)), Some(DataType::Counter)) => {}
        (Some(Data::Verdict(v)), Some(DataType::Verdict)) => put_verdict(&mut w, v),
        (Some(Data::Value(value)), Some(DataType::Value(types))) => {
            let (first, last) = joined(value.spans(), types, family, false)?;
            if first != last {
                return Err(EncodeError(format!("a map cannot give a range ({value})")));
            }
            w.bytes(data::VALUE, &first);
        }
        (Some(_), None) => return Err(EncodeError("an element of a plain set has no data".into())),
        (_, Some(want)) => {
            return Err(EncodeError(format!(
                "an element of this map needs data of type {want:?}"
            )));
        }
    }
    Ok(out)
}

/// The kernel's one or two elements for one of ours.
pub(crate) fn wire_elements(
    key: &Key,
    element: &Element,
    def: &SetDef,
    family: Family,
) -> Result<SmallVec<[WireElement; 2]>, EncodeError> {
    let data = data_attrs(element, def, family)?;
    let comment = element.comment().map(comment_bytes).unwrap_or_default();
    let object = match element.data() {
        Some(Data::Counter(name)) => [name.as_str().as_bytes(), &[0]].concat(),
        _ => Vec::new(),
    };
    let mut extra = Extra {
        key_end: Vec::new(),
        data,
        object,
        comment,
    };
    if *key == Key::Any {
        return Ok(smallvec![WireElement::new(&[], elem::F_CATCH_ALL, extra)]);
    }
    let (from, to) = joined(key.spans(), &def.key, family, is_concat(def))?;
    if !def.interval && from != to {
        return Err(EncodeError(format!(
            "{key} is a range, but the set holds single values"
        )));
    }
    if is_concat(def) {
        extra.key_end = to;
        return Ok(smallvec![WireElement::new(&from, 0, extra)]);
    }
    let mut both = smallvec![WireElement::new(&from, 0, extra)];
    if let Some(behind) = successor(&to).filter(|_| def.interval) {
        both.push(WireElement::new(&behind, elem::F_END, Extra::default()));
    }
    Ok(both)
}

/// The elements in one message of a dump.
pub(crate) fn read_elements(attrs: Attrs<'_>, out: &mut Vec<WireElement>) {
    let Some(list) = attrs.find(elem::LIST_ELEMENTS) else {
        return;
    };
    for element in list.nested() {
        let attrs = element.nested();
        let value = |kind| {
            let nested = attrs.find(kind)?.nested();
            Some(nested.find(data::VALUE)?.value)
        };
        let flags = attrs.find(elem::FLAGS).and_then(|a| a.as_be32()).unwrap_or(0);
        let comment = attrs
            .find(elem::USERDATA)
            .and_then(|u| find_tlv(u.value, UD_ELEMENT_COMMENT));
        let extra = Extra {
            key_end: value(elem::KEY_END).unwrap_or_default().to_vec(),
            data: attrs.find(elem::DATA).map(read_data).unwrap_or_default(),
            object: attrs
                .find(elem::OBJREF)
                .map(|o| o.value.to_vec())
                .unwrap_or_default(),
            comment: comment.map(<[u8]>::to_vec).unwrap_or_default(),
        };
        out.push(WireElement::new(
            value(elem::KEY).unwrap_or_default(),
            flags,
            extra,
        ));
    }
}

/// Writes data again the way we write it, whatever flags and order the kernel used.
fn read_data(attr: caracal_netlink::Attr<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut w = AttrWriter::new(&mut out);
    if let Some(verdict) = attr.nested().find(data::VERDICT) {
        let (code, chain) = (
            verdict.nested().find(data::VERDICT_CODE),
            verdict.nested().find(data::VERDICT_CHAIN),
        );
        w.nest(data::VERDICT, |w| {
            if let Some(code) = code {
                w.bytes(data::VERDICT_CODE, code.value);
            }
            if let Some(chain) = chain.and_then(|c| c.as_str()) {
                w.str(data::VERDICT_CHAIN, chain);
            }
        });
    } else if let Some(value) = attr.nested().find(data::VALUE) {
        w.bytes(data::VALUE, value.value);
    }
    out
}
