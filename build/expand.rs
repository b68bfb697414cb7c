//! Templates and their expansion, by minijinja.
//!
//! A template sees the parameters and constants of its variant, and `entry_name`, `block`, `target`
//! and `capabilities`. Other files are imported by their path below `kernels/`:
//! `{% import "common/scan.ptx" as scan %}`. Undefined names fail.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::rc::Rc;

use minijinja::{Environment, UndefinedBehavior, Value};

use super::failure::{Failure, Place};
use super::source_map::{self, Marks, Origin};
use super::table::{Language, Parameter, Table, Variant};

/// The sources of all templates, as the engine gets them.
pub struct Templates {
    files: Rc<[String]>,
    plain: Environment<'static>,
    marked: Vec<Environment<'static>>,
}

/// An expansion.
pub struct Text {
    /// The expanded text; of PTX the code alone, line by line.
    pub text: String,
    /// Where its lines come from, as it is embedded.
    pub lines: String,
    origins: Vec<Origin>,
    files: Rc<[String]>,
}

impl Text {
    /// The place in the sources of a line, from 1; lines behind the end count as the last.
    pub fn place(&self, line: u32) -> Place {
        let at = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
        let origin = self.origins.get(at).or(self.origins.last());
        let file = origin.and_then(|origin| self.files.get(origin.file));
        match (origin, file) {
            (Some(origin), Some(file)) => Place::line(file, origin.line),
            _ => Place::file(""),
        }
    }
}

impl Templates {
    /// The templates among the sources.
    ///
    /// # Errors
    ///
    /// The first syntax error of each template.
    pub fn new(sources: &BTreeMap<String, String>) -> Result<Self, Vec<Failure>> {
        let templates: Vec<(&String, &String)> =
            sources.iter().filter(|(file, _)| Language::of(file).is_some()).collect();
        let files = templates.iter().map(|(file, _)| (*file).clone()).collect();
        let plain = environment(&templates, None)?;
        let marked = Marks::ALL
            .into_iter()
            .map(|marks| environment(&templates, Some(marks)))
            .collect::<Result<_, _>>()?;
        Ok(Self { files, plain, marked })
    }

    /// Expands a variant's template.
    ///
    /// # Errors
    ///
    /// What the engine refuses, and PTX that is not ASCII.
    pub fn expand(&self, table: &Table, variant: &Variant) -> Result<Text, Failure> {
        let Some(number) = self.files.iter().position(|file| *file == variant.template) else {
            let message = format!("[{}]: there is no kernels/{}", table.key, variant.template);
            return Err(Failure::new(Place::file(&table.file), message));
        };
        let render = |environment: &Environment<'_>| {
            environment
                .get_template(&variant.template)
                .and_then(|template| template.render(context(variant)))
        };
        let text = render(&self.plain)
            .map_err(|error| engine_failure(&error, &variant.template).of(&variant.name))?;
        let start = Origin { file: number, line: 1 };
        let origins = self.marked.iter().find_map(|marked| {
            let (unmarked, origins) = source_map::stripped(&render(marked).ok()?, start);
            (unmarked == text).then_some(origins)
        });
        let origins = origins.ok_or_else(|| {
            let message = "the text of a `{% set %}` or `{% call %}` block is compared, measured \
                           or changed: write it on one line, or as an expression";
            Failure::new(Place::file(&variant.template), message).of(&variant.name)
        })?;
        let lines = source_map::table(&origins, &self.files);
        let text = Text { text, lines, origins, files: Rc::clone(&self.files) };
        if table.language != Language::Ptx {
            return Ok(text);
        }
        match (1..).zip(text.text.lines()).find(|(_, line)| !line.is_ascii()) {
            Some((line, _)) => {
                Err(Failure::new(text.place(line), "PTX is ASCII").of(&variant.name))
            }
            None => Ok(Text { text: bare(&text.text), ..text }),
        }
    }
}

/// The lines without comments and indentation, which are for those who read the templates: a
/// quarter of what would be embedded.
fn bare(text: &str) -> String {
    let code = |line: &str| line.split("//").next().unwrap_or("").trim().to_owned() + "\n";
    text.lines().map(code).collect()
}

/// An engine that knows all templates.
fn environment(
    templates: &[(&String, &String)],
    marks: Option<Marks>,
) -> Result<Environment<'static>, Vec<Failure>> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_debug(true);
    let mut failures = Vec::new();
    for (number, (file, text)) in templates.iter().enumerate() {
        let added = source_map::prepared(text, marks.map(|marks| (marks, number)))
            .map_err(|misread| Failure::new(Place::line(file, misread.line), misread.message))
            .and_then(|text| {
                environment
                    .add_template_owned((*file).clone(), text)
                    .map_err(|error| engine_failure(&error, file))
            });
        failures.extend(added.err());
    }
    if failures.is_empty() { Ok(environment) } else { Err(failures) }
}

fn context(variant: &Variant) -> Value {
    let parameters =
        variant.parameters.iter().map(|(name, parameter)| (name.clone(), value(parameter)));
    let given = [
        ("entry_name".to_owned(), Value::from(variant.name.as_str())),
        ("block".to_owned(), variant.block.into_iter().collect()),
        ("target".to_owned(), Value::from(variant.target.as_str())),
        ("capabilities".to_owned(), variant.capabilities.iter().map(String::as_str).collect()),
    ];
    Value::from_pairs(parameters.chain(given))
}

fn value(parameter: &Parameter) -> Value {
    match parameter {
        Parameter::Text(text) => Value::from(text.as_str()),
        Parameter::Integer(integer) => Value::from(*integer),
        Parameter::Float(float) => Value::from(*float),
        Parameter::Boolean(boolean) => Value::from(*boolean),
        Parameter::List(items) => items.iter().map(value).collect(),
    }
}

/// The innermost place that the engine names: an error in a macro is told where the macro is.
fn engine_failure(error: &minijinja::Error, template: &str) -> Failure {
    let mut innermost = error;
    while let Some(inner) = innermost.source().and_then(|one| one.downcast_ref()) {
        innermost = inner;
    }
    let file = innermost.name().unwrap_or(template);
    let place = match innermost.line().and_then(|line| u32::try_from(line).ok()) {
        Some(line) => Place::line(file, line),
        None => Place::file(file),
    };
    let message = match innermost.detail() {
        Some(detail) => format!("{}: {detail}", innermost.kind()),
        None => innermost.kind().to_string(),
    };
    Failure::new(place, message)
}
