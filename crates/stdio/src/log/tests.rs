//! What is written is read, whole and in order, over rotations, kills and full disks.

use std::{fs, time::Duration};

use proptest::prelude::*;
use workload::LogSpec;

use super::{record::HEADER_BYTES, *};

fn spec(dir: &tempfile::TempDir, bytes_max: u64, files_max: u32) -> LogSpec {
    LogSpec { path: dir.path().join("log"), bytes_max, files_max, ..LogSpec::default() }
}

fn unbounded(dir: &tempfile::TempDir) -> LogSpec {
    spec(dir, u64::MAX, 1)
}

fn read(path: &Path, query: Query) -> Vec<Record> {
    let mut reader = Reader::open(path, query).unwrap();
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

/// The text of all records of a stream.
fn text(records: &[Record], wanted: Stream) -> String {
    let bytes = records.iter().filter_map(|record| match &record.content {
        Content::Bytes { stream, bytes } if *stream == wanted => Some(bytes.as_slice()),
        Content::Bytes { .. } | Content::Lost { .. } => None,
    });
    String::from_utf8(bytes.collect::<Vec<_>>().concat()).unwrap()
}

fn all_text(path: &Path, query: Query) -> String {
    text(&read(path, query), Stream::Output)
}

fn tail(lines: u64) -> Query {
    Query { tail: Some(lines), ..Query::default() }
}

fn write(writer: &mut Writer, output: &str) {
    writer.append(Timestamp(1), Stream::Output, output.as_bytes());
}

#[test]
fn lines_have_their_time_and_stream_and_partial_ones_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(&unbounded(&dir)).unwrap();
    writer.append(Timestamp(5), Stream::Output, b"one\ntw");
    writer.append(Timestamp(6), Stream::Error, b"oops\n");
    writer.append(Timestamp(7), Stream::Output, b"o\n");
    let seen: Vec<_> = read(&dir.path().join("log"), Query::default())
        .into_iter()
        .map(|record| (record.at.0, record.partial(), record.content))
        .collect();
    let bytes = |stream, text: &str| Content::Bytes { stream, bytes: text.into() };
    assert_eq!(
        seen,
        [
            (5, false, bytes(Stream::Output, "one\n")),
            (5, true, bytes(Stream::Output, "tw")),
            (6, false, bytes(Stream::Error, "oops\n")),
            (7, false, bytes(Stream::Output, "o\n")),
        ]
    );
}

#[test]
fn a_log_that_is_not_there_is_empty_and_its_directory_must_be() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(&dir.path().join("log"), Query::default()), []);
    assert_eq!(read(&dir.path().join("log"), tail(3)), []);
    let error = Reader::open(&dir.path().join("no/log"), Query::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn other_files_and_later_versions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spec = unbounded(&dir);
    fs::write(&spec.path, "somebody's diary, which is long").unwrap();
    assert!(matches!(Writer::open(&spec), Err(LogError::NotALog { .. })));
    assert!(matches!(Reader::open(&spec.path, Query::default()), Err(LogError::NotALog { .. })));
    let later = b"wythelog\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    fs::write(&spec.path, later).unwrap();
    assert!(matches!(Writer::open(&spec), Err(LogError::Version { version: 2, .. })));
    assert_eq!(fs::read(&spec.path).unwrap(), later, "it is left alone");
}

#[test]
fn rotation_bounds_size_and_number_and_keeps_the_youngest() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(&dir, 500, 3);
    let mut writer = Writer::open(&spec).unwrap();
    for number in 0..200 {
        write(&mut writer, &format!("line {number}\n"));
    }
    let sizes: Vec<u64> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().all(|size| *size <= 500), "{sizes:?}");
    let text = all_text(&spec.path, Query::default());
    let want: String = (0..200).map(|number| format!("line {number}\n")).collect();
    assert!(want.ends_with(&text) && text.starts_with("line "), "{text}");
    assert!(text.lines().count() > 30, "three files hold more than {}", text.lines().count());
}

