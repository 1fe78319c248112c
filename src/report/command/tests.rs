use super::super::samples::full;
use super::*;
use std::fs;

#[test]
fn a_report_is_told_by_what_is_in_it_and_what_is_none_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let refused = |name: &str| {
        let error = report(&path(name), Format::Json, false, None).unwrap_err().to_string();
        error.replace(&dir.path().display().to_string(), "")
    };
    fs::write(path("any name"), full().to_json()).unwrap();
    let shown = report(&path("any name"), Format::Json, false, None).unwrap();
    assert_eq!((shown.text, shown.exit_code), (Some(full().to_json()), 3));
    for (name, contents) in
        [("list", "[]"), ("text", "hello"), ("other", "{\"command\": \"dump\"}"), ("empty", "")]
    {
        fs::write(path(name), contents).unwrap();
        let expected =
            format!("\"/{name}\" is neither the manifest of a dump nor a report of pg_salvage");
        assert_eq!(refused(name), expected);
    }
    fs::write(
        path("newer"),
        full().to_json().replace("\"format_version\": 1", "\"format_version\": 9"),
    )
    .unwrap();
    let expected = "could not read \"/newer\": the report has format version 9, and this program \
                    reads version 1";
    assert_eq!(refused("newer"), expected);
    assert!(refused("missing").starts_with("could not read \"/missing\": No such file"));
    assert!(refused("").starts_with("could not read \"/manifest.json\": No such file"));
    // A directory may have a report in it, and no dump.
    fs::write(path("verify.json"), full().to_json()).unwrap();
    assert_eq!(report(dir.path(), Format::Json, false, None).unwrap().exit_code, 3);
    fs::remove_file(path("verify.json")).unwrap();
    fs::write(path(JOURNAL), "").unwrap();
    assert!(refused("").contains("has not ended, or was killed"), "{}", refused(""));
    let error = report(Path::new("/dev/zero"), Format::Json, false, None).unwrap_err();
    assert_eq!(error.to_string(), "could not read \"/dev/zero\": it is no file");
}

#[test]
fn a_report_goes_into_a_file_and_nothing_is_left_to_print() {
    let dir = tempfile::tempdir().unwrap();
    let [from, to] = ["verify.json", "verify.prom"].map(|name| dir.path().join(name));
    fs::write(&from, full().to_json()).unwrap();
    let shown = report(&from, Format::Openmetrics, false, Some(&to)).unwrap();
    assert_eq!((shown.text, shown.exit_code), (None, 3));
    assert!(fs::read_to_string(&to).unwrap().ends_with("# EOF\n"));
}
