//! Schema of a configuration: the part of JSON Schema 2020-12 that a manifest may use.
//!
//! # Keywords
//! - of the whole: `$schema`, `type` (`object`), `properties`, `required`, `additionalProperties` (a boolean), `title`, `description`;
//! - of a key: `type` (`string`, `integer`, `number`, `boolean`, `array`), `enum`, `const`, `oneOf` (of `const`), `default`, `examples`,
//!   `title`, `description`, `format`, `pattern`, `minLength`, `maxLength`, `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`,
//!   `multipleOf`, `items`, `minItems`, `maxItems`, `uniqueItems`, `deprecated`, `$comment`, and every keyword that begins with `x-`.
//!
//! # Guarantees
//! - Other keywords are refused, among them all references and all that combine schemas, so that a check costs no more than the sum of
//!   its keys.

use super::text::{Separator, ValueKind};
use super::{ManifestError, escaped, fault};
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

/// URI of the only dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Maximum number of keys, and length of a key in bytes.
const KEYS_MAX: usize = 128;
const KEY_BYTES_MAX: usize = 100;

/// Maximum number of choices of a key.
const CHOICES_MAX: usize = 100;

/// Maximum length of a text about a key, in characters.
const TEXT_CHARS_MAX: usize = 500;

/// Maximum number of patterns, the length of one in bytes, and the size of a compiled one in bytes.
const PATTERNS_MAX: usize = 16;
const PATTERN_BYTES_MAX: usize = 500;
const PATTERN_PROGRAM_BYTES_MAX: usize = 256 << 10;

/// Keywords of the whole schema.
const ROOT_KEYWORDS: [&str; 7] =
    ["$schema", "type", "properties", "required", "additionalProperties", "title", "description"];

/// Keywords of a key, and of the items of a list.
const KEYWORDS: [&str; 23] = [
    "type",
    "enum",
    "const",
    "oneOf",
    "default",
    "examples",
    "title",
    "description",
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "items",
    "minItems",
    "maxItems",
    "uniqueItems",
    "deprecated",
    "$comment",
];

/// Value that a key may have, of a closed set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Value, as text.
    pub value: String,
    /// Description of the value.
    pub description: Option<String>,
}

/// Key of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigKey {
    /// Name of the key.
    pub name: String,
    /// Type of its value.
    pub kind: ValueKind,
    /// Title for people, if it has one.
    pub title: Option<String>,
    /// Description for people.
    pub description: String,
    /// Default, as text.
    pub default: Option<String>,
    /// Examples, as texts.
    pub examples: Vec<String>,
    /// Values that it may have. Empty: any of its type.
    pub choices: Vec<Choice>,
    /// True if it must be set.
    pub required: bool,
    /// Least value of a number.
    pub minimum: Option<String>,
    /// Greatest value of a number.
    pub maximum: Option<String>,
}

/// Compiled schema of a configuration.
#[derive(Debug)]
pub struct ConfigSchema {
    /// Keys in the order in which the author lists them.
    pub keys: Vec<ConfigKey>,
    /// True if keys that are not listed are allowed.
    pub allows_other_keys: bool,
    pub(super) validator: Validator,
}

impl ConfigSchema {
    /// Checks a schema and compiles it.
    pub(super) fn compile(schema: &Value) -> Result<Self, ManifestError> {
        let root = schema.as_object().ok_or_else(|| fault("/config", "is a JSON Schema: an object"))?;
        check_keywords("/config", root, &ROOT_KEYWORDS)?;
        check_texts("/config", root)?;
        if root.get("type").and_then(Value::as_str) != Some("object") {
            return Err(fault("/config/type", "is \"object\""));
        }
        if root.get("$schema").is_some_and(|dialect| dialect.as_str() != Some(DIALECT)) {
            return Err(fault("/config/$schema", format!("is {DIALECT:?}, or absent")));
        }
        let allows_other_keys = match root.get("additionalProperties") {
            None => true,
            Some(Value::Bool(allows)) => *allows,
            Some(_) => return Err(fault("/config/additionalProperties", "is true or false")),
        };
        let required = required(root)?;
        let none = Map::new();
        let properties = match root.get("properties") {
            None => &none,
            Some(Value::Object(properties)) => properties,
            Some(_) => return Err(fault("/config/properties", "is an object")),
        };
        if properties.len() > KEYS_MAX {
            return Err(fault("/config/properties", format!("has more than {KEYS_MAX} keys")));
        }
        if let Some(unknown) = required.iter().find(|name| !properties.contains_key(**name)) {
            return Err(fault("/config/required", format!("{unknown:?} is not one of the properties")));
        }
        let mut patterns = 0;
        let mut keys = Vec::new();
        for (name, property) in properties {
            keys.push(key(name, property, required.contains(&name.as_str()), &mut patterns)?);
        }
        let validator = compiled(root)?;
        let schema = ConfigSchema { keys, allows_other_keys, validator };
        schema.check_values(properties)?;
        Ok(schema)
    }