#[test]
fn one_piece_of_output_is_spread_over_as_many_files_as_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(&dir, 300, 100);
    let mut writer = Writer::open(&spec).unwrap();
    let output: String = (0..100).map(|number| format!("line {number}\n")).collect();
    write(&mut writer, &output);
    assert_eq!(all_text(&spec.path, Query::default()), output);
    assert!(fs::read_dir(dir.path()).unwrap().count() > 5);
}

#[test]
fn a_killed_writer_leaves_whole_records_and_the_next_goes_on_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let spec = unbounded(&dir);
    let mut writer = Writer::open(&spec).unwrap();
    write(&mut writer, "first\n");
    let first = fs::metadata(&spec.path).unwrap().len();
    write(&mut writer, "second\n");
    let whole = fs::read(&spec.path).unwrap();
    for cut in first..whole.len() as u64 {
        fs::write(&spec.path, &whole[..usize::try_from(cut).unwrap()]).unwrap();
        assert_eq!(all_text(&spec.path, Query::default()), "first\n", "cut at {cut}");
        assert_eq!(all_text(&spec.path, tail(1)), "first\n", "cut at {cut}");
        let mut next = Writer::open(&spec).unwrap();
        write(&mut next, "third\n");
        assert_eq!(all_text(&spec.path, Query::default()), "first\nthird\n", "cut at {cut}");
    }
}

#[test]
fn a_reader_at_a_torn_record_sees_what_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let spec = unbounded(&dir);
    let mut writer = Writer::open(&spec).unwrap();
    write(&mut writer, "first\n");
    let end = fs::metadata(&spec.path).unwrap().len();
    write(&mut writer, "torn\n");
    fs::File::options().write(true).open(&spec.path).unwrap().set_len(end + 9).unwrap();
    let mut reader = Reader::open(&spec.path, Query::default()).unwrap();
    assert!(reader.next().unwrap().is_some());
    assert!(reader.next().unwrap().is_none());
    write(&mut Writer::open(&spec).unwrap(), "next\n");
    let next = reader.next().unwrap().unwrap();
    assert_eq!(text(&[next], Stream::Output), "next\n");
}

#[test]
fn output_that_looks_like_a_record_is_not_taken_for_one() {
    // What the log ends with after a kill, if the process forged a record with this salt. A
    // newline in its bytes would be the end of a line, and so of the true record: try again.
    let torn_behind_forged = |guess: fn(u32) -> u32| loop {
        let dir = tempfile::tempdir().unwrap();
        let spec = unbounded(&dir);
        let mut writer = Writer::open(&spec).unwrap();
        write(&mut writer, "first\n");
        let salt = files::open(&spec.path, false).unwrap().unwrap().header.salt;
        let mut forged = Vec::new();
        record::encode(&mut forged, guess(salt), Timestamp(9), Stream::Output, b"forged");
        if forged.contains(&b'\n') {
            continue;
        }
        writer.append(Timestamp(1), Stream::Output, &[&b"x"[..], &forged].concat());
        let length = fs::metadata(&spec.path).unwrap().len();
        fs::File::options().write(true).open(&spec.path).unwrap().set_len(length - 4).unwrap();
        break all_text(&spec.path, tail(9));
    };
    assert_eq!(torn_behind_forged(|salt| salt), "forged", "who knew the salt could");
    assert_eq!(torn_behind_forged(|salt| salt ^ 1), "first\n");
}

#[test]
fn damage_is_told_once_and_the_next_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(&dir, 100, 5);
    let mut writer = Writer::open(&spec).unwrap();
    for number in 0..6 {
        write(&mut writer, &format!("a line that is long enough {number}\n"));
    }
    let old = files::name(&spec.path, 2);
    let mut bytes = fs::read(&old).unwrap();
    bytes[HEADER_BYTES + 12] = 77;
    fs::write(&old, bytes).unwrap();
    let mut reader = Reader::open(&spec.path, Query::default()).unwrap();
    let (mut lines, mut errors) = (0, 0);
    loop {
        match reader.next() {
            Ok(Some(_)) => lines += 1,
            Ok(None) => break,
            Err(error) => {
                assert!(matches!(error, LogError::Corrupt { offset: 24, .. }), "{error:?}");
                errors += 1;
            }
        }
    }
    assert_eq!((lines, errors), (4, 1));
}

