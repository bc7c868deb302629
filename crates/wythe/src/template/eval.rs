//! Templates filled with data.

use super::{
    TemplateError, Value, functions,
    parse::{Base, Command, Node, Operand, Pipeline},
};

/// Most text that a template may make, in bytes.
const OUTPUT_BYTES_MAX: usize = 64 << 20;

/// Renders the nodes with this data for the dot and for `$`.
pub(super) fn render(nodes: &[Node], data: &Value) -> Result<String, TemplateError> {
    let mut state = State { out: String::new(), variables: vec![(String::new(), data.clone())] };
    state.nodes(nodes, data)?;
    Ok(state.out)
}

/// How a list of nodes was left.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct State {
    out: String,
    /// Innermost last; `$` is the first and has no name.
    variables: Vec<(String, Value)>,
}

impl State {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        let scope = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.print(text)?,
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variable.is_none() {
                    self.print(&value.to_string())?;
                }
            }
            Node::Branch { with, pipeline, then, otherwise } => {
                let scope = self.variables.len();
                let value = self.pipeline(pipeline, dot)?;
                let flow = match (value.is_true(), with) {
                    (true, true) => self.nodes(then, &value)?,
                    (true, false) => self.nodes(then, dot)?,
                    (false, _) => self.nodes(otherwise, dot)?,
                };
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range { names, pipeline, body, otherwise } => {
                let value = self.pipeline(pipeline, dot)?;
                let items = items(value)?;
                if items.is_empty() {
                    return self.nodes(otherwise, dot);
                }
                self.range(names, items, body)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        names: &[String],
        items: Vec<(Value, Value)>,
        body: &[Node],
    ) -> Result<(), TemplateError> {
        let scope = self.variables.len();
        for (index, item) in items {
            match names {
                [] => {}
                [element] => self.variables.push((element.clone(), item.clone())),
                [first, second, ..] => {
                    self.variables.push((first.clone(), index));
                    self.variables.push((second.clone(), item.clone()));
                }
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    fn print(&mut self, text: &str) -> Result<(), TemplateError> {
        if self.out.len() + text.len() > OUTPUT_BYTES_MAX {
            let most = format!("the template makes more than {OUTPUT_BYTES_MAX} bytes");
            return Err(TemplateError::new(most));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or_default();
        match &pipeline.variable {
            None => {}
            Some((name, true)) => self.variables.push((name.clone(), value.clone())),
            Some((name, false)) => {
                let undefined = || TemplateError::new(format!("undefined variable: ${name}"));
                let mut known = self.variables.iter_mut().rev();
                let (_, place) = known.find(|(n, _)| n == name).ok_or_else(undefined)?;
                *place = value.clone();
            }
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let Some((first, rest)) = command.split_first() else { return Ok(Value::Null) };
        let function = match first {
            Operand { base: Base::Function(name), fields } if fields.is_empty() => Some(name),
            _ => None,
        };
        if let Some(name @ ("and" | "or")) = function.map(String::as_str) {
            return self.until(name == "and", rest, dot, piped);
        }
        let mut args = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            args.push(self.operand(operand, dot)?);
        }
        args.extend(piped);
        if let Some(name) = function {
            return functions::call(name, &args);
        }
        let value = self.operand(first, dot)?;
        match (value, args.as_slice()) {
            (Value::Lookup(answers), [Value::Text(key)]) => {
                let answer = answers.into_iter().find(|(name, _)| name == key);
                Ok(Value::Text(answer.map(|(_, text)| text).unwrap_or_default()))
            }
            (Value::Lookup(_), _) => {
                Err(TemplateError::new("it takes one argument, a name in quotes"))
            }
            (value, []) => Ok(value),
            (value, _) => {
                let why = format!("can't give argument to non-function of type {}", value.kind());
                Err(TemplateError::new(why))
            }
        }
    }

    /// `and` and `or`: the first argument that decides, or the last.
    fn until(
        &mut self,
        and: bool,
        operands: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if value.is_true() != and {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).ok_or_else(|| TemplateError::new("and and or take at least one argument"))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        let base = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Literal(value) => value.clone(),
            Base::Pipeline(pipeline) => self.pipeline(pipeline, dot)?,
            Base::Function(name) => functions::call(name, &[])?,
            Base::Variable(name) => {
                let known = self.variables.iter().rev().find(|(n, _)| n == name);
                let undefined = || TemplateError::new(format!("undefined variable: ${name}"));
                known.map(|(_, value)| value.clone()).ok_or_else(undefined)?
            }
        };
        let mut value = base;
        let mut above = "";
        for name in &operand.fields {
            value = match field(&value, name) {
                Err(_) if TEXT_MAPS.contains(&above) => Value::Text(String::new()),
                found => found?,
            };
            above = name;
        }
        Ok(value)
    }
}

/// Fields of Docker's types that are maps of text: a key that they lack is the empty text in Go.
const TEXT_MAPS: [&str; 2] = ["Attributes", "Labels"];

/// A field; one that is not there is an error that names what is.
fn field(value: &Value, name: &str) -> Result<Value, TemplateError> {
    if let Some(value) = value.get(name) {
        return Ok(value.clone());
    }
    let Value::Map(fields) = value else {
        let why = format!("can't evaluate field {name} in type {}", value.kind());
        return Err(TemplateError::new(why));
    };
    let names = || fields.iter().map(|(key, _)| key.as_str());
    let same = names().find(|key| key.eq_ignore_ascii_case(name));
    let hint = match same.or_else(|| api::closest(name, names())) {
        Some(meant) => format!("; did you mean .{meant}?"),
        None if fields.len() <= 40 => {
            format!("; there are {}", names().collect::<Vec<_>>().join(", "))
        }
        None => String::new(),
    };
    Err(TemplateError::new(format!("there is no field .{name}{hint}")))
}

/// What `range` goes over: index and element. Maps are gone through by key, numbers counted up.
fn items(value: Value) -> Result<Vec<(Value, Value)>, TemplateError> {
    /// Highest number that is counted up to.
    const COUNT_MAX: i64 = 1 << 20;
    match value {
        Value::Null => Ok(Vec::new()),
        Value::List(items) => {
            let index = |at: usize| Value::Int(i64::try_from(at).unwrap_or(i64::MAX));
            Ok(items.into_iter().enumerate().map(|(at, item)| (index(at), item)).collect())
        }
        Value::Map(mut fields) => {
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Ok(fields.into_iter().map(|(key, value)| (Value::Text(key), value)).collect())
        }
        Value::Int(count) if count <= COUNT_MAX => {
            Ok((0..count).map(|n| (Value::Int(n), Value::Int(n))).collect())
        }
        other @ (Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::Lookup(_)) => Err(TemplateError::new(format!("range can't iterate over {other}"))),
    }
}
