//! From words to a tree.

use std::{collections::BTreeMap, iter::Peekable, vec::IntoIter};

use serde_json::Value;

use super::lex::{Piece, Word};

/// Deeper nesting is refused: it would end on the stack.
const DEEPEST: usize = 100;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    /// Prints a pipeline.
    Print(Pipeline),
    /// Sets a variable.
    Set {
        name: String,
        declares: bool,
        value: Pipeline,
    },
    If {
        /// A variable that has the value inside of both blocks.
        name: Option<Named>,
        test: Pipeline,
        /// `with`: the value becomes the dot.
        with: bool,
        yes: Vec<Node>,
        no: Vec<Node>,
    },
    Range {
        /// Variables for the index and the element; the element's alone if one is given.
        variables: Vec<Named>,
        over: Pipeline,
        each: Vec<Node>,
        none: Vec<Node>,
    },
    /// Another template, with its dot.
    Call {
        name: String,
        dot: Option<Pipeline>,
        line: usize,
    },
    Break,
    Continue,
}

/// A variable that gets a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Named {
    pub(super) name: String,
    /// It is a new one, and ends with its block.
    pub(super) declares: bool,
}

/// Templates by name.
pub(super) type Definitions = BTreeMap<String, Vec<Node>>;

/// Calls, each given the result of the one before as its last argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    pub(super) calls: Vec<Vec<Operand>>,
    pub(super) line: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operand {
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Base {
    Dot,
    /// Empty: the value that the template was given.
    Variable(String),
    Constant(Value),
    Function(String),
    Nested(Box<Pipeline>),
}

pub(super) fn parse(pieces: Vec<Piece>) -> Result<(Vec<Node>, Definitions), String> {
    let mut parser = Parser {
        pieces: pieces.into_iter(),
        loops: 0,
        definitions: Definitions::new(),
        called: Vec::new(),
    };
    let (nodes, end) = parser.block(0)?;
    match end {
        End::Template => {}
        End::Block { line } => {
            return Err(format!(
                "line {line}: end without if, with, range, define or block"
            ));
        }
        End::Else { line, .. } => return Err(format!("line {line}: else without if, with or range")),
    }
    for (name, line) in &parser.called {
        if !parser.definitions.contains_key(name) {
            return Err(format!("line {line}: there is no template {name:?}"));
        }
    }
    Ok((nodes, parser.definitions))
}

struct Parser {
    pieces: IntoIter<Piece>,
    loops: usize,
    definitions: Definitions,
    /// Templates that are used, and where.
    called: Vec<(String, usize)>,
}

/// What ends a block.
enum End {
    Template,
    Block { line: usize },
    Else { line: usize, words: Vec<Word> },
}

impl Parser {
    fn block(&mut self, depth: usize) -> Result<(Vec<Node>, End), String> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (words, line) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action { words, line } => (words, line),
            };
            if depth > DEEPEST {
                return Err(format!("line {line}: nested more than {DEEPEST} deep"));
            }
            match words.first() {
                Some(Word::Name(name)) if name == "end" => return Ok((nodes, End::Block { line })),
                Some(Word::Name(name)) if name == "else" => {
                    let words = words.into_iter().skip(1).collect();
                    return Ok((nodes, End::Else { line, words }));
                }
                _ => {}
            }
            let node = self.action(words, line, depth);
            nodes.push(node?);
        }
        Ok((nodes, End::Template))
    }

    fn action(&mut self, words: Vec<Word>, line: usize, depth: usize) -> Result<Node, String> {
        let keyword = match words.first() {
            Some(Word::Name(name)) => name.clone(),
            _ => String::new(),
        };
        let rest = |words: Vec<Word>| words.into_iter().skip(1).collect::<Vec<_>>();
        match keyword.as_str() {
            "if" | "with" => self.condition(&keyword, rest(words), line, depth),
            "range" => self.range(rest(words), line, depth),
            "break" | "continue" if self.loops == 0 => {
                Err(format!("line {line}: {keyword} outside of range"))
            }
            "break" => Ok(Node::Break),
            "continue" => Ok(Node::Continue),
            "template" | "block" => self.call(&keyword, rest(words), line, depth),
            // A definition leaves no trace where it stands.
            "define" if depth == 0 => self.define(rest(words), line),
            "define" => Err(format!("line {line}: define stands inside of nothing")),
            _ => assignment_or_print(words, line),
        }
    }

    /// `template "name" [value]`, and `block "name" value`, which defines it too.
    fn call(&mut self, keyword: &str, words: Vec<Word>, line: usize, depth: usize) -> Result<Node, String> {
        let Some((Word::Text(name), rest)) = words.split_first() else {
            return Err(format!(
                "line {line}: {keyword} needs the name of a template in quotes"
            ));
        };
        let dot = if rest.is_empty() && keyword == "template" {
            None
        } else {
            Some(whole_pipeline(rest.to_vec(), keyword, line)?)
        };
        if keyword == "block" {
            self.body(name, line, depth)?;
        }
        self.called.push((name.clone(), line));
        Ok(Node::Call {
            name: name.clone(),
            dot,
            line,
        })
    }

    fn define(&mut self, words: Vec<Word>, line: usize) -> Result<Node, String> {
        let [Word::Text(name)] = words.as_slice() else {
            return Err(format!(
                "line {line}: define needs a name in quotes, and nothing else"
            ));
        };
        self.body(name, line, 0)?;
        Ok(Node::Text(String::new()))
    }

    /// What is defined up to `end`; a later definition takes the place of an earlier one.
    fn body(&mut self, name: &str, line: usize, depth: usize) -> Result<(), String> {
        let loops = std::mem::take(&mut self.loops);
        let block = self.block(depth + 1);
        self.loops = loops;
        match block? {
            (nodes, End::Block { .. }) => {
                self.definitions.insert(name.to_owned(), nodes);
                Ok(())
            }
            (_, End::Template) => Err(format!("line {line}: the template {name:?} has no end")),
            (_, End::Else { line, .. }) => Err(format!("line {line}: else without if, with or range")),
        }
    }

    fn condition(
        &mut self,
        keyword: &str,
        words: Vec<Word>,
        line: usize,
        depth: usize,
    ) -> Result<Node, String> {
        let (name, words) = match words.as_slice() {
            [Word::Variable(name), Word::Assign { declares }, rest @ ..] => {
                (Some(named(name, *declares)), rest.to_vec())
            }
            _ => (None, words),
        };
        let test = whole_pipeline(words, keyword, line)?;
        let (yes, end) = self.block(depth + 1)?;
        let no = match end {
            End::Block { .. } => Vec::new(),
            End::Template => return Err(format!("line {line}: {keyword} has no end")),
            End::Else { words, line } => match words.split_first() {
                None => self.last_block(keyword, line, depth)?,
                // `else if` is an `if` in the else, without an end of its own.
                Some((Word::Name(next), test)) if next == "if" || next == "with" => {
                    vec![self.condition(next, test.to_vec(), line, depth + 1)?]
                }
                Some(_) => return Err(format!("line {line}: after else may stand if or with")),
            },
        };
        let with = keyword == "with";
        Ok(Node::If {
            name,
            test,
            with,
            yes,
            no,
        })
    }

    fn range(&mut self, words: Vec<Word>, line: usize, depth: usize) -> Result<Node, String> {
        let (variables, words) = match words.as_slice() {
            [
                Word::Variable(a),
                Word::Comma,
                Word::Variable(b),
                Word::Assign { declares },
                rest @ ..,
            ] => (vec![named(a, *declares), named(b, *declares)], rest.to_vec()),
            [Word::Variable(a), Word::Assign { declares }, rest @ ..] => {
                (vec![named(a, *declares)], rest.to_vec())
            }
            _ => (Vec::new(), words),
        };
        let over = whole_pipeline(words, "range", line)?;
        self.loops += 1;
        let block = self.block(depth + 1);
        self.loops -= 1;
        let (each, end) = block?;
        let none = match end {
            End::Block { .. } => Vec::new(),
            End::Template => return Err(format!("line {line}: range has no end")),
            End::Else { line, words } if words.is_empty() => self.last_block("range", line, depth)?,
            End::Else { line, .. } => return Err(format!("line {line}: after else of range stands nothing")),
        };
        Ok(Node::Range {
            variables,
            over,
            each,
            none,
        })
    }

    /// The block behind `else`.
    fn last_block(&mut self, keyword: &str, line: usize, depth: usize) -> Result<Vec<Node>, String> {
        match self.block(depth + 1)? {
            (nodes, End::Block { .. }) => Ok(nodes),
            (_, End::Template) => Err(format!("line {line}: {keyword} has no end")),
            (_, End::Else { line, .. }) => Err(format!("line {line}: a second else")),
        }
    }
}