#[test]
fn since_and_until_select_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let spec = unbounded(&dir);
    let mut writer = Writer::open(&spec).unwrap();
    for at in 1..=9 {
        writer.append(Timestamp(at), Stream::Output, format!("{at}\n").as_bytes());
    }
    let query = Query { since: Some(Timestamp(3)), until: Some(Timestamp(5)), tail: None };
    assert_eq!(all_text(&spec.path, query), "3\n4\n5\n");
    let mut reader = Reader::open(&spec.path, query).unwrap();
    while reader.next().unwrap().is_some() {}
    assert!(reader.ended());
}

#[test]
fn a_full_disk_stops_nobody_and_the_loss_stands_in_the_log() {
    // A file size limit acts as a full disk does; it is this process's own (nextest: one per test).
    let dir = tempfile::tempdir().unwrap();
    let spec = unbounded(&dir);
    let mut writer = Writer::open(&spec).unwrap();
    write(&mut writer, "before\n");
    let full = FullDisk::begin(fs::metadata(&spec.path).unwrap().len() + 30);
    write(&mut writer, "this line is lost, for it does not fit\n");
    assert_eq!(writer.lost(), 39);
    assert_eq!(all_text(&spec.path, Query::default()), "before\n");
    drop(full);
    write(&mut writer, "after\n");
    assert_eq!(writer.lost(), 0);
    let contents: Vec<_> =
        read(&spec.path, Query::default()).into_iter().map(|record| record.content).collect();
    let bytes = |text: &str| Content::Bytes { stream: Stream::Output, bytes: text.into() };
    assert_eq!(contents, [bytes("before\n"), Content::Lost { bytes: 39 }, bytes("after\n")]);
}

/// A limit on the size of every file this process writes.
struct FullDisk(rustix::process::Rlimit);

impl FullDisk {
    fn begin(bytes: u64) -> FullDisk {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        // SIGXFSZ is blocked, so that write(2) answers EFBIG.
        sigxfsz_is_ignored();
        let old = getrlimit(Resource::Fsize);
        let limit = Rlimit { current: Some(bytes), maximum: old.maximum };
        setrlimit(Resource::Fsize, limit).unwrap();
        FullDisk(old)
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        rustix::process::setrlimit(rustix::process::Resource::Fsize, self.0).unwrap();
    }
}

fn sigxfsz_is_ignored() {
    // Taking the signal as a stream makes tokio install a handler for it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kind = tokio::signal::unix::SignalKind::from_raw(25);
    runtime.block_on(async { drop(tokio::signal::unix::signal(kind).unwrap()) });
}