    /// Checks the defaults and the examples by the schema itself.
    fn check_values(&self, properties: &Map<String, Value>) -> Result<(), ManifestError> {
        for key in &self.keys {
            let Some(property) = properties.get(&key.name) else { continue };
            let default = property.get("default").map(|one| ("default", one));
            let examples = property.get("examples").and_then(Value::as_array).into_iter().flatten();
            for (keyword, value) in default.into_iter().chain(examples.map(|one| ("examples", one))) {
                let instance = Value::Object(Map::from_iter([(key.name.clone(), value.clone())]));
                let pointer = format!("/{}", escaped(&key.name));
                let mut errors = self.validator.iter_errors(&instance);
                if let Some(error) = errors.find(|error| error.instance_path().as_str().starts_with(&pointer)) {
                    return Err(fault(format!("/config/properties{pointer}/{keyword}"), error.to_string()));
                }
            }
        }
        Ok(())
    }
}

/// Compiles a schema whose keywords are checked. Keys that are not listed are the matter of the whole chain.
fn compiled(root: &Map<String, Value>) -> Result<Validator, ManifestError> {
    let mut root = root.clone();
    root.remove("additionalProperties");
    let patterns =
        PatternOptions::regex().size_limit(PATTERN_PROGRAM_BYTES_MAX).dfa_size_limit(PATTERN_PROGRAM_BYTES_MAX);
    let options = jsonschema::options().with_draft(Draft::Draft202012).with_pattern_options(patterns);
    options.build(&Value::Object(root)).map_err(|error| {
        let pointer = format!("/config{}", error.instance_path().as_str());
        fault(pointer, error.to_string())
    })
}

fn required(root: &Map<String, Value>) -> Result<Vec<&str>, ManifestError> {
    let Some(required) = root.get("required") else { return Ok(Vec::new()) };
    let names = required.as_array().and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    names.ok_or_else(|| fault("/config/required", "is a list of names"))
}

fn check_keywords(pointer: &str, schema: &Map<String, Value>, known: &[&str]) -> Result<(), ManifestError> {
    let Some(keyword) = schema.keys().find(|keyword| !known.contains(&keyword.as_str()) && !keyword.starts_with("x-"))
    else {
        return Ok(());
    };
    let detail = format!("this keyword is not supported here; supported are {}", known.join(", "));
    Err(fault(format!("{pointer}/{}", escaped(keyword)), detail))
}

fn check_texts(pointer: &str, schema: &Map<String, Value>) -> Result<(), ManifestError> {
    for keyword in ["title", "description"] {
        let Some(text) = schema.get(keyword) else { continue };
        let fits = text.as_str().is_some_and(|text| text.chars().count() <= TEXT_CHARS_MAX);
        if !fits {
            return Err(fault(
                format!("{pointer}/{keyword}"),
                format!("is a text of at most {TEXT_CHARS_MAX} characters"),
            ));
        }
    }
    Ok(())
}

fn key(name: &str, property: &Value, required: bool, patterns: &mut usize) -> Result<ConfigKey, ManifestError> {
    let pointer = format!("/config/properties/{}", escaped(name));
    if name.is_empty() || name.len() > KEY_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(fault(pointer, format!("a key has 1 to {KEY_BYTES_MAX} bytes and no control characters")));
    }
    let schema = property.as_object().ok_or_else(|| fault(&pointer, "is a schema: an object"))?;
    let (kind, choices) = scalar_or_list(&pointer, schema, patterns)?;
    let text = |keyword: &str| schema.get(keyword).and_then(Value::as_str).map(one_line);
    let number = |keyword: &str| schema.get(keyword).filter(|value| value.is_number()).map(Value::to_string);
    let written = |keyword: &str, value: &Value| {
        kind.write(value).map_err(|detail| fault(format!("{pointer}/{keyword}"), detail))
    };
    let default = schema.get("default").map(|value| written("default", value)).transpose()?;
    let examples = match schema.get("examples") {
        None => Vec::new(),
        Some(Value::Array(examples)) => {
            examples.iter().map(|value| written("examples", value)).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(fault(format!("{pointer}/examples"), "is a list")),
    };
    Ok(ConfigKey {
        name: name.to_owned(),
        kind,
        title: text("title"),
        description: text("description").unwrap_or_default(),
        default,
        examples,
        choices,
        required,
        minimum: number("minimum"),
        maximum: number("maximum"),
    })
}

