//! From Rust types to schemas.

use std::collections::BTreeMap;

use caracal_api::{AsNumber, IntOrString, Port, Protocol};

use crate::schema::{Schema, Type};

/// A type whose values have a schema.
pub(crate) trait Shape {
    /// The schema of its values.
    fn shape() -> Schema;
}

/// The schema of the field that a function yields.
pub(crate) fn field_of<S, T: Shape>(_: fn(&S) -> &T) -> Schema {
    T::shape()
}

/// The schema of a struct: `field "name in JSON" .what it may be;`, each field once, then `[.rules of the whole]`. A
/// field that the struct has and the list has not, or the other way round, does not compile.
macro_rules! object {
    ($ty:ident { $($field:ident $json:literal $(. $method:ident ( $($arg:expr),* $(,)? ))* ;)* }
     $([ $(. $whole:ident ( $($wa:expr),* $(,)? ))* ])?) => {
        impl $crate::shape::Shape for $ty {
            fn shape() -> $crate::schema::Schema {
                let _ = |all: &$ty| { let $ty { $($field: _),* } = all; };
                $crate::schema::Schema::object()
                    $(.with($json, $crate::shape::field_of(|s: &$ty| &s.$field)
                        .documented(stringify!($ty), stringify!($field))
                        $(.$method($($arg),*))*))*
                    $($(.$whole($($wa),*))*)?
            }
        }
    };
}

/// The schema of an enum of words: each variant once.
macro_rules! words {
    ($($ty:ident { $($variant:ident),* })*) => {
        $(impl $crate::shape::Shape for $ty {
            fn shape() -> $crate::schema::Schema {
                let _ = |one: &$ty| match one { $($ty::$variant => ()),* };
                let words = [$($ty::$variant),*].iter().map(|w| serde_json::to_value(w).unwrap_or_default());
                $crate::schema::Schema { words: words.collect(), ..$crate::schema::Schema::string() }
            }
        })*
    };
}

pub(crate) use {object, words};

macro_rules! plain {
    ($($schema_type:ident: $($ty:ty),*;)*) => {
        $($(impl Shape for $ty {
            fn shape() -> Schema {
                Schema::of_type(Type::$schema_type)
            }
        })*)*
    };
}

plain! {
    String: String;
    Boolean: bool;
    Number: f64;
    Integer: u8, u16, i32, i64, u64, usize;
}

impl Shape for AsNumber {
    fn shape() -> Schema {
        Schema::of_type(Type::Integer).format("int32")
    }
}

impl Shape for Port {
    fn shape() -> Schema {
        Schema::number_or_text()
    }
}

impl Shape for Protocol {
    fn shape() -> Schema {
        Schema::number_or_text()
    }
}

impl Shape for IntOrString {
    fn shape() -> Schema {
        Schema {
            pattern: None,
            ..Schema::number_or_text()
        }
    }
}

impl<T: Shape> Shape for Option<T> {
    fn shape() -> Schema {
        T::shape()
    }
}

impl<T: Shape> Shape for Vec<T> {
    fn shape() -> Schema {
        Schema::list(T::shape())
    }
}

impl<T: Shape> Shape for BTreeMap<String, T> {
    fn shape() -> Schema {
        Schema::map(T::shape())
    }
}
