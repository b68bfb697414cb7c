//! What the metadata of a file say of its layers: `gqsa.version`, and `gqsa.layers`, a JSON object.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::element::DType;
use crate::group_sparse::format::{Format, Matrix, Mode, Pattern, ScaleScope, wrong_option};
use crate::{Error, Result};

/// The version of the format.
const VERSION: &str = "1";

/// The keys of the metadata.
const VERSION_KEY: &str = "gqsa.version";
const LAYERS_KEY: &str = "gqsa.layers";

/// What a file says of a layer besides its tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The sides, the grouping and the coding.
    pub format: Format,
    /// T, kept groups.
    pub kept: usize,
    /// How many outliers there are.
    pub outliers: usize,
    /// The type of the weights that were compressed.
    pub source: DType,
    /// All that is said besides: `options` of the compressor, its `report`, and what this crate does
    /// not know, which is kept.
    pub info: BTreeMap<String, Value>,
}

/// What the metadata of a file say of its layers, under their names; nothing where there are none.
///
/// ```
/// use std::collections::BTreeMap;
/// use warpwright::group_sparse::layer::headers;
///
/// let layers = r#"{"mlp": {"n": 24, "k": 80, "group": 16, "bits": 4, "mode": "sym",
///     "pattern": "dense", "scale_scope": "group", "nnz_groups": 120, "src_dtype": "F16",
///     "outliers": 0}}"#;
/// let pairs = [("gqsa.version", "1"), ("gqsa.layers", layers)];
/// let metadata = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
/// let headers = headers(&BTreeMap::from(metadata))?;
/// assert_eq!(headers["mlp"].format.rows, 24);
/// # Ok::<(), warpwright::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Option`] for another version, for what is no JSON, and for what a layer lacks or has
/// wrong.
pub fn headers(metadata: &BTreeMap<String, String>) -> Result<BTreeMap<String, Header>> {
    let version = metadata.get(VERSION_KEY);
    let Some(text) = metadata.get(LAYERS_KEY) else {
        return match version {
            None => Ok(BTreeMap::new()),
            Some(_) => Err(wrong_option(LAYERS_KEY, "a JSON object", "none")),
        };
    };
    if version.is_none_or(|version| version != VERSION) {
        let found = version.map_or("none", String::as_str);
        return Err(wrong_option(VERSION_KEY, VERSION, found));
    }
    let layers: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| wrong_option(LAYERS_KEY, "a JSON object", error))?;
    let header = |(name, layer): (String, Value)| {
        let header = Header::parse(&name, layer)?;
        Ok((name, header))
    };
    layers.into_iter().map(header).collect()
}

/// The metadata that say this of layers; equal layers give equal text.
pub fn metadata<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a Header)>,
) -> [(String, String); 2] {
    let named = headers.into_iter().map(|(name, header)| (name.to_owned(), header.to_json()));
    let mut layers = Value::Object(named.collect());
    // Keys are sorted already, unless another crate of the program wants them otherwise.
    layers.sort_all_objects();
    [(VERSION_KEY.to_owned(), VERSION.to_owned()), (LAYERS_KEY.to_owned(), layers.to_string())]
}

impl Header {
    /// That of a matrix which was made of weights of this type.
    pub fn of(matrix: &Matrix, source: DType) -> Self {
        Self {
            format: *matrix.format(),
            kept: matrix.kept(),
            outliers: matrix.parts().outliers.as_ref().map_or(0, |outliers| outliers.col.len()),
            source,
            info: BTreeMap::new(),
        }
    }

