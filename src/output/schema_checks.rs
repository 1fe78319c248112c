//! What the tests of a report's form ask of its JSON schema.

use serde_json::Value;

/// Of a schema's text.
pub(super) fn validator(schema: &str) -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(schema).expect("JSON");
    jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(&schema)
        .expect("a schema")
}

pub(super) fn assert_kept(schema: &jsonschema::Validator, json: &str) {
    let json: Value = serde_json::from_str(json).expect("JSON");
    let errors: Vec<String> = schema
        .iter_errors(&json)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// Each change of one place makes what is good into what is refused.
pub(super) fn assert_refused(
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
