//! `--format` of commands that list: a table, JSON lines, or a template per row.

use crate::{
    error::CliError,
    output::{self, table},
    template::{Template, Value},
};

/// How a list is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// The command's own columns.
    Table,
    /// Columns of one's own.
    TableOf(String),
    /// One JSON object per line.
    Json,
    /// A template per row.
    Template(String),
}

impl Format {
    /// Reads the flag's value. As in Docker, `\t` and `\n` may be written out.
    pub(crate) fn parse(text: Option<&str>) -> Format {
        let unescape = |text: &str| text.replace("\\t", "\t").replace("\\n", "\n");
        match text {
            None | Some("" | "table") => Format::Table,
            Some("json" | "{{json .}}") => Format::Json,
            Some(text) => match text.strip_prefix("table ") {
                Some(columns) => Format::TableOf(unescape(columns.trim())),
                None => Format::Template(unescape(text)),
            },
        }
    }
}

/// A column: its field and its heading.
pub(crate) type Column = (&'static str, &'static str);

/// The text of a list.
///
/// `usual` is the template of the command's own table; `columns` the headings that a template
/// of one's own can have.
///
/// # Errors
/// [`CliError::Template`].
pub(crate) fn list(
    format: &Format,
    usual: &str,
    columns: &[Column],
    rows: &[Value],
) -> Result<String, CliError> {
    match format {
        Format::Json => Ok(rows.iter().map(|row| row.json() + "\n").collect()),
        Format::Template(text) => lines(&Template::parse(text)?, rows),
        Format::Table => with_headings(usual, columns, rows),
        Format::TableOf(text) => with_headings(text, columns, rows),
    }
}

/// Prints a list; see [`list`].
///
/// # Errors
/// [`CliError::Template`], [`CliError::OutputClosed`].
pub(crate) fn print_list(
    format: &Format,
    usual: &str,
    columns: &[Column],
    rows: &[Value],
) -> Result<(), CliError> {
    output::print(&list(format, usual, columns, rows)?)
}

fn lines(template: &Template, rows: &[Value]) -> Result<String, CliError> {
    let mut text = String::new();
    for row in rows {
        text += &template.render(row)?;
        text.push('\n');
    }
    Ok(text)
}

fn with_headings(text: &str, columns: &[Column], rows: &[Value]) -> Result<String, CliError> {
    let template = Template::parse(text)?;
    let heading = |(field, heading): &Column| match *field {
        // A method: whatever it is asked for, its heading is the same.
        "Label" => ((*field).to_owned(), Value::Lookup(Vec::new())),
        _ => ((*field).to_owned(), Value::Text((*heading).to_owned())),
    };
    let headings = Value::Map(columns.iter().map(heading).collect());
    // Functions that want a list or a number do not take a heading; then there is none.
    let first = template.render(&headings).map(|line| line + "\n").unwrap_or_default();
    Ok(table::align(&(first + &lines(&template, rows)?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [Column; 2] = [("ID", "CONTAINER ID"), ("Names", "NAMES")];

    fn shown(format: &str) -> String {
        let rows = [
            Value::of(&json!({"ID": "c0ffee", "Names": "web"})),
            Value::of(&json!({"ID": "decade", "Names": "database"})),
        ];
        list(&Format::parse(Some(format)), "{{.ID}}\t{{.Names}}", &COLUMNS, &rows).unwrap()
    }

    #[test]
    fn lists_are_shown_in_every_format() {
        insta::assert_snapshot!(shown("table"), @r"
        CONTAINER ID   NAMES
        c0ffee         web
        decade         database
        ");
        insta::assert_snapshot!(shown(r"table {{.Names}}\t{{upper .ID}}"), @r"
        NAMES      CONTAINER ID
        web        C0FFEE
        database   DECADE
        ");
        assert_eq!(shown("{{.Names}}"), "web\ndatabase\n");
        assert_eq!(
            shown("json"),
            "{\"ID\":\"c0ffee\",\"Names\":\"web\"}\n{\"ID\":\"decade\",\"Names\":\"database\"}\n"
        );
    }
}