    fn parse(name: &str, layer: Value) -> Result<Self> {
        let Value::Object(values) = layer else {
            let option = format!("{LAYERS_KEY}: {name}");
            return Err(wrong_option(&option, "a JSON object", layer));
        };
        let mut keys = Keys { layer: name, values };
        let pattern = keys.pattern()?;
        let header = Self {
            format: Format {
                rows: keys.count("n")?,
                columns: keys.count("k")?,
                group: keys.count("group")?,
                bits: u32::try_from(keys.count("bits")?).unwrap_or(u32::MAX),
                mode: keys.choice("mode", Mode::ALL, Mode::name)?,
                pattern,
                scope: keys.choice(
                    "scale_scope",
                    [ScaleScope::Group, ScaleScope::Row],
                    ScaleScope::name,
                )?,
            },
            kept: keys.count("nnz_groups")?,
            outliers: keys.count("outliers")?,
            source: keys.choice("src_dtype", SOURCES, source_name)?,
            info: keys.values.into_iter().collect(),
        };
        header.check().map_err(|error| in_layer(name, error))?;
        Ok(header)
    }

    /// The sides make sense, and so many groups can be kept of them.
    fn check(&self) -> Result<()> {
        self.format.check()?;
        let count = match self.format.pattern {
            Pattern::Free => return Ok(()),
            Pattern::Uniform(count) => count,
            Pattern::Dense => self.format.column_groups(),
        };
        // Both are below 2^31.
        match self.format.rows as u64 * count as u64 {
            kept if kept == self.kept as u64 => Ok(()),
            kept => {
                let expected =
                    format!("{kept}, {count} groups in each of {} rows", self.format.rows);
                Err(wrong_option("nnz_groups", &expected, self.kept))
            }
        }
    }

    fn to_json(&self) -> Value {
        let Format { rows, columns, group, bits, mode, pattern, scope } = self.format;
        let mut values: Map<String, Value> =
            self.info.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut set = |key: &str, value: Value| values.insert(key.to_owned(), value);
        set("n", rows.into());
        set("k", columns.into());
        set("group", group.into());
        set("bits", bits.into());
        set("mode", mode.name().into());
        set("pattern", pattern.name().into());
        set("scale_scope", scope.name().into());
        set("nnz_groups", self.kept.into());
        if let Pattern::Uniform(count) = pattern {
            set("uniform_count", count.into());
        }
        set("src_dtype", source_name(self.source).into());
        set("outliers", self.outliers.into());
        Value::Object(values)
    }
}

/// An error of an option that the metadata have for a layer.
pub(super) fn in_layer(layer: &str, error: Error) -> Error {
    match error {
        Error::Option { operation, option, expected, found } => {
            let option = format!("{LAYERS_KEY}: {layer}: {option}");
            Error::Option { operation, option, expected, found }
        }
        other => other,
    }
}

/// Types of weights that are compressed.
const SOURCES: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

/// As the files themselves name types.
fn source_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::F64 => "F64",
        _ => "F32",
    }
}

/// What is said of a layer; that which is known is taken out.
struct Keys<'a> {
    layer: &'a str,
    values: Map<String, Value>,
}

