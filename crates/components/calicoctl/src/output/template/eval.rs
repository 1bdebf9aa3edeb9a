//! From a tree and a value to a text.

use serde_json::Value;

use super::{
    format,
    functions::{self, truth},
    parse::{Base, Definitions, Named, Node, Operand, Pipeline},
};

/// More output than this is a mistake.
const MOST: usize = 1 << 30;

/// Templates inside of templates: deeper is a circle.
const DEEPEST: usize = 100;

/// Rounds of a range over a number: more would take for ever.
const MOST_ROUNDS: i64 = 1_000_000;

/// Templates used: more would take for ever.
const MOST_CALLS: usize = 1_000_000;

pub(super) fn render(nodes: &[Node], definitions: &Definitions, data: &Value) -> Result<String, String> {
    let mut run = Run {
        root: data,
        definitions,
        variables: Vec::new(),
        out: String::new(),
        depth: 0,
        calls: 0,
    };
    run.block(nodes, data)?;
    Ok(run.out)
}

struct Run<'d> {
    root: &'d Value,
    definitions: &'d Definitions,
    /// The innermost last.
    variables: Vec<(String, Value)>,
    out: String,
    /// How many templates are inside of one another here.
    depth: usize,
    calls: usize,
}

/// How a block was left.
#[derive(PartialEq)]
enum Left {
    AtItsEnd,
    ByBreak,
    ByContinue,
}

impl Run<'_> {
    /// Runs a block; its variables end with it.
    fn block(&mut self, nodes: &[Node], dot: &Value) -> Result<Left, String> {
        let outside = self.variables.len();
        let mut left = Left::AtItsEnd;
        for node in nodes {
            left = self.node(node, dot)?;
            if left != Left::AtItsEnd {
                break;
            }
        }
        self.variables.truncate(outside);
        Ok(left)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Left, String> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                self.out.push_str(&format::printed(&value));
            }
            Node::Set {
                name,
                declares,
                value,
            } => {
                let line = value.line;
                let value = self.pipeline(value, dot)?;
                self.set(name, *declares, value, line)?;
            }
            Node::If {
                name,
                test,
                with,
                yes,
                no,
            } => {
                let value = self.pipeline(test, dot)?;
                let outside = self.variables.len();
                if let Some(Named { name, declares }) = name {
                    self.set(name, *declares, value.clone(), test.line)?;
                }
                let left = match (truth(&value), with) {
                    (true, true) => self.block(yes, &value),
                    (true, false) => self.block(yes, dot),
                    (false, _) => self.block(no, dot),
                };
                self.variables.truncate(outside);
                return left;
            }
            Node::Range {
                variables,
                over,
                each,
                none,
            } => return self.range(variables, over, each, none, dot),
            Node::Call {
                name,
                dot: with,
                line,
            } => {
                let value = match with {
                    Some(pipeline) => self.pipeline(pipeline, dot)?,
                    None => Value::Null,
                };
                self.template(name, &value, *line)?;
            }
            Node::Break => return Ok(Left::ByBreak),
            Node::Continue => return Ok(Left::ByContinue),
        }
        if self.out.len() > MOST {
            return Err("the output is larger than a gigabyte".to_owned());
        }
        Ok(Left::AtItsEnd)
    }

    /// Runs another template: it sees its own value only.
    fn template(&mut self, name: &str, value: &Value, line: usize) -> Result<(), String> {
        let Some(nodes) = self.definitions.get(name) else {
            return Err(format!("line {line}: there is no template {name:?}"));
        };
        if self.depth >= DEEPEST || self.calls >= MOST_CALLS {
            return Err(format!("line {line}: the template {name:?} leads back to itself"));
        }
        let mut inner = Run {
            root: value,
            definitions: self.definitions,
            variables: Vec::new(),
            out: std::mem::take(&mut self.out),
            depth: self.depth + 1,
            calls: self.calls + 1,
        };
        let outcome = inner.block(nodes, value);
        self.calls = inner.calls;
        self.out = inner.out;
        outcome.map(drop)
    }

    fn range(
        &mut self,
        names: &[Named],
        over: &Pipeline,
        each: &[Node],
        none: &[Node],
        dot: &Value,
    ) -> Result<Left, String> {
        let items: Vec<(Value, Value)> = match self.pipeline(over, dot)? {
            Value::Array(items) => items
                .into_iter()
                .enumerate()
                .map(|(i, v)| (Value::from(i), v))
                .collect(),
            Value::Object(fields) => {
                let mut items: Vec<(String, Value)> = fields.into_iter().collect();
                items.sort_by(|a, b| a.0.cmp(&b.0));
                items.into_iter().map(|(k, v)| (Value::from(k), v)).collect()
            }
            Value::Null => Vec::new(),
            Value::Number(n) if !n.is_f64() => {
                let most = n.as_i64().unwrap_or(i64::MAX);
                if most > MOST_ROUNDS {
                    return Err(format!("line {}: range over {n} would take for ever", over.line));
                }
                (0..most).map(|i| (Value::from(i), Value::from(i))).collect()
            }
            other => {
                return Err(format!(
                    "line {}: range cannot go over {}",
                    over.line,
                    format::glimpse(&other)
                ));
            }
        };
        if items.is_empty() {
            return self.block(none, dot);
        }
        for (key, item) in items {
            let outside = self.variables.len();
            match names {
                [index, element] => {
                    self.set(&index.name, index.declares, key, over.line)?;
                    self.set(&element.name, element.declares, item.clone(), over.line)?;
                }
                [element] => self.set(&element.name, element.declares, item.clone(), over.line)?,
                _ => {}
            }
            let left = self.block(each, &item)?;
            self.variables.truncate(outside);
            if left == Left::ByBreak {
                break;
            }
        }
        Ok(Left::AtItsEnd)
    }

    fn set(&mut self, name: &str, declares: bool, value: Value, line: usize) -> Result<(), String> {
        if declares {
            self.variables.push((name.to_owned(), value));
        } else {
            *self.variable(name, line)? = value;
        }
        Ok(())
    }

    fn variable(&mut self, name: &str, line: usize) -> Result<&mut Value, String> {
        let found = self.variables.iter_mut().rev().find(|(n, _)| n == name);
        found
            .map(|(_, v)| v)
            .ok_or_else(|| format!("line {line}: there is no variable ${name}"))
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut result = None;
        for call in &pipeline.calls {
            let value = self.call(call, dot, result.take(), pipeline.line);
            result = Some(value?);
        }
        Ok(result.unwrap_or(Value::Null))
    }

    fn call(
        &mut self,
        call: &[Operand],
        dot: &Value,
        piped: Option<Value>,
        line: usize,
    ) -> Result<Value, String> {
        let Some((first, others)) = call.split_first() else {
            return Ok(Value::Null);
        };
        if let Base::Function(name) = &first.base {
            if matches!(name.as_str(), "and" | "or") {
                return self.decide(name == "or", others, dot, piped, line);
            }
            let mut arguments = Vec::with_capacity(others.len() + 1);
            for operand in others {
                arguments.push(self.operand(operand, dot, line)?);
            }
            arguments.extend(piped);
            let at = |e| format!("line {line}: {e}");
            return fields(functions::call(name, arguments).map_err(at)?, &first.fields).map_err(at);
        }
        if piped.is_some() || !others.is_empty() {
            return Err(format!("line {line}: only a function takes arguments"));
        }
        self.operand(first, dot, line)
    }

    /// `and` and `or`: the first value that decides, else the last; what stands behind it is not looked at.
    fn decide(
        &mut self,
        or: bool,
        operands: &[Operand],
        dot: &Value,
        piped: Option<Value>,
        line: usize,
    ) -> Result<Value, String> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot, line)?;
            if truth(&value) == or {
                return Ok(value);
            }
            last = Some(value);
        }
        let word = if or { "or" } else { "and" };
        piped
            .or(last)
            .ok_or_else(|| format!("line {line}: {word} needs an argument"))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value, line: usize) -> Result<Value, String> {
        let at = |e| format!("line {line}: {e}");
        match &operand.base {
            Base::Dot => field_path(dot, &operand.fields).map_err(at),
            Base::Variable(name) if name.is_empty() => field_path(self.root, &operand.fields).map_err(at),
            Base::Variable(name) => field_path(self.variable(name, line)?, &operand.fields).map_err(at),
            Base::Constant(value) => fields(value.clone(), &operand.fields).map_err(at),
            Base::Function(name) => functions::call(name, Vec::new())
                .and_then(|v| fields(v, &operand.fields))
                .map_err(at),
            Base::Nested(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                fields(value, &operand.fields).map_err(at)
            }
        }
    }
}

