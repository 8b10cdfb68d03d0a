use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use http::Uri;
use postern_api::LinkId;
use serde_json::Value;

use super::*;
use crate::outcome::{Ending, Refusal};
use crate::request_id::RequestId;

const DEADLINE: Duration = Duration::from_secs(20);

/// A place to write to that can be looked at, and can be full.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<(Vec<u8>, usize)>>);

impl Page {
    fn with_room(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new((Vec::new(), bytes))))
    }

    fn make_room(&self, bytes: usize) {
        self.0.lock().unwrap().1 += bytes;
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (page, room) = &mut *self.0.lock().unwrap();
        let fits = bytes.len().min(*room);
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *room -= fits;
        page.extend_from_slice(&bytes[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn on(page: &Page) -> AccessLog {
    AccessLog::start(Sink::Stream(Box::new(page.clone())), 65_536).unwrap()
}

fn record<'a>(method: &'a str, uri: &'a Uri) -> RequestRecord<'a> {
    RequestRecord {
        request_id: RequestId::from(7),
        link_id: Some(LinkId::new(553_665_985)),
        client: Some("10.0.0.4:50000".parse().unwrap()),
        account: Some("hospital-a"),
        sni: Some("hospital-a.dicom.example"),
        authority: Some("hospital-a.dicom.example"),
        method,
        uri,
        protocol: "HTTP/2.0",
        status: Some(200),
        request_bytes: 0,
        response_bytes: 12,
        total: Duration::from_micros(1234),
        authorize: None,
        upstream_connect: Some(Duration::from_millis(2)),
        upstream_first_byte: None,
        endpoint: Some("10.1.0.5:443".parse().unwrap()),
        upstream_protocol: Some("h2"),
        tls: Some("TLSv1.3"),
        tls_resumed: false,
        refusal: None,
        would_refuse: None,
        ending: RequestEnding::Complete,
    }
}

fn until(what: &str, mut held: impl FnMut() -> bool) {
    let start = Instant::now();
    while !held() {
        assert!(start.elapsed() < DEADLINE, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_request_is_one_line_with_stable_names() {
    let page = Page::with_room(usize::MAX);
    let log = on(&page);
    log.request(&record(
        "GET",
        &Uri::from_static("https://h.example/studies?token=secret"),
    ));
    assert!(log.close(DEADLINE));
    let text = page.text();
    let (before, after) = text.split_once("\",\"kind\"").unwrap();
    assert!(
        before.starts_with("{\"ts\":\"2") && before.ends_with('Z'),
        "{text}"
    );
    assert_eq!(
        after,
        concat!(
            r#":"request","request_id":"00000000000000000000000000000007","link_id":"553665985","#,
            r#""client":"10.0.0.4:50000","account":"hospital-a","sni":"hospital-a.dicom.example","#,
            r#""authority":"hospital-a.dicom.example","method":"GET","path":"/studies","protocol":"HTTP/2.0","#,
            r#""status":200,"request_bytes":0,"response_bytes":12,"total_us":1234,"upstream_connect_us":2000,"#,
            r#""endpoint":"10.1.0.5:443","upstream_protocol":"h2","tls":"TLSv1.3","tls_resumed":false,"#,
            r#""ending":"complete"}"#,
            "\n"
        )
    );
}

#[test]
fn a_refusal_is_told_with_its_blame() {
    let page = Page::with_room(usize::MAX);
    let log = on(&page);
    let uri = Uri::from_static("/");
    log.request(&RequestRecord {
        refusal: Some(Refusal::CustomerKey),
        would_refuse: Some(Refusal::LinkUnknown),
        ..record("GET", &uri)
    });
    log.connection(&ConnectionRecord {
        source: "10.0.0.9:1".parse().unwrap(),
        client: None,
        link_id: None,
        sni: None,
        duration: Duration::from_micros(5),
        ending: Ending::Refused(Refusal::LinkIdMissing),
    });
    assert!(log.close(DEADLINE));
    let text = page.text();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["refusal"], "customer_key");
    assert_eq!(lines[0]["blame"], "policy");
    assert_eq!(lines[0]["would_refuse"], "link_unknown");
    assert_eq!(lines[1]["kind"], "connection");
    assert_eq!(lines[1]["ending"], "refused");
    assert_eq!(lines[1]["refusal"], "link_id_missing");
    assert_eq!(lines[1]["blame"], "client");
}

#[test]
fn whatever_a_client_sends_a_line_is_one_json_object_of_bounded_length() {
    let page = Page::with_room(usize::MAX);
    let log = on(&page);
    let long = format!("/{}", "é\"{".repeat(10_000));
    let paths: Vec<Uri> = ["/a\"b", "/%0a%00", "/\u{e9}", "/'}{", "*", long.as_str()]
        .into_iter()
        .filter_map(|path| Uri::try_from(path).ok())
        .collect();
    assert!(paths.len() >= 4);
    let method = "M".repeat(9000);
    let name = "\n\r\t\0\u{1b}\"\\\u{2028}".repeat(1000);
    for uri in &paths {
        log.request(&RequestRecord {
            authority: Some(&name),
            sni: Some(&name),
            ..record(&method, uri)
        });
    }
    assert!(log.close(DEADLINE));
    let text = page.text();
    assert_eq!(text.lines().count(), paths.len());
    for (line, uri) in text.lines().zip(&paths) {
        assert!(line.len() < 6000, "{}", line.len());
        let value: Value = serde_json::from_str(line).unwrap();
        let path = value["path"].as_str().unwrap().trim_end_matches('…');
        assert!(uri.path().starts_with(path), "{path}");
        assert!(name.starts_with(value["sni"].as_str().unwrap().trim_end_matches('…')));
    }
}

#[test]
fn a_full_queue_drops_and_counts_and_never_waits() {
    struct Stuck(crossbeam_channel::Receiver<()>);
    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (release, stuck) = bounded(1);
    let log = AccessLog::start(Sink::Stream(Box::new(Stuck(stuck))), 8).unwrap();
    for _ in 0..100_000 {
        log.request(&record("GET", &Uri::from_static("/")));
    }
    assert!(log.dropped() > 0);
    assert!(
        !log.close(Duration::from_millis(1)),
        "a stuck writer cannot have written everything"
    );
    drop(release);
}

#[test]
fn after_a_failed_write_the_next_line_is_whole_and_what_was_lost_is_counted() {
    let page = Page::with_room(50);
    let log = on(&page);
    log.request(&record("GET", &Uri::from_static("/lost")));
    until("the error is counted", || log.write_errors() == 1);
    page.make_room(100_000);
    log.request(&record("GET", &Uri::from_static("/kept")));
    assert!(log.close(DEADLINE));
    let text = page.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(
        serde_json::from_str::<Value>(lines[1]).unwrap()["path"],
        "/kept"
    );
    assert_eq!(log.dropped(), 1);
}

#[test]
fn a_renamed_file_is_opened_anew_by_itself_and_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let options = AccessLogOptions {
        output: AccessLogOutput::File(path.clone()),
        queue_max: 100,
    };
    let log = AccessLog::open(&options).unwrap();
    let count = |path: &Path| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
    let write = || log.request(&record("GET", &Uri::from_static("/")));
    write();
    until("the first line is written", || count(&path) == 1);
    let first = folder.path().join("access.log.1");
    std::fs::rename(&path, &first).unwrap();
    until("the file is back without being asked for", || path.exists());
    write();
    until("the second line is in the new file", || count(&path) == 1);
    std::fs::rename(&path, folder.path().join("access.log.2")).unwrap();
    log.reopen();
    until("the file is back", || path.exists());
    write();
    assert!(log.close(DEADLINE));
    assert_eq!((count(&first), count(&path)), (1, 1));
    assert_eq!((log.dropped(), log.write_errors()), (0, 0));
}

#[test]
fn every_line_of_many_threads_is_written_before_close_returns() {
    let page = Page::with_room(usize::MAX);
    let log = on(&page);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    log.request(&record("GET", &Uri::from_static("/")));
                }
            });
        }
    });
    assert!(log.close(DEADLINE));
    assert_eq!(page.text().lines().count(), 8000);
    log.request(&record("GET", &Uri::from_static("/")));
    assert_eq!(log.dropped(), 1);
}

#[test]
fn a_log_that_is_off_costs_nothing_and_closes() {
    let options = AccessLogOptions {
        output: AccessLogOutput::Off,
        ..AccessLogOptions::default()
    };
    let log = AccessLog::open(&options).unwrap();
    assert!(!log.enabled());
    log.request(&record("GET", &Uri::from_static("/")));
    assert!(log.close(Duration::ZERO));
    assert_eq!(log.dropped(), 0);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let output = AccessLogOutput::File("/nowhere/access.log".into());
    let error = AccessLog::open(&AccessLogOptions {
        output,
        queue_max: 1,
    })
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "/nowhere/access.log: the access log cannot be opened"
    );
}
