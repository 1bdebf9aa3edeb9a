//! Evaluation.

use std::{cmp::Ordering, net::IpAddr};

use serde_json::Value;

use super::{
    net::{self, Range},
    parse::{Comparison, Expr},
};
use crate::{Schema, Type};

/// A value of an object, with its schema: a number is whole or not by its schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'v> {
    pub(crate) value: &'v Value,
    pub(crate) schema: &'v Schema,
}

/// What an expression yields.
#[derive(Debug, Clone)]
enum Val<'v> {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(&'v str),
    /// An object or a list.
    Part(Place<'v>),
    Ip(IpAddr),
    Range(Range),
}

type Answer<'v> = Result<Val<'v>, String>;

/// Whether a rule holds for a value.
///
/// # Errors
/// When it has no answer: a field is missing, a type is wrong, a text is no address.
pub(super) fn holds(rule: &Expr, at: Place<'_>) -> Result<bool, String> {
    let scope = Scope {
        name: "self",
        at,
        outer: None,
    };
    scope.test(rule)
}

/// The names that an expression can use.
struct Scope<'s, 'v> {
    name: &'s str,
    at: Place<'v>,
    outer: Option<&'s Scope<'s, 'v>>,
}

impl<'v> Scope<'_, 'v> {
    fn test(&self, e: &'v Expr) -> Result<bool, String>
    where
        'v: 'v,
    {
        match self.eval(e)? {
            Val::Bool(b) => Ok(b),
            other => Err(format!("{other:?} is neither true nor false")),
        }
    }

    fn eval(&self, e: &'v Expr) -> Answer<'v> {
        Ok(match e {
            Expr::Bool(b) => Val::Bool(*b),
            Expr::Int(n) => Val::Int(*n),
            Expr::Double(n) => Val::Double(*n),
            Expr::Text(t) => Val::Text(t),
            Expr::Name(name) => return self.lookup(name),
            Expr::Not(e) => Val::Bool(!self.test(e)?),
            // One side that decides is enough, whatever the other one is.
            Expr::And(a, b) => Val::Bool(decided(self.test(a), || self.test(b), false)?),
            Expr::Or(a, b) => Val::Bool(decided(self.test(a), || self.test(b), true)?),
            Expr::Compare(how, a, b) => Val::Bool(compare(*how, &self.eval(a)?, &self.eval(b)?)?),
            Expr::If(test, yes, no) => return self.eval(if self.test(test)? { yes } else { no }),
            Expr::Field(of, field) => {
                let found = field_of(&self.eval(of)?, field)?;
                return found.ok_or_else(|| format!("there is no {field}")).and_then(read);
            }
            Expr::Has(of, field) => Val::Bool(field_of(&self.eval(of)?, field)?.is_some()),
            Expr::Exists(of, name, test) => return self.exists(&self.eval(of)?, name, test),
            Expr::Call(name, args) => {
                let args = args.iter().map(|a| self.eval(a)).collect::<Result<Vec<_>, _>>()?;
                return call(name, &args);
            }
        })
    }

    fn lookup(&self, name: &str) -> Answer<'v> {
        if self.name == name {
            return read(self.at);
        }
        match self.outer {
            Some(outer) => outer.lookup(name),
            None => Err(format!("{name} is not known")),
        }
    }

    fn exists(&self, list: &Val<'v>, name: &str, test: &'v Expr) -> Answer<'v> {
        let Val::Part(Place {
            value: Value::Array(items),
            schema,
        }) = list
        else {
            return Err(format!("{list:?} is no list"));
        };
        let schema = schema.items.as_deref().ok_or("a list without entries")?;
        let mut answer = Ok(false);
        for value in items {
            let at = Place { value, schema };
            let scope = Scope {
                name,
                at,
                outer: Some(self),
            };
            answer = decided(answer, || scope.test(test), true);
        }
        answer.map(Val::Bool)
    }
}

fn decided(
    a: Result<bool, String>,
    b: impl FnOnce() -> Result<bool, String>,
    decides: bool,
) -> Result<bool, String> {
    match a {
        Ok(a) if a == decides => Ok(decides),
        Ok(_) => b(),
        Err(why) => match b() {
            Ok(b) if b == decides => Ok(decides),
            _ => Err(why),
        },
    }
}