fn fields(value: Value, path: &[String]) -> Result<Value, String> {
    if path.is_empty() {
        return Ok(value);
    }
    field_path(&value, path)
}

fn field_path(value: &Value, path: &[String]) -> Result<Value, String> {
    let Some((name, rest)) = path.split_first() else {
        return Ok(value.clone());
    };
    match field(value, name)? {
        Field::There(next) => field_path(next, rest),
        Field::Made(next) => field_path(&next, rest),
        Field::Missing => Ok(Value::Null),
    }
}

enum Field<'v> {
    There(&'v Value),
    Made(Value),
    Missing,
}

/// A field by its name in JSON or in Calico's Go types: in any case, `ObjectMeta` for `metadata`, the fields of the
/// metadata on the object itself. `Items` of an object that is no list is the object: templates written for lists work
/// on single objects, and on the outer list of what was found.
fn field<'v>(value: &'v Value, name: &str) -> Result<Field<'v>, String> {
    let there = |v: Option<&'v Value>| v.map_or(Field::Missing, Field::There);
    match value {
        Value::Null => Ok(Field::Missing),
        Value::Object(fields) => {
            if let Some(found) = fields.get(name) {
                return Ok(Field::There(found));
            }
            let same = |n: &str| {
                fields
                    .iter()
                    .find(|(k, _)| k.eq_ignore_ascii_case(n))
                    .map(|(_, v)| v)
            };
            if let Some(found) = same(name) {
                return Ok(Field::There(found));
            }
            Ok(match name {
                "ObjectMeta" | "ListMeta" => there(fields.get("metadata")),
                "TypeMeta" => Field::There(value),
                _ if name.eq_ignore_ascii_case("items") && fields.contains_key("kind") => {
                    Field::Made(Value::Array(vec![value.clone()]))
                }
                _ => match fields.get("metadata").filter(|_| fields.contains_key("kind")) {
                    Some(meta) => field(meta, name)?,
                    None => Field::Missing,
                },
            })
        }
        Value::Array(items) if name.eq_ignore_ascii_case("items") => {
            let mut all = Vec::new();
            for item in items {
                match field_path(item, &[name.to_owned()])? {
                    Value::Array(inner) => all.extend(inner),
                    other => all.push(other),
                }
            }
            Ok(Field::Made(Value::Array(all)))
        }
        other => Err(format!("there is no field {name} in {}", format::glimpse(other))),
    }
}
