//! Tokens to expression, without recursion: open groups wait on an explicit stack.

use crate::error::ParseError;
use crate::lexer::{Kind, Lexer, OPERATORS, Token, operator_hint};
use crate::node::{Node, Test, Values};

/// How many parentheses may be open at once. Calico's API takes selectors of up to 1024 characters,
/// which cannot hold more.
const MAX_OPEN: usize = 1024;

/// How deep `&&` and `||` may sit in each other. The canonical form puts each in parentheses of its
/// own, so this must not be more than [`MAX_OPEN`]. A level costs at least nine characters.
const MAX_DEPTH: usize = 512;

const OPERAND: &str = "a label name, has(…), all(), global(), '!' or '('";
const CONNECTIVE: &str = "&&, || or the end of the text";
const CONNECTIVE_IN_GROUP: &str = "&&, || or ')'";
const STRING: &str = "a string in quotes";

/// An expression and how deep `&&` and `||` are nested in it.
struct Part {
    node: Node,
    depth: usize,
}

/// A parenthesis (or the whole text) whose end has not come yet.
struct Group {
    at: usize,
    negated: bool,
    /// Finished operands of `||`.
    any: Vec<Part>,
    /// Operands of the `&&` that is being read.
    every: Vec<Part>,
}

impl Group {
    fn new(at: usize, negated: bool) -> Self {
        Self {
            at,
            negated,
            any: Vec::new(),
            every: Vec::new(),
        }
    }

    fn push(&mut self, part: Part, negated: bool) {
        let node = if negated { part.node.negate() } else { part.node };
        self.every.push(Part {
            node,
            depth: part.depth,
        });
    }

    fn end_and(&mut self) {
        let part = join(std::mem::take(&mut self.every), Node::And);
        self.any.push(part);
    }

    fn finish(mut self) -> Part {
        self.end_and();
        join(self.any, Node::Or)
    }
}

/// One part stays as it is, several become one.
fn join(mut parts: Vec<Part>, combine: fn(std::sync::Arc<[Node]>) -> Node) -> Part {
    if parts.len() == 1
        && let Some(part) = parts.pop()
    {
        return part;
    }
    let depth = 1 + parts.iter().map(|part| part.depth).max().unwrap_or(0);
    Part {
        node: combine(parts.into_iter().map(|part| part.node).collect()),
        depth,
    }
}

pub(crate) fn parse(text: &str) -> Result<Node, ParseError> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
    };
    let first = parser.lexer.next()?;
    if first.kind == Kind::End {
        return Ok(Node::All);
    }
    parser.expression(first)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
}

impl<'a> Parser<'a> {
    fn expression(&mut self, first: Token<'a>) -> Result<Node, ParseError> {
        let mut outer: Vec<Group> = Vec::new();
        let mut group = Group::new(0, false);
        let mut token = first;
        loop {
            // An operand begins here.
            let mut negated = false;
            while token.kind == Kind::Not {
                negated = !negated;
                token = self.lexer.next()?;
            }
            if token.kind == Kind::Open {
                if outer.len() == MAX_OPEN {
                    return Err(self.too_deep(token.at));
                }
                outer.push(std::mem::replace(&mut group, Group::new(token.at, negated)));
                token = self.lexer.next()?;
                continue;
            }
            group.push(
                Part {
                    node: self.term(token)?,
                    depth: 0,
                },
                negated,
            );
            // The operand is complete; groups may end here.
            loop {
                token = self.lexer.next()?;
                match token.kind {
                    Kind::And => break,
                    Kind::Or => {
                        group.end_and();
                        break;
                    }
                    Kind::Close => {
                        let Some(parent) = outer.pop() else {
                            let error = self.error(token, CONNECTIVE);
                            return Err(error.with_hint("this parenthesis was never opened"));
                        };
                        let ended = std::mem::replace(&mut group, parent);
                        let (at, negated) = (ended.at, ended.negated);
                        let part = ended.finish();
                        if part.depth > MAX_DEPTH {
                            return Err(self.too_deep(at));
                        }
                        group.push(part, negated);
                    }
                    Kind::End if outer.is_empty() => {
                        let part = group.finish();
                        return if part.depth > MAX_DEPTH {
                            Err(self.too_deep(0))
                        } else {
                            Ok(part.node)
                        };
                    }
                    Kind::End => {
                        let error =
                            ParseError::new(self.lexer.text(), group.at, "'(' that is never closed", "')'");
                        return Err(error.with_hint("add the missing ')'"));
                    }
                    _ => return Err(self.no_connective(token, outer.is_empty())),
                }
            }
            token = self.lexer.next()?;
        }
    }