/// A value of the object; what its schema says decides what it is.
fn read(at: Place<'_>) -> Answer<'_> {
    let wrong = || format!("{} has the wrong type", at.value);
    Ok(match at.value {
        Value::Bool(b) => Val::Bool(*b),
        Value::String(t) => Val::Text(t),
        Value::Number(n) => match at.schema.value_type {
            Some(Type::Number) => Val::Double(n.as_f64().ok_or_else(wrong)?),
            _ => Val::Int(n.as_i64().ok_or_else(wrong)?),
        },
        Value::Array(_) | Value::Object(_) => Val::Part(at),
        Value::Null => return Err(wrong()),
    })
}

fn field_of<'v>(of: &Val<'v>, field: &str) -> Result<Option<Place<'v>>, String> {
    /// What is known of fields that the schema does not name.
    static FREE: Schema = Schema::FREE;
    match of {
        Val::Part(Place {
            value: Value::Object(fields),
            schema,
        }) => Ok(fields.get(field).map(|value| Place {
            value,
            schema: schema
                .properties
                .get(field)
                .or(schema.additional.as_deref())
                .unwrap_or(&FREE),
        })),
        other => Err(format!("{other:?} has no fields")),
    }
}

fn compare(how: Comparison, a: &Val<'_>, b: &Val<'_>) -> Result<bool, String> {
    let order = match (a, b) {
        (Val::Int(a), Val::Int(b)) => Some(a.cmp(b)),
        // The numbers in rules are far below what a float can tell apart.
        (Val::Int(a), Val::Double(b)) => (*a as f64).partial_cmp(b),
        (Val::Double(a), Val::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Val::Double(a), Val::Double(b)) => a.partial_cmp(b),
        (Val::Text(a), Val::Text(b)) => Some(a.cmp(b)),
        _ => None,
    };
    let equal = match (a, b) {
        (Val::Bool(a), Val::Bool(b)) => a == b,
        (Val::Ip(a), Val::Ip(b)) => a == b,
        (Val::Range(a), Val::Range(b)) => a == b,
        (Val::Part(a), Val::Part(b)) => a.value == b.value,
        _ => order == Some(Ordering::Equal),
    };
    let ordered = || order.ok_or_else(|| format!("{a:?} and {b:?} have no order"));
    Ok(match how {
        Comparison::Equal => equal,
        Comparison::Unequal => !equal,
        Comparison::Less => ordered()?.is_lt(),
        Comparison::LessOrEqual => ordered()?.is_le(),
        Comparison::Greater => ordered()?.is_gt(),
        Comparison::GreaterOrEqual => ordered()?.is_ge(),
    })
}

fn call<'v>(name: &str, args: &[Val<'v>]) -> Answer<'v> {
    Ok(match (name, args) {
        ("size", [Val::Text(t)]) => Val::Int(count(t.chars().count())),
        (
            "size",
            [
                Val::Part(Place {
                    value: Value::Array(items),
                    ..
                }),
            ],
        ) => Val::Int(count(items.len())),
        (
            "size",
            [
                Val::Part(Place {
                    value: Value::Object(fields),
                    ..
                }),
            ],
        ) => Val::Int(count(fields.len())),
        ("contains", [Val::Text(t), Val::Text(part)]) => Val::Bool(t.contains(part)),
        ("startsWith", [Val::Text(t), Val::Text(start)]) => Val::Bool(t.starts_with(start)),
        ("isIP", [Val::Text(t)]) => Val::Bool(net::ip(t).is_ok()),
        ("ip", [Val::Text(t)]) => Val::Ip(net::ip(t)?),
        ("isCIDR", [Val::Text(t)]) => Val::Bool(net::range(t).is_ok()),
        ("cidr", [Val::Text(t)]) => Val::Range(net::range(t)?),
        ("family", [Val::Ip(a)]) => Val::Int(net::family(*a)),
        ("ip", [Val::Range(r)]) => Val::Ip(r.addr),
        ("masked", [Val::Range(r)]) => Val::Range(r.masked()),
        ("prefixLength", [Val::Range(r)]) => Val::Int(r.len.into()),
        ("containsIP", [Val::Range(r), Val::Ip(a)]) => Val::Bool(r.contains(*a)),
        ("containsIP", [Val::Range(r), Val::Text(t)]) => Val::Bool(r.contains(net::ip(t)?)),
        _ => return Err(format!("{name} is not possible with {args:?}")),
    })
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
