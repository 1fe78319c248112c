//! What is promised of JSON that scripts read.

use serde_json::Value;

/// `value` keeps to this schema, which is JSON, too.
pub fn assert_keeps_to(schema: &str, value: &Value, about: &str) {
    let schema: Value = serde_json::from_str(schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let wrong: Vec<String> =
        validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(wrong.is_empty(), "{about}: it is not what its schema says: {wrong:#?}");
}
