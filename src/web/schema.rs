//! JSON schemas of the API's description, as people read them: the fields of a body with
//! their types in words, and a sample. Bounded in depth, so that a schema that holds itself
//! ends.

use serde_json::{Map, Value};

/// How deep samples go.
const DEPTH: usize = 5;

/// One field of a body.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) required: bool,
    pub(super) description: String,
}

/// The schemas a description names.
#[derive(Clone, Copy)]
pub(super) struct Schemas<'a>(pub(super) &'a Value);

impl<'a> Schemas<'a> {
    /// What a reference leads to; anything else is itself.
    fn found(self, schema: &'a Value) -> &'a Value {
        let Some(path) = schema["$ref"].as_str() else {
            return schema;
        };
        let name = path.rsplit('/').next().unwrap_or_default();
        &self.0["components"]["schemas"][name]
    }

    /// Whether nothing but null fits.
    fn is_null(self, schema: &'a Value) -> bool {
        self.found(schema)["type"] == "null"
    }

    /// Type and limits in words.
    pub(super) fn kind(self, schema: &'a Value) -> String {
        let schema = self.found(schema);
        if let Some(words) = schema["enum"].as_array() {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            return words.join(" | ");
        }
        if let Some(ways) = schema["oneOf"].as_array() {
            let kinds: Vec<String> = ways.iter().map(|way| self.kind(way)).collect();
            return kinds.join(" or ");
        }
        let mut kind = match &schema["type"] {
            Value::String(one) => one.clone(),
            Value::Array(several) => {
                let several: Vec<&str> = several.iter().filter_map(Value::as_str).collect();
                several.join(" or ")
            }
            _ if schema["allOf"].is_array() => "object".to_owned(),
            _ => "any".to_owned(),
        };
        if kind.starts_with("array") && schema["items"].is_object() {
            kind = format!("{kind} of {}", self.kind(&schema["items"]));
        }
        kind + &limits(schema)
    }

    /// The fields of an object, those of its parts too.
    pub(super) fn fields(self, schema: &'a Value) -> Vec<Field> {
        let schema = self.found(schema);
        let mut fields = Vec::new();
        for part in schema["allOf"].as_array().into_iter().flatten() {
            fields.extend(self.fields(part));
        }
        // Of several forms each field once, with what it may be in any of them.
        for way in schema["oneOf"].as_array().into_iter().flatten() {
            for field in self.fields(way) {
                let known = fields.iter_mut().find(|known| known.name == field.name);
                match known {
                    Some(known) if known.kind.split(" or ").any(|k| k == field.kind) => {}
                    Some(known) => known.kind.push_str(&format!(" or {}", field.kind)),
                    None => fields.push(field),
                }
            }
        }
        let required = &schema["required"];
        let needs = |name: &str| {
            let names = required.as_array().into_iter().flatten();
            names.filter_map(Value::as_str).any(|known| known == name)
        };
        for (name, of) in schema["properties"].as_object().into_iter().flatten() {
            let said = of["description"].as_str();
            let said = said.or_else(|| self.found(of)["description"].as_str());
            fields.push(Field {
                name: name.clone(),
                kind: self.kind(of),
                required: needs(name),
                description: said.unwrap_or_default().to_owned(),
            });
        }
        fields
    }

    /// Something that fits.
    pub(super) fn sample(self, schema: &'a Value) -> Value {
        self.sample_at(schema, DEPTH)
    }

    fn sample_at(self, schema: &'a Value, depth: usize) -> Value {
        let schema = self.found(schema);
        if depth == 0 {
            return Value::from("…");
        }
        if let Some(example) = schema.get("example") {
            return example.clone();
        }
        if let Some(first) = schema["enum"].get(0) {
            return first.clone();
        }
        if let Some(ways) = schema["oneOf"].as_array() {
            let way = ways.iter().find(|way| !self.is_null(way));
            return way.map_or(Value::Null, |way| self.sample_at(way, depth - 1));
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let mut whole = Map::new();
            for part in parts {
                if let Value::Object(fields) = self.sample_at(part, depth) {
                    whole.extend(fields);
                }
            }
            return Value::Object(whole);
        }
        match first_type(schema) {
            "object" => {
                let fields = schema["properties"].as_object().into_iter().flatten();
                let fields = fields.map(|(name, of)| (name.clone(), self.sample_at(of, depth - 1)));
                Value::Object(fields.collect())
            }
            "array" => match schema["prefixItems"].as_array() {
                Some(items) => {
                    let items = items.iter().map(|item| self.sample_at(item, depth - 1));
                    Value::Array(items.collect())
                }
                None if schema["items"].is_object() => {
                    Value::Array(vec![self.sample_at(&schema["items"], depth - 1)])
                }
                None => Value::Array(Vec::new()),
            },
            "integer" | "number" => match &schema["minimum"] {
                Value::Null => Value::from(0),
                least => least.clone(),
            },
            "boolean" => Value::from(false),
            "string" => Value::from("…"),
            _ => Value::Null,
        }
    }
}

/// The type of a schema, of several the first that is not null.
fn first_type(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(one) => one,
        Value::Array(several) => several
            .iter()
            .filter_map(Value::as_str)
            .find(|one| *one != "null")
            .unwrap_or("null"),
        _ => "",
    }
}

