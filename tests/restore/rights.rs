//! Into a database where not everything is allowed, and what its triggers do.

use super::again::{number, shop};
use super::way_back::{WayBack, contents, dump, restore};
use crate::binary::{run, words_as};
use crate::kit::{Server, ServerOptions, Version, sample};
use pg_salvage::output::restored::RelationStatus;
use std::path::Path;

/// What of the sample database only a superuser can make.
const FOR_SUPERUSERS: [&str; 4] =
    ["FOREIGN DATA WRAPPER", "SERVER", "FOREIGN TABLE", "EVENT TRIGGER"];

/// Restores as a role that is no superuser.
fn restore_as(server: &Server, dbname: &str, dir: &Path, options: &[&str]) -> WayBack {
    let mut words = words_as("restore", server, dbname, "keeper");
    words.extend([dir.display().to_string(), "--no-sync".to_owned()]);
    words.extend(options.iter().map(|word| (*word).to_owned()));
    WayBack::of(run(words), dir.join("rejects"))
}

/// The owner of a database loads all rows; what only a superuser can do is
/// reported, once for all that it is said of.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_superuser_loads_all_rows_and_is_told_what_is_missing() {
    for version in Version::one_or_two() {
        let at = format!("PostgreSQL {}", version.major);
        let server = Server::start(&version, ServerOptions::checksums(true));
        sample::create(&server, "sample", 1).await;
        let more = "CREATE ROLE keeper LOGIN CREATEDB;
            CREATE FUNCTION event() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
            CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION event()";
        server.execute("sample", more).await;
        let dumped = dump(&server, "sample", &["-j2"]);
        let options = ["--create", "-j2", "--check"];
        let back = restore_as(&server, "theirs", &dumped.dir, &options);
        let said = format!("{at}: {}\n{}", back.ran.stdout, back.ran.stderr);
        assert_eq!(back.ran.code, 2, "{said}");
        back.assert_counts(&at);
        for relation in &back.report().relations {
            assert_ne!(relation.status, RelationStatus::NotLoaded, "{}: {said}", relation.name);
            let Some(check) = &relation.check else { continue };
            let hidden = check.failed.as_ref().is_some_and(|f| f.contains("row-level security"));
            assert!(check.equal || hidden, "{}: {check:?}: {said}", relation.name);
            assert_eq!(hidden, relation.name == "row_security_forced", "{said}");
        }
        let objects = back.relation("pg_largeobject").check.as_ref();
        assert!(objects.is_some_and(|c| c.found == 4), "{said}");
        let is_owner = |desc: &str| desc.starts_with("OWNER OF ");
        let others = back.report().not_made.iter().filter(|n| !is_owner(&n.desc));
        let others: Vec<&str> = others.map(|n| n.desc.as_str()).collect();
        assert_eq!(others, FOR_SUPERUSERS, "{said}");
        assert!(back.ran.stdout.contains("owners could not be set"), "{said}");
        assert!(!back.ran.stderr.contains("was lost"), "{said}");
        // Rows that row security hides from their owner are there, too.
        let (mut was, mut is) =
            (contents(&server, "sample").await, contents(&server, "theirs").await);
        // Who owns large objects is another thing.
        was.retain(|name, _| !name.contains("lomowner"));
        is.retain(|name, _| !name.contains("lomowner"));
        assert!(was == is, "{at}");
        std::fs::remove_dir_all(&back.folder).expect("the folder");
        let back = restore_as(&server, "mine", &dumped.dir, &["--create", "-j2", "-O"]);
        let not_made: Vec<&str> = back.report().not_made.iter().map(|n| n.desc.as_str()).collect();
        assert_eq!(not_made, FOR_SUPERUSERS, "{at}: {}", back.ran.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_are_disabled_do_not_fire_and_are_there_then() {
    let server = shop(&Version::newest()).await;
    let dumped = dump(&server, "shop", &[]);
    let first = restore(&server, "quiet", &dumped.dir, &["--create", "--schema-only"]);
    assert_eq!(first.ran.code, 0, "{}", first.ran.stderr);
    std::fs::remove_dir_all(&first.folder).expect("the folder");
    let trigger = "CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'never'; END $$;
        CREATE TRIGGER never BEFORE INSERT ON sold FOR EACH ROW EXECUTE FUNCTION never();
        CREATE ROLE keeper LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO keeper";
    server.execute("quiet", trigger).await;
    let options = ["--data-only", "--disable-triggers", "-j2", "--check"];
    let refused = restore_as(&server, "quiet", &dumped.dir, &options);
    assert_eq!((refused.ran.code, refused.ran.stderr.lines().count()), (1, 1));
    let why = "--disable-triggers: permission denied to set parameter";
    assert!(refused.ran.stderr.contains(why), "{}", refused.ran.stderr);
    assert!(!refused.folder.exists(), "nothing was begun");
    let back = restore(&server, "quiet", &dumped.dir, &options);
    let said = format!("{}\n{}", back.ran.stdout, back.ran.stderr);
    assert_eq!(back.ran.code, 0, "{said}");
    back.assert_counts(&said);
    assert_eq!(number(&server, "quiet", "SELECT count(*) FROM sold").await, 4000, "{said}");
    let one = server.connect("quiet").await;
    let error = one.execute("INSERT INTO sold (goods) VALUES (1)", &[]).await.expect_err("never");
    assert!(error.as_db_error().is_some_and(|e| e.message() == "never"), "{error:?}");
}
