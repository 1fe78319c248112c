use std::fs;

use super::*;

fn line(message: &str) -> ErrorLine {
    ErrorLine {
        time: Some("2026-03-01T10:00:00Z".parse().unwrap()),
        oid: Some(16_385),
        schema: Some("public".to_owned()),
        relation: Some("odd \"name\", with\nnewline".to_owned()),
        message: Some(message.to_owned()),
        ..ErrorLine::default()
    }
}

fn lines(path: &std::path::Path) -> Vec<ErrorLine> {
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

#[tokio::test]
async fn there_is_no_file_without_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), true).unwrap();
    let log = ErrorLog::new(&dir, "public.t").unwrap();
    assert_eq!(log.finish().await.unwrap(), Errors { path: None, count: 0 });
    assert_eq!(fs::read_dir(temp.path().join("errors")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_error_is_in_the_file_at_once_with_all_that_is_known() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), true).unwrap();
    let mut log = ErrorLog::new(&dir, "public.t").unwrap();
    log.record(ErrorLine {
        fork: Some("main".to_owned()),
        first_block: Some(7),
        last_block: Some(7),
        offset: Some(3),
        column: Some("note".to_owned()),
        sqlstate: Some("XX001".to_owned()),
        severity: Some("ERROR".to_owned()),
        routine: Some("PageIsVerified".to_owned()),
        source_file: Some("bufpage.c".to_owned()),
        source_line: Some(154),
        context: Some("COPY t, line 3, column x: \"secret\"".to_owned()),
        cause: Some("tuple".to_owned()),
        read: Some("block 7".to_owned()),
        action: Some("narrowed".to_owned()),
        ..line("invalid page in block 7")
    })
    .unwrap();
    let part = fs::read_to_string(temp.path().join("errors/public.t.csv.part")).unwrap();
    let expected = "\
time,oid,schema,relation,fork,first_block,last_block,offset,column,cause,sqlstate,severity,routine,\
source_file,source_line,message,detail,hint,context,read,action
2026-03-01T10:00:00Z,16385,public,\"odd \"\"name\"\", with
newline\",main,7,7,3,note,tuple,XX001,ERROR,PageIsVerified,bufpage.c,154,invalid page in block 7,,,\
\"COPY t, line 3, column x: ...\",block 7,narrowed
";
    assert_eq!(part, expected);
    let errors = log.finish().await.unwrap();
    assert_eq!(errors, Errors { path: Some("errors/public.t.csv".to_owned()), count: 1 });
    assert_eq!(fs::read_to_string(temp.path().join("errors/public.t.csv")).unwrap(), expected);
}

#[tokio::test]
async fn the_file_is_bounded_and_the_count_is_exact() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), false).unwrap();
    let mut log = ErrorLog::new(&dir, "public.t").unwrap();
    log.lines_max = 3;
    for number in 0..10 {
        log.record(line(&format!("error {number}"))).unwrap();
    }
    assert_eq!(log.finish().await.unwrap().count, 10);
    let lines = lines(&temp.path().join("errors/public.t.csv"));
    let messages: Vec<_> = lines.iter().map(|line| line.message.as_deref().unwrap()).collect();
    let last = "7 more errors of this relation are not listed";
    assert_eq!(messages, ["error 0", "error 1", "error 2", last]);
    assert_eq!(lines[3].oid, Some(16_385));
}

#[tokio::test]
async fn a_long_message_is_cut_between_letters() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), false).unwrap();
    let mut log = ErrorLog::new(&dir, "public.t").unwrap();
    log.record(line(&"ü".repeat(5000))).unwrap();
    log.record(line(&"x".repeat(4096))).unwrap();
    log.finish().await.unwrap();
    let lines = lines(&temp.path().join("errors/public.t.csv"));
    assert_eq!(lines[0].message.as_deref(), Some(format!("{}…", "ü".repeat(2046)).as_str()));
    assert_eq!(lines[1].message.as_deref(), Some("x".repeat(4096).as_str()));
}

#[tokio::test]
async fn a_resumed_run_goes_on_with_the_log_and_drops_a_torn_line() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DumpDir::create(temp.path(), true).unwrap();
    let mut log = ErrorLog::new(&dir, "public.t").unwrap();
    log.record(line("one")).unwrap();
    log.record(line("two")).unwrap();
    drop((log, dir));
    let part = temp.path().join("errors/public.t.csv.part");
    let text = fs::read(&part).unwrap();
    fs::write(&part, &text[..text.len() - 12]).unwrap();

    let dir = DumpDir::open(temp.path(), true).unwrap();
    let mut log = ErrorLog::new(&dir, "public.t").unwrap();
    assert_eq!(log.count(), 1);
    log.record(line("three")).unwrap();
    assert_eq!(log.finish().await.unwrap().count, 2);
    let lines = lines(&temp.path().join("errors/public.t.csv"));
    assert_eq!(lines, [line("one"), line("three")]);
}