fn limits(schema: &Value) -> String {
    let mut said = Vec::new();
    for (key, word) in [
        ("minimum", "from"),
        ("maximum", "to"),
        ("minLength", "at least"),
        ("maxLength", "at most"),
    ] {
        if let Some(limit) = schema[key].as_i64() {
            let unit = if key.ends_with("Length") {
                " characters"
            } else {
                ""
            };
            said.push(format!("{word} {limit}{unit}"));
        }
    }
    if said.is_empty() {
        return String::new();
    }
    format!(", {}", said.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({"components": {"schemas": {
            "Role": {"type": "string", "enum": ["admin", "viewer"]},
            "Loop": {"type": "object", "properties": {"again": {"$ref": "#/components/schemas/Loop"}}},
            "New": {"allOf": [
                {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 64, "description": "What for."},
                }},
                {"type": "object", "properties": {
                    "role": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Role"}]},
                    "days": {"type": ["integer", "null"], "minimum": 1, "maximum": 9},
                    "pairs": {"type": "array", "items": {"type": "array", "prefixItems": [
                        {"type": "number"}, {"type": "boolean"}]}},
                }},
            ]},
        }}})
    }

    fn at(name: &str) -> Value {
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    #[test]
    fn a_body_is_told_by_fields_and_by_a_sample() {
        let document = document();
        let schemas = Schemas(&document);
        let new = at("New");
        let fields = schemas.fields(&new);
        let told: Vec<(&str, &str, bool)> = fields
            .iter()
            .map(|f| (f.name.as_str(), f.kind.as_str(), f.required))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "name",
                    "string, at least 1 characters at most 64 characters",
                    true
                ),
                ("role", "null or admin | viewer", false),
                ("days", "integer or null, from 1 to 9", false),
                ("pairs", "array of array", false),
            ]
        );
        assert_eq!(
            schemas.sample(&new),
            json!({"name": "…", "role": "admin", "days": 1, "pairs": [[0, false]]})
        );
    }

    #[test]
    fn a_body_of_several_forms_is_told_with_what_each_field_may_be() {
        let form = |what: &str, more: &str| {
            json!({"type": "object", "required": ["what"], "properties": {
                "what": {"type": "string", "enum": [what]}, more: {"type": "string"}}})
        };
        let body = json!({"oneOf": [form("a", "both"), form("b", "both"), form("b", "one")]});
        let fields = Schemas(&Value::Null).fields(&body);
        let told: Vec<(&str, &str)> = fields
            .iter()
            .map(|f| (f.name.as_str(), f.kind.as_str()))
            .collect();
        assert_eq!(told[1..], [("both", "string"), ("one", "string")]);
        assert_eq!(told[0], ("what", "a or b"));
    }

    #[test]
    fn what_holds_itself_or_leads_nowhere_ends() {
        let document = document();
        let schemas = Schemas(&document);
        assert!(schemas.sample(&at("Loop")).to_string().contains('…'));
        assert_eq!(schemas.sample(&at("Nowhere")), Value::Null);
        assert_eq!(schemas.kind(&at("Nowhere")), "any");
        assert!(schemas.fields(&at("Nowhere")).is_empty());
    }
}