    /// One comparison or function.
    fn term(&mut self, token: Token<'a>) -> Result<Node, ParseError> {
        let label = match token.kind {
            Kind::All => return Ok(Node::All),
            Kind::Global => return Ok(Node::Global),
            Kind::Has(name) => return Ok(Node::label(name, Test::Has)),
            Kind::Label(name) => name,
            Kind::Value(_) => {
                return Err(self
                    .error(token, OPERAND)
                    .with_hint("label names are written without quotes"));
            }
            _ => return Err(self.error(token, OPERAND)),
        };
        let operator = self.lexer.next()?;
        let test = match operator.kind {
            Kind::Equal => Test::Equal(self.value()?.into()),
            Kind::NotEqual => Test::NotEqual(self.value()?.into()),
            Kind::Contains => Test::Contains(self.value()?.into()),
            Kind::StartsWith => Test::StartsWith(self.value()?.into()),
            Kind::EndsWith => Test::EndsWith(self.value()?.into()),
            Kind::In => Test::In(self.values()?),
            Kind::NotIn => Test::NotIn(self.values()?),
            _ => return Err(self.error(operator, OPERATORS).with_hint_if(operator_hint(label))),
        };
        Ok(Node::label(label, test))
    }

    fn value(&mut self) -> Result<&'a str, ParseError> {
        let token = self.lexer.next()?;
        match token.kind {
            Kind::Value(value) => Ok(value),
            _ => Err(self.no_string(token, STRING)),
        }
    }

    fn values(&mut self) -> Result<Values, ParseError> {
        let token = self.lexer.next()?;
        if token.kind != Kind::OpenBrace {
            let error = self.error(token, "'{'");
            return Err(error.with_hint("a set of values is written {\"a\", \"b\"}"));
        }
        let mut values = Vec::new();
        loop {
            let token = self.lexer.next()?;
            match token.kind {
                Kind::CloseBrace => break,
                Kind::Value(value) => values.push(value),
                _ => return Err(self.no_string(token, "a string in quotes or '}'")),
            }
            let token = self.lexer.next()?;
            match token.kind {
                Kind::CloseBrace => break,
                // A comma may trail.
                Kind::Comma => {}
                _ => return Err(self.error(token, "',' or '}'")),
            }
        }
        Ok(Values::new(values))
    }

    fn error(&self, token: Token<'_>, expected: &'static str) -> ParseError {
        ParseError::new(self.lexer.text(), token.at, token.kind.describe(), expected)
    }

    fn no_string(&self, token: Token<'_>, expected: &'static str) -> ParseError {
        let error = self.error(token, expected);
        match token.kind {
            Kind::Label(word) if word.len() <= 63 => {
                error.with_hint(format!("put the value in quotes: \"{word}\""))
            }
            Kind::Label(_) => error.with_hint("put the value in quotes"),
            _ => error,
        }
    }

    fn no_connective(&self, token: Token<'_>, outermost: bool) -> ParseError {
        let error = self.error(
            token,
            if outermost {
                CONNECTIVE
            } else {
                CONNECTIVE_IN_GROUP
            },
        );
        match token.kind {
            Kind::Comma => error.with_hint("to require both sides, write &&"),
            Kind::Label("and" | "AND" | "And") => error.with_hint("for 'and', write &&"),
            Kind::Label("or" | "OR" | "Or") => error.with_hint("for 'or', write ||"),
            _ => error,
        }
    }

    fn too_deep(&self, at: usize) -> ParseError {
        let error = ParseError::new(
            self.lexer.text(),
            at,
            "too many groups inside each other",
            "a flatter selector",
        );
        error.with_hint("take out parentheses that change nothing, or use in {…}")
    }
}
