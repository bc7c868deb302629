//! Templates of tags: text with fields of the container.
//!
//! Source: Docker's documentation, "Customize log driver output".

use super::Logger;

/// The fields there are.
const FIELDS: [&str; 8] =
    ["ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "DaemonName", "Command"];

/// Checks a template.
///
/// # Errors
/// What would be right.
pub(super) fn check(template: &str) -> Result<(), String> {
    parts(template).try_for_each(|part| match part? {
        Part::Field(name) if !FIELDS.contains(&name) => {
            let known = FIELDS.map(|field| format!("{{{{.{field}}}}}")).join(", ");
            Err(format!("there is no field {name}; there are {known}"))
        }
        Part::Field(_) | Part::Text(_) => Ok(()),
    })
}

/// Fills a template that was checked.
pub(super) fn render(template: &str, logger: &Logger<'_>) -> String {
    let value = |part| match part {
        Ok(Part::Text(text)) => text.to_owned(),
        Ok(Part::Field(name)) => field(name, logger),
        Err(_) => String::new(),
    };
    parts(template).map(value).collect()
}

fn field(name: &str, logger: &Logger<'_>) -> String {
    let image = logger.image_id.strip_prefix("sha256:").unwrap_or(logger.image_id);
    match name {
        "ID" => logger.id.short().to_owned(),
        "FullID" => logger.id.to_string(),
        "Name" => logger.name.to_owned(),
        "ImageID" => image.chars().take(12).collect(),
        "ImageFullID" => logger.image_id.to_owned(),
        "ImageName" => logger.config.image.clone(),
        "DaemonName" => "wythe".to_owned(),
        "Command" => {
            let entrypoint = logger.config.entrypoint.iter().flatten();
            let words: Vec<_> = entrypoint.chain(&logger.config.command).cloned().collect();
            words.join(" ")
        }
        _ => String::new(),
    }
}

enum Part<'a> {
    Text(&'a str),
    Field(&'a str),
}

fn parts(template: &str) -> impl Iterator<Item = Result<Part<'_>, String>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(inside) = rest.strip_prefix("{{") else {
            let (text, after) = rest.split_at(rest.find("{{").unwrap_or(rest.len()));
            rest = after;
            return Some(Ok(Part::Text(text)));
        };
        let Some((field, after)) = inside.split_once("}}") else {
            rest = "";
            return Some(Err("a field ends with }}".to_owned()));
        };
        rest = after;
        let name = field.trim().strip_prefix('.');
        let plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let named = name.filter(plain).map(Part::Field);
        Some(named.ok_or_else(|| "write fields as {{.Name}}; functions are not built".to_owned()))
    })
}