/// Returns a text without line ends, as source code breaks the lines of a comment.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Checks the schema of a key. Returns its type and its choices.
fn scalar_or_list(
    pointer: &str,
    schema: &Map<String, Value>,
    patterns: &mut usize,
) -> Result<(ValueKind, Vec<Choice>), ManifestError> {
    if schema.get("type").and_then(Value::as_str) != Some("array") {
        return scalar(pointer, schema, patterns);
    }
    check_keywords(pointer, schema, &KEYWORDS)?;
    check_texts(pointer, schema)?;
    let separator = match schema.get("x-separator").map(Value::as_str) {
        None | Some(Some("comma")) => Separator::Comma,
        Some(Some("line")) => Separator::Line,
        Some(_) => return Err(fault(format!("{pointer}/x-separator"), "is \"comma\" or \"line\"")),
    };
    let items = schema.get("items").and_then(Value::as_object);
    let items = items.ok_or_else(|| fault(format!("{pointer}/items"), "is the schema of an item: an object"))?;
    let (kind, choices) = scalar(&format!("{pointer}/items"), items, patterns)?;
    let list = match kind {
        ValueKind::String => ValueKind::Strings(separator),
        ValueKind::Integer => ValueKind::Integers(separator),
        ValueKind::Number => ValueKind::Numbers(separator),
        _ => return Err(fault(format!("{pointer}/items/type"), "is string, integer or number")),
    };
    Ok((list, choices))
}

fn scalar(
    pointer: &str,
    schema: &Map<String, Value>,
    patterns: &mut usize,
) -> Result<(ValueKind, Vec<Choice>), ManifestError> {
    check_keywords(pointer, schema, &KEYWORDS)?;
    check_texts(pointer, schema)?;
    if let Some(pattern) = schema.get("pattern") {
        *patterns += 1;
        if pattern.as_str().is_none_or(|pattern| pattern.len() > PATTERN_BYTES_MAX) || *patterns > PATTERNS_MAX {
            let detail = format!("at most {PATTERNS_MAX} patterns of {PATTERN_BYTES_MAX} bytes are allowed");
            return Err(fault(format!("{pointer}/pattern"), detail));
        }
    }
    let kind = match schema.get("type") {
        Some(kind) => kind.as_str(),
        // The type of a closed set of texts need not be written.
        None if ["enum", "const", "oneOf"].iter().any(|keyword| schema.contains_key(*keyword)) => Some("string"),
        None => None,
    };
    let kind = match kind {
        Some("string") => ValueKind::String,
        Some("integer") => ValueKind::Integer,
        Some("number") => ValueKind::Number,
        Some("boolean") => ValueKind::Boolean,
        _ => {
            let detail = "is one of string, integer, number, boolean and array: a value must be writable as text";
            return Err(fault(format!("{pointer}/type"), detail));
        }
    };
    Ok((kind, choices(pointer, schema, kind)?))
}

/// Returns the closed set of values of a key, which `enum`, `const` or `oneOf` lists.
fn choices(pointer: &str, schema: &Map<String, Value>, kind: ValueKind) -> Result<Vec<Choice>, ManifestError> {
    let mut choices = Vec::new();
    let mut add = |pointer: String, value: &Value, description: Option<&Value>| {
        let value = kind.write(value).map_err(|detail| fault(pointer, detail))?;
        let description = description.and_then(Value::as_str).map(one_line);
        choices.push(Choice { value, description });
        Ok::<_, ManifestError>(())
    };
    if let Some(value) = schema.get("const") {
        add(format!("{pointer}/const"), value, None)?;
    }
    for (keyword, list) in ["enum", "oneOf"].into_iter().filter_map(|keyword| Some((keyword, schema.get(keyword)?))) {
        let list = list.as_array().filter(|list| (1..=CHOICES_MAX).contains(&list.len()));
        let at = format!("{pointer}/{keyword}");
        let list = list.ok_or_else(|| fault(&at, format!("is a list of 1 to {CHOICES_MAX} values")))?;
        for (index, entry) in list.iter().enumerate() {
            let at = format!("{at}/{index}");
            if keyword == "enum" {
                add(at, entry, None)?;
                continue;
            }
            let entry = entry.as_object().ok_or_else(|| fault(&at, "is a schema: an object"))?;
            check_keywords(&at, entry, &["const", "title", "description", "type"])?;
            check_texts(&at, entry)?;
            let value = entry.get("const").ok_or_else(|| fault(format!("{at}/const"), "is the value of the choice"))?;
            add(at, value, entry.get("description").or_else(|| entry.get("title")))?;
        }
    }
    Ok(choices)
}
