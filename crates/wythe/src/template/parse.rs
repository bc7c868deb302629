//! Templates as trees.

use super::{TemplateError, lex::Token};

/// Deepest nesting of blocks and parentheses.
const DEPTH_MAX: usize = 64;

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Text as it is.
    Text(String),
    /// A value to print, or to keep in a variable.
    Action(Pipeline),
    /// `if` and `with`: `with` makes the value the dot.
    Branch { with: bool, pipeline: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    /// `range`, with the variables for index and element.
    Range { names: Vec<String>, pipeline: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    /// `break`
    Break,
    /// `continue`
    Continue,
}

/// Commands, each of which gets the value of the one before it as its last argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pipeline {
    /// A variable that takes the value, and whether it is a new one.
    pub(super) variable: Option<(String, bool)>,
    /// The commands, at least one.
    pub(super) commands: Vec<Command>,
}

/// Operands: a function or method and its arguments, or a single value.
pub(super) type Command = Vec<Operand>;

/// A value, and fields of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    /// What it begins with.
    pub(super) base: Base,
    /// Fields of that, one inside the other.
    pub(super) fields: Vec<String>,
}

/// What an operand begins with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Base {
    /// The dot.
    Dot,
    /// A variable; `$` has an empty name.
    Variable(String),
    /// A literal.
    Literal(super::Value),
    /// A function.
    Function(String),
    /// Something in parentheses.
    Pipeline(Box<Pipeline>),
}

/// How a list of nodes came to its end.
#[derive(Debug, PartialEq)]
enum End {
    /// The template ended.
    Template,
    /// `{{end}}`
    Block,
    /// `{{else}}`; what follows it in the same action is read by the caller.
    Else,
}

