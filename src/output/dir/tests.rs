use std::os::unix::fs::symlink;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_directory_and_its_folders_are_for_the_owner_only() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("dump");
    let dir = DumpDir::create(&path, true).unwrap();
    assert_eq!(dir.path(), path);
    assert_eq!(entries(&path), ["data", "errors", "maps"]);
    for folder in ["", "data", "errors", "maps"] {
        assert_eq!(mode(&path.join(folder)), 0o700, "{folder}");
    }
}

#[test]
fn an_empty_directory_is_taken_and_closed_to_others() {
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), Permissions::from_mode(0o755)).unwrap();
    DumpDir::create(temp.path(), true).unwrap();
    assert_eq!(mode(temp.path()), 0o700);
    assert_eq!(entries(temp.path()), ["data", "errors", "maps"]);
}

#[test]
fn a_directory_with_something_in_it_is_refused_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), Permissions::from_mode(0o755)).unwrap();
    for name in ["b", "a", "c"] {
        fs::write(temp.path().join(name), "").unwrap();
    }
    let error = DumpDir::create(temp.path(), true).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "directory \"{}\" is not empty (it has \"a\"); give the name of a new directory",
            temp.path().display()
        )
    );
    assert_eq!(entries(temp.path()), ["a", "b", "c"]);
    assert_eq!(mode(temp.path()), 0o755);
}

#[test]
fn what_is_no_place_for_a_directory_is_refused_in_one_line() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    fs::write(at("file"), "").unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    let root = temp.path().display();
    let cases = [
        (
            at("file"),
            format!(
                "\"{root}/file\" exists and is not a directory; give the name of a new directory"
            ),
        ),
        (
            at("no/dump"),
            format!(
                "could not create directory \"{root}/no/dump\": there is no directory \"{root}/no\" to create it in"
            ),
        ),
        (
            at("file/dump"),
            format!(
                "could not create directory \"{root}/file/dump\": Not a directory (os error 20)"
            ),
        ),
        (
            at("dangling"),
            format!(
                "could not open directory \"{root}/dangling\": No such file or directory (os error 2)"
            ),
        ),
        (
            PathBuf::new(),
            "could not create directory \"\": No such file or directory (os error 2)".to_owned(),
        ),
    ];
    for (path, expected) in cases {
        assert_eq!(DumpDir::create(&path, true).unwrap_err().to_string(), expected);
    }
    assert_eq!(entries(temp.path()), ["dangling", "file"]);
}

#[test]
fn two_runs_cannot_share_a_directory() {
    let temp = tempfile::tempdir().unwrap();
    let first = DumpDir::create(temp.path(), true).unwrap();
    for second in [DumpDir::create(temp.path(), true), DumpDir::open(temp.path(), true)] {
        assert_eq!(
            second.unwrap_err().to_string(),
            format!(
                "directory \"{}\" is in use by another run of pg_salvage",
                temp.path().display()
            )
        );
    }
    drop(first);
    DumpDir::open(temp.path(), true).unwrap();
}

#[tokio::test]
async fn a_whole_file_is_written_and_replaced_with_its_folder() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), true).unwrap();
    for bytes in ["first and longer", "second"] {
        dir.write_atomic("pages/public.t/main.7.page", bytes.into()).await.unwrap();
        let path = temp.path().join("pages/public.t/main.7.page");
        assert_eq!(fs::read_to_string(&path).unwrap(), bytes);
        assert_eq!(mode(&path), 0o600);
    }
    assert_eq!(mode(&temp.path().join("pages")), 0o700);
    assert_eq!(entries(&temp.path().join("pages/public.t")), ["main.7.page"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), true).unwrap();
    fs::create_dir(temp.path().join("manifest.json")).unwrap();
    let error = dir.write_atomic("manifest.json", b"{}".to_vec()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "could not rename file \"{}/manifest.json\": Is a directory (os error 21)",
            temp.path().display()
        )
    );
    assert_eq!(entries(temp.path()), ["data", "errors", "manifest.json", "maps"]);
}
