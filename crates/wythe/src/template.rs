//! Go's text templates, as far as `--format` uses them.
//!
//! Text and `{{ … }}` actions with trim marks; fields, variables, pipelines, parentheses; `if`,
//! `else if`, `with`, `range`, `break`, `continue`; the built-in functions and Docker's (`json`,
//! `join`, `split`, `upper`, …). Templates that define templates are refused.
//!
//! Source: Go's package text/template, and Docker's "Format command and log output". Pure.

use std::fmt;

mod eval;
mod functions;
mod lex;
mod parse;
mod value;

pub(crate) use value::Value;

#[cfg(test)]
mod tests;

/// A template that has been read.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    nodes: Vec<parse::Node>,
}

/// What is wrong with a template, or with the data for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateError(String);

impl TemplateError {
    fn new(text: impl Into<String>) -> TemplateError {
        TemplateError(text.into())
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "template parsing error: {}", self.0)
    }
}

impl std::error::Error for TemplateError {}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Template, TemplateError> {
        Ok(Template { nodes: parse::parse(&lex::lex(text)?)? })
    }

    /// The text that comes of it with this data.
    ///
    /// # Errors
    /// What does not go with the data.
    pub(crate) fn render(&self, data: &Value) -> Result<String, TemplateError> {
        eval::render(&self.nodes, data)
    }
}