/// Reads the tokens of a template.
pub(super) fn parse(tokens: &[Token]) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { tokens, at: 0, depth: 0, loops: 0 };
    match parser.nodes()? {
        (nodes, End::Template) => Ok(nodes),
        (_, End::Block) => Err(TemplateError::new("unexpected {{end}}")),
        (_, End::Else) => Err(TemplateError::new("unexpected {{else}}")),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    loops: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.at);
        self.at += 1;
        token
    }

    fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(w)) if w == word) && self.next().is_some()
    }

    fn close(&mut self) -> Result<(), TemplateError> {
        if self.take(&Token::Close) { Ok(()) } else { Err(self.unexpected("operand")) }
    }

    fn unexpected(&self, place: &str) -> TemplateError {
        match self.peek() {
            None => TemplateError::new("unexpected end of the template"),
            Some(Token::Close) => TemplateError::new("missing value for command"),
            Some(token) => TemplateError::new(format!("unexpected {} in {place}", name(token))),
        }
    }

    fn deeper(&mut self) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(TemplateError::new(format!("nested deeper than {DEPTH_MAX}")));
        }
        Ok(())
    }

    /// Nodes up to the end of the block they are in.
    fn nodes(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        self.deeper()?;
        let mut nodes = Vec::new();
        let end = loop {
            match self.next() {
                None => break End::Template,
                Some(Token::Text(text)) => nodes.push(Node::Text(text.clone())),
                Some(Token::Open) => {
                    if self.take_word("end") {
                        self.close()?;
                        break End::Block;
                    }
                    if self.take_word("else") {
                        break End::Else;
                    }
                    nodes.push(self.action()?);
                }
                Some(token) => {
                    let unexpected = format!("unexpected {} in text", name(token));
                    return Err(TemplateError::new(unexpected));
                }
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    fn action(&mut self) -> Result<Node, TemplateError> {
        let Some(Token::Word(word)) = self.peek() else { return self.printed() };
        match word.as_str() {
            "if" | "with" => {
                let with = self.next() == Some(&Token::Word("with".to_owned()));
                self.branch(with)
            }
            "range" => {
                self.next();
                self.range()
            }
            "break" | "continue" => {
                if self.loops == 0 {
                    return Err(TemplateError::new(format!(
                        "{{{{{word}}}}} outside {{{{range}}}}"
                    )));
                }
                self.next();
                self.close()?;
                Ok(if word == "break" { Node::Break } else { Node::Continue })
            }
            "define" | "template" | "block" => {
                Err(TemplateError::new(format!("{{{{{word}}}}} is not built")))
            }
            _ => self.printed(),
        }
    }

    fn printed(&mut self) -> Result<Node, TemplateError> {
        let pipeline = self.pipeline()?;
        self.close()?;
        Ok(Node::Action(pipeline))
    }

    fn branch(&mut self, with: bool) -> Result<Node, TemplateError> {
        let pipeline = self.pipeline()?;
        self.close()?;
        let (then, end) = self.nodes()?;
        let otherwise = self.otherwise(end, true)?;
        Ok(Node::Branch { with, pipeline, then, otherwise })
    }

    fn range(&mut self) -> Result<Node, TemplateError> {
        let names = self.range_names()?;
        let mut pipeline = self.pipeline()?;
        let mut names = names;
        if let Some((name, _)) = pipeline.variable.take() {
            names.push(name);
        }
        self.close()?;
        self.loops += 1;
        let (body, end) = self.nodes()?;
        self.loops -= 1;
        let otherwise = self.otherwise(end, false)?;
        Ok(Node::Range { names, pipeline, body, otherwise })
    }

    /// `$index, ` before `$element := …`, which is then read as any declaration.
    fn range_names(&mut self) -> Result<Vec<String>, TemplateError> {
        let ahead = self.tokens.get(self.at..self.at + 2);
        let Some([Token::Variable(name), Token::Sign(",")]) = ahead else { return Ok(Vec::new()) };
        self.at += 2;
        let ahead = self.tokens.get(self.at..self.at + 2);
        match ahead {
            Some([Token::Variable(_), Token::Sign(":=" | "=")]) => Ok(vec![name.clone()]),
            _ => Err(TemplateError::new("range takes $index, $element := value")),
        }
    }

    /// What stands after `else`, if the block ended with one.
    fn otherwise(&mut self, end: End, chained: bool) -> Result<Vec<Node>, TemplateError> {
        match end {
            End::Block => return Ok(Vec::new()),
            End::Template => return Err(TemplateError::new("unexpected end: {{end}} is missing")),
            End::Else => {}
        }
        for word in ["if", "with"] {
            if chained && self.take_word(word) {
                self.deeper()?;
                let nested = self.branch(word == "with")?;
                self.depth -= 1;
                return Ok(vec![nested]);
            }
        }
        self.close()?;
        match self.nodes()? {
            (nodes, End::Block) => Ok(nodes),
            (_, End::Else) => Err(TemplateError::new("expected {{end}}; found {{else}}")),
            (_, End::Template) => Err(TemplateError::new("unexpected end: {{end}} is missing")),
        }
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        let mut variable = None;
        let ahead = self.tokens.get(self.at..self.at + 2);
        if let Some([Token::Variable(name), Token::Sign(sign @ (":=" | "="))]) = ahead {
            if name.is_empty() {
                return Err(TemplateError::new("$ cannot be set"));
            }
            variable = Some((name.clone(), *sign == ":="));
            self.at += 2;
        }
        let mut commands = vec![self.command()?];
        while self.take(&Token::Sign("|")) {
            let command = self.command()?;
            let callable = matches!(command.first(), Some(Operand { base: Base::Function(_), .. }))
                || command.first().is_some_and(|operand| !operand.fields.is_empty());
            if !callable {
                let why = "a value cannot stand after |: a function does";
                return Err(TemplateError::new(why));
            }
            commands.push(command);
        }
        Ok(Pipeline { variable, commands })
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let mut operands = vec![self.operand()?];
        while !matches!(self.peek(), None | Some(Token::Close | Token::Sign(")" | "|"))) {
            operands.push(self.operand()?);
        }
        Ok(operands)
    }

    fn operand(&mut self) -> Result<Operand, TemplateError> {
        use super::Value;
        let unexpected = self.unexpected("command");
        let mut fields = Vec::new();
        let base = match self.next().ok_or_else(|| unexpected.clone())? {
            Token::Field(name, _) => {
                if !name.is_empty() {
                    fields.push(name.clone());
                }
                Base::Dot
            }
            Token::Variable(name) => Base::Variable(name.clone()),
            Token::Quoted(text) => Base::Literal(Value::Text(text.clone())),
            Token::Int(number) => Base::Literal(Value::Int(*number)),
            Token::Float(number) => Base::Literal(Value::Float(*number)),
            Token::Word(word) => match word.as_str() {
                "true" => Base::Literal(Value::Bool(true)),
                "false" => Base::Literal(Value::Bool(false)),
                "nil" => Base::Literal(Value::Null),
                _ => {
                    super::functions::check(word)?;
                    Base::Function(word.clone())
                }
            },
            Token::Sign("(") => {
                self.deeper()?;
                let inner = self.pipeline()?;
                self.depth -= 1;
                if !self.take(&Token::Sign(")")) {
                    return Err(TemplateError::new("unclosed left paren"));
                }
                Base::Pipeline(Box::new(inner))
            }
            Token::Text(_) | Token::Open | Token::Close | Token::Sign(_) => return Err(unexpected),
        };
        while let Some(Token::Field(name, false)) = self.peek() {
            if name.is_empty() {
                return Err(TemplateError::new("unexpected . after an operand"));
            }
            fields.push(name.clone());
            self.next();
        }
        Ok(Operand { base, fields })
    }
}

fn name(token: &Token) -> String {
    match token {
        Token::Text(text) | Token::Quoted(text) => format!("{text:?}"),
        Token::Open => "{{".to_owned(),
        Token::Close => "}}".to_owned(),
        Token::Word(word) => format!("<{word}>"),
        Token::Field(name, _) => format!("<.{name}>"),
        Token::Variable(name) => format!("<${name}>"),
        Token::Int(number) => number.to_string(),
        Token::Float(number) => number.to_string(),
        Token::Sign(sign) => format!("{sign:?}"),
    }
}