impl Keys<'_> {
    fn wrong(&self, key: &str, expected: &str, found: Option<Value>) -> Error {
        let found = found.map_or("none".to_owned(), |found| found.to_string());
        in_layer(self.layer, wrong_option(key, expected, found))
    }

    /// A whole number.
    fn count(&mut self, key: &str) -> Result<usize> {
        let value = self.values.remove(key);
        let count = value.as_ref().and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        count.ok_or_else(|| self.wrong(key, "a whole number", value))
    }

    /// One of these, by its name; case does not count.
    fn choice<T: Copy, const N: usize>(
        &mut self,
        key: &str,
        all: [T; N],
        name: fn(T) -> &'static str,
    ) -> Result<T> {
        let value = self.values.remove(key);
        let text = value.as_ref().and_then(Value::as_str).unwrap_or_default();
        let found = all.into_iter().find(|&one| name(one).eq_ignore_ascii_case(text));
        found.ok_or_else(|| self.wrong(key, &all.map(name).join(" or "), value))
    }

    fn pattern(&mut self) -> Result<Pattern> {
        let all = [Pattern::Free, Pattern::Uniform(0), Pattern::Dense];
        let pattern = self.choice("pattern", all, Pattern::name)?;
        if matches!(pattern, Pattern::Uniform(_)) {
            return Ok(Pattern::Uniform(self.count("uniform_count")?));
        }
        match self.values.remove("uniform_count") {
            None | Some(Value::Null) => Ok(pattern),
            found => Err(self.wrong("uniform_count", "none but for the pattern uniform", found)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: &str = r#"{"n":2,"k":16,"group":8,"bits":4,"mode":"sym","pattern":"free",
        "scale_scope":"group","nnz_groups":3,"src_dtype":"F16","outliers":0,
        "colour":{"b":1.1,"a":[null,"x"]}}"#;

    fn read(version: &str, layers: &str) -> Result<BTreeMap<String, Header>> {
        let pairs = [(VERSION_KEY, version), (LAYERS_KEY, layers)];
        headers(&pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
    }

    fn changed(from: &str, to: &str) -> Result<BTreeMap<String, Header>> {
        assert!(LAYER.contains(from));
        read("1", &format!(r#"{{"mlp.up": {}}}"#, LAYER.replace(from, to)))
    }

    #[track_caller]
    fn refused(from: &str, to: &str, expected: &str) {
        let error = changed(from, to).unwrap_err().to_string();
        assert_eq!(error, format!("group-sparse: option `gqsa.layers: mlp.up: {expected}"));
    }

    #[test]
    fn unknown_keys_are_kept_and_keys_are_sorted() {
        let found = changed("F16", "bf16").unwrap();
        let [(_, version), (_, text)] =
            metadata(found.iter().map(|(name, header)| (name.as_str(), header)));
        let begin = r#"{"mlp.up":{"bits":4,"colour":{"a":[null,"x"],"b":1.1},"group":8,"#;
        assert!(text.starts_with(begin), "{text}");
        assert!(text.contains(r#""src_dtype":"BF16""#), "{text}");
        assert_eq!(read(&version, &text).unwrap(), found);
    }

    #[test]
    fn versions_must_be_known() {
        let error = |version, layers: &str| read(version, layers).unwrap_err().to_string();
        let expected = "group-sparse: option `gqsa.version`: expected 1, found 2";
        assert_eq!(error("2", "{}"), expected);
        assert!(error("1", "[]").contains("`gqsa.layers`: expected a JSON object"));
        assert!(error("1", r#"{"a": 1}"#).contains("`gqsa.layers: a`: expected a JSON object"));
        let alone = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        assert!(headers(&alone(VERSION_KEY, "1")).is_err());
        assert!(headers(&alone(LAYERS_KEY, "{}")).is_err());
        assert_eq!(headers(&alone("format", "pt")), Ok(BTreeMap::new()));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        refused(r#""n":2,"#, "", "n`: expected a whole number, found none");
        refused(r#""n":2"#, r#""n":0"#, "n`: expected 1 to 2147483647, found 0");
        refused(r#""k":16"#, r#""k":-1"#, "k`: expected a whole number, found -1");
        refused("\"group\":8", "\"group\":9", "group`: expected 8, 16, 32, 64 or 128, found 9");
        refused("\"bits\":4", "\"bits\":5", "bits`: expected 2, 3, 4 or 8, found 5");
        let expected = r#"mode`: expected sym or asym or affine, found "odd""#;
        refused(r#""sym""#, r#""odd""#, expected);
        let expected = "uniform_count`: expected a whole number, found none";
        refused("\"free\"", "\"uniform\"", expected);
        let expected = "uniform_count`: expected 1 to 2, the groups of a row, found 3";
        refused("\"free\"", "\"uniform\",\"uniform_count\":3", expected);
        let expected = "uniform_count`: expected 1 to 2, the groups of a row, found 0";
        let none = "\"uniform\",\"uniform_count\":0";
        refused("\"free\"", none, expected);
        let expected = "nnz_groups`: expected 4, 2 groups in each of 2 rows, found 3";
        refused("\"free\"", "\"dense\"", expected);
        let expected = "uniform_count`: expected none but for the pattern uniform, found 1";
        refused("\"free\"", "\"dense\",\"uniform_count\":1", expected);
    }
}
