//! `variants.toml`: which variants of a template there are.
//!
//! ```toml
//! [forward_ptx]                    # the Rust struct ForwardPtx
//! template = "forward.ptx"         # or "common/widen.ptx"; its ending tells the language; may stand in a row,
//!                                  # where templates take the same arguments
//! target = "sm_80"                 # PTX only
//! pass = "forward"                 # what it computes, for `warpwright list`; may stand in a row
//! schedule = "serial"              # any other key is a constant for the template
//! name = "scan_forward_{element}_n{padded}"   # may stand in a row
//! block = [128, 1, 1]              # threads of a block; may stand in a row
//! storage_bindings = 16            # WGSL only: more than the 8 of WebGPU's default limits
//! capabilities = ["SUBGROUP"]      # WGSL only: what naga's validator has to allow, told to the template and to
//!                                  # plans; may stand in a row
//! [forward_ptx.each]               # all combinations of these ...
//! element = ["f32", "bf16"]
//! [[forward_ptx.rows]]             # ... with each of these rows
//! padded = 16
//! [[forward_ptx.rows]]             # or those of them that a row says: bf16 alone
//! padded = 32
//! element = "bf16"
//! ```

use toml::{Table as Toml, Value};

use super::failure::{Failure, Place};
use super::names;

/// Storage buffers that WebGPU's default limits allow.
const DEFAULT_STORAGE_BINDINGS: usize = 8;

/// Keys of a table that are no parameters.
const RESERVED: [&str; 9] = [
    "template",
    "target",
    "pass",
    "name",
    "block",
    "storage_bindings",
    "capabilities",
    "each",
    "rows",
];

/// Those of them that may stand in a row.
const OF_ROWS: [&str; 6] = ["template", "target", "pass", "name", "block", "capabilities"];

/// Names that the template gets besides the parameters.
const GIVEN: [&str; 4] = ["entry_name", "block", "target", "capabilities"];

/// What a kernel is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// CUDA PTX.
    Ptx,
    /// WebGPU's shading language.
    Wgsl,
}

impl Language {
    /// The language of a file by its ending.
    pub fn of(file: &str) -> Option<Self> {
        match file.rsplit_once('.')?.1 {
            "ptx" => Some(Self::Ptx),
            "wgsl" => Some(Self::Wgsl),
            _ => None,
        }
    }

    /// The ending of its files.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Ptx => "ptx",
            Self::Wgsl => "wgsl",
        }
    }
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// `"f32"`
    Text(String),
    /// `16`
    Integer(i64),
    /// `0.5`
    Float(f64),
    /// `true`
    Boolean(bool),
    /// `[1, 2]`
    List(Vec<Parameter>),
}

impl Parameter {
    fn new(value: &Value) -> Option<Self> {
        Some(match value {
            Value::String(text) => Self::Text(text.clone()),
            Value::Integer(integer) => Self::Integer(*integer),
            Value::Float(float) => Self::Float(*float),
            Value::Boolean(boolean) => Self::Boolean(*boolean),
            Value::Array(items) => Self::List(items.iter().map(Self::new).collect::<Option<_>>()?),
            Value::Datetime(_) | Value::Table(_) => return None,
        })
    }

    /// As names and listings show it.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Integer(integer) => integer.to_string(),
            Self::Float(float) => float.to_string(),
            Self::Boolean(boolean) => boolean.to_string(),
            Self::List(items) => items.iter().map(Self::shown).collect::<Vec<_>>().join(","),
        }
    }
}

/// One table: an entry and its variants.
#[derive(Clone, Debug)]
pub struct Table {
    /// The file that declares it, below `kernels/`.
    pub file: String,
    /// The folder of the file: the operation.
    pub folder: String,
    /// Its key: `forward_ptx`.
    pub key: String,
    /// The language of the templates.
    pub language: Language,
    /// Most storage buffers that it may bind (WGSL).
    pub storage_bindings: usize,
    /// The variants.
    pub variants: Vec<Variant>,
}

impl Table {
    /// The templates of its variants, each once.
    pub fn templates(&self) -> Vec<&str> {
        let mut templates: Vec<&str> = Vec::new();
        for Variant { template, .. } in &self.variants {
            if !templates.contains(&template.as_str()) {
                templates.push(template);
            }
        }
        templates
    }

    /// The Rust struct of its arguments.
    pub fn rust_name(&self) -> String {
        names::upper_camel(&self.key)
    }
}

/// One row of a table.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Its name, which is also the name of the PTX entry.
    pub name: String,
    /// The template, below `kernels/`.
    pub template: String,
    /// The pass, for `warpwright list`.
    pub pass: String,
    /// Threads of a block along each axis.
    pub block: [u32; 3],
    /// The PTX target, empty for WGSL.
    pub target: String,
    /// What naga's validator has to allow (WGSL).
    pub capabilities: Vec<String>,
    /// The parameters, first those that vary, then the constants of the table.
    pub parameters: Vec<(String, Parameter)>,
}