#[tokio::test]
async fn a_follower_sees_every_line_over_rotations() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(&dir, 2000, 4);
    let mut follower = Follower::open(&spec.path, Query::default()).unwrap();
    let writing = std::thread::spawn(move || {
        let mut writer = Writer::open(&spec).unwrap();
        for number in 0..300 {
            write(&mut writer, &format!("line {number}\n"));
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    for number in 0..300 {
        let next = tokio::time::timeout(Duration::from_secs(20), follower.next()).await;
        let record = next.expect("a line is missing").unwrap().unwrap();
        assert_eq!(text(&[record], Stream::Output), format!("line {number}\n"));
    }
    writing.join().unwrap();
    assert!(follower.reader().next().unwrap().is_none());
}

#[tokio::test]
async fn a_follower_waits_without_waking_and_ends_at_until() {
    let dir = tempfile::tempdir().unwrap();
    let spec = unbounded(&dir);
    let mut writer = Writer::open(&spec).unwrap();
    write(&mut writer, "old\n");
    let query = Query { tail: Some(0), until: Some(Timestamp(5)), since: None };
    let mut follower = Follower::open(&spec.path, query).unwrap();
    let quiet = tokio::time::timeout(Duration::from_millis(30), follower.next()).await;
    assert!(quiet.is_err(), "nothing has been written");
    write(&mut writer, "new\n");
    let record = follower.next().await.unwrap().unwrap();
    assert_eq!(text(&[record], Stream::Output), "new\n");
    writer.append(Timestamp(6), Stream::Output, b"too late\n");
    assert!(follower.next().await.unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_written_is_read_and_tails_are_its_last_lines(
        pieces in prop::collection::vec("[a-z\n]{0,40}", 1..40),
        bytes_max in 60u64..2000,
        lines in 0u64..12,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(&dir, bytes_max, 10_000);
        for part in pieces.chunks(7) {
            let mut writer = Writer::open(&spec).unwrap();
            for piece in part {
                write(&mut writer, piece);
            }
            prop_assert_eq!(writer.lost(), 0);
        }
        let whole = pieces.concat();
        prop_assert_eq!(all_text(&spec.path, Query::default()), whole.clone());
        let all: Vec<&str> = whole.split_inclusive('\n').collect();
        let from = all.len().saturating_sub(usize::try_from(lines).unwrap());
        prop_assert_eq!(all_text(&spec.path, tail(lines)), all[from..].concat());
    }
}

fn json_spec(dir: &tempfile::TempDir, bytes_max: u64, files_max: u32) -> LogSpec {
    let driver = workload::LogDriver::Json { attributes: Vec::new(), compress: false };
    LogSpec { driver, ..spec(dir, bytes_max, files_max) }
}

fn json_text(path: &Path, query: Query) -> String {
    let mut reader = Reader::open_as(path, Form::Json, query).unwrap();
    let records: Vec<_> = std::iter::from_fn(|| reader.next().unwrap()).collect();
    text(&records, Stream::Output)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn json_lines_are_read_as_they_were_written_over_rotations(
        pieces in prop::collection::vec("[a-z\n\"é]{0,40}", 1..40),
        bytes_max in 200u64..3000,
        lines in 0u64..12,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let spec = json_spec(&dir, bytes_max, 10_000);
        for part in pieces.chunks(7) {
            let mut writer = JsonWriter::open(&spec, &[]).unwrap();
            for piece in part {
                writer.append(Timestamp(1), Stream::Output, piece.as_bytes());
            }
            writer.finish(Timestamp(1));
        }
        let whole = pieces.concat();
        prop_assert_eq!(json_text(&spec.path, Query::default()), whole.clone());
        let all: Vec<&str> = whole.split_inclusive('\n').collect();
        let from = all.len().saturating_sub(usize::try_from(lines).unwrap());
        prop_assert_eq!(json_text(&spec.path, tail(lines)), all[from..].concat());
    }
}

#[test]
fn json_files_are_bounded_whole_and_resumed_behind_a_torn_line() {
    let dir = tempfile::tempdir().unwrap();
    let spec = json_spec(&dir, 1000, 3);
    let mut writer = JsonWriter::open(&spec, &[("tag".to_owned(), "web".to_owned())]).unwrap();
    for number in 0..100 {
        writer.append(Timestamp(7), Stream::Error, format!("line {number}\n").as_bytes());
    }
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 3);
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.len() <= 1000 && text.ends_with('\n'), "{text}");
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                (&value["stream"], &value["attrs"]["tag"]),
                (&"stderr".into(), &"web".into())
            );
        }
    }
    let mut torn = fs::File::options().append(true).open(&spec.path).unwrap();
    std::io::Write::write_all(&mut torn, b"{\"log\":\"to").unwrap();
    let mut writer = JsonWriter::open(&spec, &[]).unwrap();
    writer.append(Timestamp(8), Stream::Output, b"after\n");
    assert_eq!(json_text(&spec.path, tail(1)), "after\n");
}

/// Writes a line in one form or the other.
type Append = Box<dyn FnMut(&[u8])>;