fn named(name: &str, declares: bool) -> Named {
    Named {
        name: name.to_owned(),
        declares,
    }
}

fn assignment_or_print(words: Vec<Word>, line: usize) -> Result<Node, String> {
    if let [Word::Variable(name), Word::Assign { declares }, rest @ ..] = words.as_slice() {
        return Ok(Node::Set {
            name: name.clone(),
            declares: *declares,
            value: whole_pipeline(rest.to_vec(), "the assignment", line)?,
        });
    }
    whole_pipeline(words, "the action", line).map(Node::Print)
}

fn whole_pipeline(words: Vec<Word>, what: &str, line: usize) -> Result<Pipeline, String> {
    let mut words = words.into_iter().peekable();
    let pipeline = pipeline(&mut words, what, line, 0)?;
    match words.next() {
        None => Ok(pipeline),
        Some(_) => Err(format!("line {line}: ) without (")),
    }
}

fn pipeline(
    words: &mut Peekable<IntoIter<Word>>,
    what: &str,
    line: usize,
    depth: usize,
) -> Result<Pipeline, String> {
    if depth > DEEPEST {
        return Err(format!("line {line}: nested more than {DEEPEST} deep"));
    }
    let mut calls = vec![Vec::new()];
    while let Some(word) = words.next_if(|w| *w != Word::Close) {
        let base = match word {
            Word::Pipe => {
                calls.push(Vec::new());
                continue;
            }
            Word::Open => {
                let nested = pipeline(words, "the brackets", line, depth + 1)?;
                if words.next() != Some(Word::Close) {
                    return Err(format!("line {line}: ( without )"));
                }
                Base::Nested(Box::new(nested))
            }
            Word::Dot => Base::Dot,
            Word::Variable(name) => Base::Variable(name),
            Word::Text(text) => Base::Constant(Value::String(text)),
            Word::Number(n) => Base::Constant(Value::Number(n)),
            Word::Name(name) => match name.as_str() {
                "true" => Base::Constant(Value::Bool(true)),
                "false" => Base::Constant(Value::Bool(false)),
                "nil" => Base::Constant(Value::Null),
                _ => Base::Function(name),
            },
            Word::Field { name, .. } => {
                calls.last_mut().into_iter().for_each(|call: &mut Vec<Operand>| {
                    call.push(Operand {
                        base: Base::Dot,
                        fields: vec![name.clone()],
                    });
                });
                fields(words, &mut calls);
                continue;
            }
            Word::Close | Word::Comma | Word::Assign { .. } => {
                return Err(format!("line {line}: a comma or assignment means nothing here"));
            }
        };
        if let Some(call) = calls.last_mut() {
            call.push(Operand {
                base,
                fields: Vec::new(),
            });
        }
        fields(words, &mut calls);
    }
    if calls.iter().any(Vec::is_empty) {
        return Err(format!("line {line}: {what} lacks a value"));
    }
    let nil = |call: &Vec<Operand>| call[0].base == Base::Constant(Value::Null);
    if calls.iter().any(nil) {
        return Err(format!("line {line}: nil is no command"));
    }
    Ok(Pipeline { calls, line })
}

/// The fields that directly follow a word belong to it.
fn fields(words: &mut Peekable<IntoIter<Word>>, calls: &mut [Vec<Operand>]) {
    while let Some(Word::Field { name, .. }) = words.next_if(|w| matches!(w, Word::Field { glued: true, .. }))
    {
        if let Some(operand) = calls.last_mut().and_then(|c| c.last_mut()) {
            operand.fields.push(name);
        }
    }
}
