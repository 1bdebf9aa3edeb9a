//! Expressions.

use super::lex::{Token, tokens};

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Name(String),
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `e.field`.
    Field(Box<Expr>, String),
    /// `has(e.field)`.
    Has(Box<Expr>, String),
    /// `f(args)`, or `e.f(args)` with `e` first.
    Call(String, Vec<Expr>),
    /// `e.exists(name, test)`.
    Exists(Box<Expr>, String, Box<Expr>),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Reads an expression.
///
/// # Errors
/// Says what was found and what was expected.
pub(super) fn parse(text: &str) -> Result<Expr, String> {
    let mut p = Parser {
        tokens: tokens(text)?,
        at: 0,
    };
    let e = p.choice()?;
    match p.tokens.get(p.at) {
        None => Ok(e),
        Some(t) => Err(format!("{t:?} follows the expression")),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Sign(s)) if *s == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.sign(sign) {
            return Ok(());
        }
        Err(format!("{sign:?} expected, not {:?}", self.tokens.get(self.at)))
    }

    fn ident(&mut self) -> Result<String, String> {
        match self.tokens.get(self.at) {
            Some(Token::Ident(name)) => {
                self.at += 1;
                Ok(name.clone())
            }
            other => Err(format!("a name expected, not {other:?}")),
        }
    }

    fn choice(&mut self) -> Result<Expr, String> {
        let test = self.or()?;
        if !self.sign("?") {
            return Ok(test);
        }
        let yes = self.choice()?;
        self.expect(":")?;
        Ok(Expr::If(Box::new(test), Box::new(yes), Box::new(self.choice()?)))
    }

    fn or(&mut self) -> Result<Expr, String> {
        let mut e = self.and()?;
        while self.sign("||") {
            e = Expr::Or(Box::new(e), Box::new(self.and()?));
        }
        Ok(e)
    }

    fn and(&mut self) -> Result<Expr, String> {
        let mut e = self.comparison()?;
        while self.sign("&&") {
            e = Expr::And(Box::new(e), Box::new(self.comparison()?));
        }
        Ok(e)
    }

    fn comparison(&mut self) -> Result<Expr, String> {
        let mut e = self.unary()?;
        while let Some(how) = self.comparison_sign() {
            e = Expr::Compare(how, Box::new(e), Box::new(self.unary()?));
        }
        Ok(e)
    }

    fn comparison_sign(&mut self) -> Option<Comparison> {
        let all = [
            ("==", Comparison::Equal),
            ("!=", Comparison::Unequal),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        all.into_iter()
            .find(|(sign, _)| self.sign(sign))
            .map(|(_, how)| how)
    }

    fn unary(&mut self) -> Result<Expr, String> {
        if self.sign("!") {
            return Ok(Expr::Not(Box::new(self.unary()?)));
        }
        self.member()
    }

    fn member(&mut self) -> Result<Expr, String> {
        let mut e = self.primary()?;
        while self.sign(".") {
            let name = self.ident()?;
            if !self.sign("(") {
                e = Expr::Field(Box::new(e), name);
            } else if name == "exists" {
                let bound = self.ident()?;
                self.expect(",")?;
                let test = self.choice()?;
                self.expect(")")?;
                e = Expr::Exists(Box::new(e), bound, Box::new(test));
            } else {
                let mut args = vec![e];
                args.extend(self.arguments()?);
                e = Expr::Call(name, args);
            }
        }
        Ok(e)
    }

    fn primary(&mut self) -> Result<Expr, String> {
        if self.sign("(") {
            let e = self.choice()?;
            self.expect(")")?;
            return Ok(e);
        }
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        match token {
            Some(Token::Int(n)) => Ok(Expr::Int(n)),
            Some(Token::Double(n)) => Ok(Expr::Double(n)),
            Some(Token::Text(t)) => Ok(Expr::Text(t)),
            Some(Token::Ident(name)) => self.named(name),
            other => Err(format!("a value expected, not {other:?}")),
        }
    }

    fn named(&mut self, name: String) -> Result<Expr, String> {
        match name.as_str() {
            "true" => return Ok(Expr::Bool(true)),
            "false" => return Ok(Expr::Bool(false)),
            _ if !self.sign("(") => return Ok(Expr::Name(name)),
            _ => {}
        }
        let mut args = self.arguments()?;
        if name != "has" {
            return Ok(Expr::Call(name, args));
        }
        match (args.pop(), args.is_empty()) {
            (Some(Expr::Field(of, field)), true) => Ok(Expr::Has(of, field)),
            _ => Err("has() takes one field".to_owned()),
        }
    }

    /// What stands between brackets, the first of which has been read.
    fn arguments(&mut self) -> Result<Vec<Expr>, String> {
        let mut args = Vec::new();
        if self.sign(")") {
            return Ok(args);
        }
        loop {
            args.push(self.choice()?);
            if !self.sign(",") {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }
}
