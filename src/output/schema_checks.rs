//! What the tests of a report's form ask of its JSON schema.

use serde_json::Value;

/// Of a schema's text.
pub(crate) fn validator(schema: &str) -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(schema).expect("JSON");
    jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(&schema)
        .expect("a schema")
}

pub(crate) fn assert_kept(schema: &jsonschema::Validator, json: &str) {
    let json: Value = serde_json::from_str(json).expect("JSON");
    let errors: Vec<String> = schema
        .iter_errors(&json)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// Each change of one place makes what is good into what is refused.
pub(crate) fn assert_refused(
    schema: &jsonschema::Validator,
    good: &str,
    breaks: impl IntoIterator<Item = (&'static str, Value)>,
) {
    let good: Value = serde_json::from_str(good).expect("JSON");
    for (pointer, value) in breaks {
        let mut json = good.clone();
        *json.pointer_mut(pointer).expect(pointer) = value;
        assert!(!schema.is_valid(&json), "{pointer}");
    }
}

/// Schema and program know the same fields: no object of the example, which has
/// every field there is, may have one more, and what can be left out for the
/// schema can be left out for `is_read`, and the other way round. `open` are
/// pointers of objects that may have any field; of a field that `is_bound` to
/// another, only the schema knows.
pub(crate) fn assert_exact(
    schema: &jsonschema::Validator,
    good: &str,
    open: &[&str],
    is_bound: impl Fn(&str, &str) -> bool,
    is_read: impl Fn(&[u8]) -> bool,
) {
    let good: Value = serde_json::from_str(good).expect("JSON");
    let mut found = Vec::new();
    objects(&good, "", &mut found);
    for pointer in found.iter().filter(|pointer| !open.contains(&pointer.as_str())) {
        let mut json = good.clone();
        json.pointer_mut(pointer).expect(pointer)["more"] = Value::from(1);
        assert!(!schema.is_valid(&json), "{pointer}/more");
        let fields = good.pointer(pointer).and_then(Value::as_object).expect(pointer);
        for name in fields.keys() {
            let mut json = good.clone();
            let object = json.pointer_mut(pointer).and_then(Value::as_object_mut).expect(pointer);
            object.remove(name);
            let is_read = is_read(json.to_string().as_bytes()) && !is_bound(pointer, name);
            assert_eq!(schema.is_valid(&json), is_read, "{pointer}/{name}");
        }
    }
}

/// Where there are objects.
fn objects(json: &Value, at: &str, found: &mut Vec<String>) {
    match json {
        Value::Object(fields) => {
            found.push(at.to_owned());
            let fields = fields.iter();
            fields.for_each(|(name, value)| objects(value, &format!("{at}/{name}"), found));
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, value)| objects(value, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}