/// Reads the `variants.toml` of a folder.
///
/// # Errors
///
/// The first thing that is wrong with it.
pub fn parse(file: &str, text: &str) -> Result<Vec<Table>, Failure> {
    let folder = file.split_once('/').map_or("", |(folder, _)| folder);
    if !names::field(folder) {
        let message = "name the folder in snake_case, and not with a word of Rust";
        return Err(Failure::new(Place::file(file), message));
    }
    let toml: Toml = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX);
        Failure::new(Place::line(file, line), error.message())
    })?;
    toml.iter()
        .map(|(key, value)| Reader { file, folder, key, line: line_of(text, key) }.table(value))
        .collect()
}

/// The line of the header `[key]`, else the first.
fn line_of(text: &str, key: &str) -> u32 {
    let header = format!("[{key}]");
    text.lines()
        .zip(1..)
        .find(|(line, _)| line.trim().starts_with(&header))
        .map_or(1, |found| found.1)
}

/// What messages about one table name.
struct Reader<'a> {
    file: &'a str,
    folder: &'a str,
    key: &'a str,
    line: u32,
}

impl Reader<'_> {
    fn wrong(&self, message: impl std::fmt::Display) -> Failure {
        Failure::new(Place::line(self.file, self.line), format!("[{}]: {message}", self.key))
    }

    fn table(&self, value: &Value) -> Result<Table, Failure> {
        let toml = value.as_table().ok_or_else(|| self.wrong("must be a table"))?;
        if !names::field(self.key) {
            return Err(self.wrong("name it in snake_case, and not with a word of Rust"));
        }
        let language = self.language(self.text(toml, "template")?)?;
        if language == Language::Ptx {
            for key in ["storage_bindings", "capabilities"] {
                if toml.contains_key(key) {
                    return Err(self.for_wgsl(key));
                }
            }
        }
        Ok(Table {
            file: self.file.to_owned(),
            folder: self.folder.to_owned(),
            key: self.key.to_owned(),
            language,
            storage_bindings: self.storage_bindings(toml)?,
            variants: self.variants(toml, language)?,
        })
    }

    fn for_wgsl(&self, key: &str) -> Failure {
        self.wrong(format!("`{key}` is for WGSL only"))
    }

    fn language(&self, template: &str) -> Result<Language, Failure> {
        Language::of(template)
            .ok_or_else(|| self.wrong(format!("template `{template}` is neither .ptx nor .wgsl")))
    }

    /// What a row says, or the table for all rows.
    fn of_row<'t>(&self, row: &'t Toml, toml: &'t Toml, key: &str) -> Result<&'t str, Failure> {
        self.text(if row.contains_key(key) { row } else { toml }, key)
    }

    fn text<'t>(&self, toml: &'t Toml, key: &str) -> Result<&'t str, Failure> {
        toml.get(key)
            .and_then(Value::as_str)
            .ok_or_else(|| self.wrong(format!("needs `{key} = \"…\"`")))
    }

    fn storage_bindings(&self, toml: &Toml) -> Result<usize, Failure> {
        let Some(value) = toml.get("storage_bindings") else {
            return Ok(DEFAULT_STORAGE_BINDINGS);
        };
        value
            .as_integer()
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| self.wrong("`storage_bindings` must be a count"))
    }

    fn capabilities(&self, row: &Toml, toml: &Toml) -> Result<Vec<String>, Failure> {
        let Some(value) = row.get("capabilities").or_else(|| toml.get("capabilities")) else {
            return Ok(Vec::new());
        };
        value
            .as_array()
            .and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect())
            .ok_or_else(|| self.wrong("`capabilities` must be a list of names"))
    }

    /// All combinations of `each`, crossed with `rows`; a row that says one of its values has that
    /// one only.
    fn variants(&self, toml: &Toml, language: Language) -> Result<Vec<Variant>, Failure> {
        let rows = self.rows(toml)?;
        let mut combinations = vec![Vec::new()];
        for (name, values) in self.each(toml)? {
            if rows.iter().any(|row| row.get(name).is_some_and(|said| !values.contains(said))) {
                return Err(self.wrong(format!("a row's `{name}` is none of `each.{name}`")));
            }
            combinations = combinations
                .iter()
                .flat_map(|combination: &Vec<(&str, &Value)>| {
                    values.iter().map(move |value| {
                        let mut longer = combination.clone();
                        longer.push((name, value));
                        longer
                    })
                })
                .collect();
        }
        let agree = |row: &Toml, combination: &[(&str, &Value)]| {
            combination.iter().all(|&(name, value)| row.get(name).is_none_or(|said| said == value))
        };
        let mut variants = Vec::new();
        for combination in &combinations {
            for row in rows.iter().filter(|row| agree(row, combination)) {
                variants.push(self.variant(toml, language, combination, row)?);
            }
        }
        Ok(variants)
    }

    fn each<'t>(&self, toml: &'t Toml) -> Result<Vec<(&'t str, &'t [Value])>, Failure> {
        let Some(each) = toml.get("each") else {
            return Ok(Vec::new());
        };
        let each = each.as_table().ok_or_else(|| self.wrong("`each` must be a table of lists"))?;
        each.iter()
            .map(|(name, values)| {
                let values = values.as_array().filter(|values| !values.is_empty());
                let values = values
                    .ok_or_else(|| self.wrong(format!("`each.{name}` must be a list of values")))?;
                Ok((name.as_str(), values.as_slice()))
            })
            .collect()
    }

    /// The rows; a table without any has one empty row.
    fn rows(&self, toml: &Toml) -> Result<Vec<Toml>, Failure> {
        let Some(rows) = toml.get("rows") else {
            return Ok(vec![Toml::new()]);
        };
        let rows = rows.as_array().filter(|rows| !rows.is_empty());
        rows.and_then(|rows| rows.iter().map(|row| row.as_table().cloned()).collect())
            .ok_or_else(|| self.wrong("`rows` must be tables, written [[….rows]]"))
    }

    fn variant(
        &self,
        toml: &Toml,
        language: Language,
        combination: &[(&str, &Value)],
        row: &Toml,
    ) -> Result<Variant, Failure> {
        let in_row = row.iter().filter(|(key, _)| {
            !OF_ROWS.contains(&key.as_str()) && !combination.iter().any(|(name, _)| name == key)
        });
        let constants = toml.iter().filter(|(key, _)| !RESERVED.contains(&key.as_str()));
        let given = combination
            .iter()
            .copied()
            .chain(in_row.map(|(key, value)| (key.as_str(), value)))
            .chain(constants.map(|(key, value)| (key.as_str(), value)));
        let mut parameters: Vec<(String, Parameter)> = Vec::new();
        for (name, value) in given {
            if !names::identifier(name) || RESERVED.contains(&name) || GIVEN.contains(&name) {
                return Err(self.wrong(format!("`{name}` cannot be the name of a parameter")));
            }
            if parameters.iter().any(|(other, _)| other == name) {
                return Err(self.wrong(format!("parameter `{name}` is given twice")));
            }
            let value = Parameter::new(value).ok_or_else(|| {
                self.wrong(format!(
                    "parameter `{name}` must be a text, a number, a boolean or a list"
                ))
            })?;
            parameters.push((name.to_owned(), value));
        }
        let block = row.get("block").or_else(|| toml.get("block"));
        let block = block.and_then(block_of).ok_or_else(|| {
            self.wrong("needs `block = [x, y, z]`, the threads of a block, here or in each row")
        })?;
        let target = row.get("target").or_else(|| toml.get("target")).map(|value| value.as_str());
        let target = match (language, target) {
            (Language::Ptx, Some(Some(target @ ("sm_80" | "sm_90a")))) => target,
            (Language::Ptx, _) => {
                return Err(self.wrong("needs `target = \"sm_80\"` or `\"sm_90a\"`"));
            }
            (Language::Wgsl, None) => "",
            (Language::Wgsl, Some(_)) => return Err(self.wrong("`target` is for PTX only")),
        };
        if language == Language::Ptx && row.contains_key("capabilities") {
            return Err(self.for_wgsl("capabilities"));
        }
        let capabilities = self.capabilities(row, toml)?;
        let template = self.of_row(row, toml, "template")?;
        if self.language(template)? != language {
            return Err(self.wrong("templates of one table are in one language"));
        }
        let pass = self.of_row(row, toml, "pass")?;
        let pattern = self.of_row(row, toml, "name")?;
        let of_pass = [("pass".to_owned(), Parameter::Text(pass.to_owned()))];
        let name = filled(pattern, &[&parameters[..], &of_pass].concat());
        let name = name.map_err(|message| self.wrong(message))?;
        let template = match template.split_once('/') {
            Some(_) => template.to_owned(),
            None => format!("{}/{template}", self.folder),
        };
        let (pass, target) = (pass.to_owned(), target.to_owned());
        Ok(Variant { name, template, pass, block, target, capabilities, parameters })
    }
}

/// A block of one to three axes.
fn block_of(value: &Value) -> Option<[u32; 3]> {
    let axes = value.as_array()?;
    let mut block = [1; 3];
    if axes.is_empty() || axes.len() > block.len() {
        return None;
    }
    for (into, axis) in block.iter_mut().zip(axes) {
        *into = u32::try_from(axis.as_integer()?).ok().filter(|&threads| threads > 0)?;
    }
    Some(block)
}

/// The pattern of a name with `{parameter}` replaced by its value; `{pass}` is one as well.
fn filled(pattern: &str, parameters: &[(String, Parameter)]) -> Result<String, String> {
    let mut name = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        let (parameter, behind) =
            after.split_once('}').ok_or_else(|| format!("`name` lacks a `}}`: {pattern}"))?;
        let (_, value) = parameters
            .iter()
            .find(|(name, _)| name == parameter)
            .ok_or_else(|| format!("`name` mentions `{parameter}`, which is no parameter"))?;
        name.push_str(before);
        name.push_str(&value.shown());
        rest = behind;
    }
    name.push_str(rest);
    if names::identifier(&name) {
        Ok(name)
    } else {
        Err(format!("`{name}` is not a name: use letters, digits and underscores"))
    }
}