/// Fifty followers, each in the midst of rotations, none of which loses a line.
async fn fifty_followers(form: Form, spec: LogSpec) {
    const FOLLOWERS: usize = 50;
    const LINES: u64 = 1000;
    let open = || Follower::open_as(&spec.path, form, Query::default()).unwrap();
    let followers: Vec<_> = (0..FOLLOWERS).map(|_| open()).collect();
    let following = followers.into_iter().map(|mut follower| {
        tokio::spawn(async move {
            for number in 0..LINES {
                let record = follower.next().await.unwrap().unwrap();
                assert_eq!(text(&[record], Stream::Output), format!("line {number}\n"));
            }
        })
    });
    let following: Vec<_> = following.collect();
    let path = spec.path.clone();
    let writing = std::thread::spawn(move || {
        let mut append: Append = match form {
            Form::Local => {
                let mut writer = Writer::open(&spec).unwrap();
                Box::new(move |line| writer.append(Timestamp(1), Stream::Output, line))
            }
            Form::Json => {
                let mut writer = JsonWriter::open(&spec, &[]).unwrap();
                Box::new(move |line| writer.append(Timestamp(1), Stream::Output, line))
            }
        };
        for number in 0..LINES {
            append(format!("line {number}\n").as_bytes());
        }
    });
    writing.join().unwrap();
    for follower in following {
        tokio::time::timeout(Duration::from_secs(30), follower)
            .await
            .expect("a line is lost")
            .unwrap();
    }
    let files = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert!(files > 20, "there were rotations: {files} files");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_followers_lose_no_line_of_local_files() {
    let dir = tempfile::tempdir().unwrap();
    fifty_followers(Form::Local, spec(&dir, 1000, 1000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_followers_lose_no_line_of_json_files() {
    let dir = tempfile::tempdir().unwrap();
    fifty_followers(Form::Json, json_spec(&dir, 3000, 1000)).await;
}

#[test]
fn rotated_json_files_are_compressed_and_read_through() {
    let dir = tempfile::tempdir().unwrap();
    let driver = workload::LogDriver::Json { attributes: Vec::new(), compress: true };
    let spec = LogSpec { driver, ..json_spec(&dir, 2000, 4) };
    let mut writer = JsonWriter::open(&spec, &[]).unwrap();
    // One who reads while files are compressed under it misses nothing and sees nothing twice.
    let mut reader = Reader::open_as(&spec.path, Form::Json, Query::default()).unwrap();
    let (mut seen, mut written) = (String::new(), String::new());
    for line in 0..200 {
        let line = format!("line {line}\n");
        written += &line;
        writer.append(Timestamp::now(), Stream::Output, line.as_bytes());
        if written.len() % 3 != 0 {
            while let Some(record) = reader.next().unwrap() {
                if let Content::Bytes { bytes, .. } = record.content {
                    seen += std::str::from_utf8(&bytes).unwrap();
                }
            }
        }
    }
    while let Some(record) = reader.next().unwrap() {
        if let Content::Bytes { bytes, .. } = record.content {
            seen += std::str::from_utf8(&bytes).unwrap();
        }
    }
    assert_eq!(seen, written);
    // The last rotation's file is compressed by now, or soon is.
    drop(gzip::lock(&spec.path).unwrap());
    gzip::compress_older(&spec.path).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let base = spec.path.file_name().unwrap().to_str().unwrap();
    let want =
        [base.to_owned(), format!("{base}.1.gz"), format!("{base}.2.gz"), format!("{base}.3.gz")];
    assert_eq!(names, want);
    let kept = json_text(&spec.path, Query::default());
    assert!(written.ends_with(&kept) && kept.lines().count() > 60, "{kept}");
    for lines in [1, 30, 60] {
        let want = kept.lines().count() - lines;
        let want: String = kept.split_inclusive('\n').skip(want).collect();
        assert_eq!(json_text(&spec.path, tail(lines as u64)), want);
    }
    // Who was killed between both files of one leaves the plain one, which counts.
    let second = files::name(&spec.path, 2);
    let (mut content, _) = gzip::inflate(&gzip::packed_name(&second)).unwrap();
    let mut plain = std::fs::File::create(&second).unwrap();
    std::io::copy(&mut content, &mut plain).unwrap();
    assert_eq!(json_text(&spec.path, Query::default()), kept);
}
