//! `postern-load compare`, in its shortest form: that it finishes, and what its report looks like.

#![allow(
    clippy::unwrap_used,
    reason = "the comparison's set-up is part of the test"
)]

use std::process::Command;
use std::time::Duration;

use postern_loadtests::stack::{Child, binary};
use serde_json::Value;

// Limit: two proxies, five measurements of a second, in a debug build on busy cores.
const TIMEOUT: Duration = Duration::from_mins(3);

#[tokio::test]
async fn a_quick_comparison_with_nginx_finishes_and_its_report_has_the_promised_shape() {
    let folder = tempfile::tempdir().unwrap();
    let (json, html) = (
        folder.path().join("report.json"),
        folder.path().join("report.html"),
    );
    let mut command = Command::new(binary("postern-load").unwrap());
    command
        .args(["compare", "--quick", "--peers", "nginx", "--cases"])
        .arg("h1-small,h2-small,idle-memory")
        .arg("--json")
        .arg(&json)
        .arg("--html")
        .arg(&html);
    let mut child = Child::spawn("compare", command, folder.path()).unwrap();
    let status = child.wait_for_exit(TIMEOUT).await.unwrap();
    assert!(status.success(), "{}", child.tail());

    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(report["missing"], serde_json::json!({}), "{report:#}");
    let cases = report["cases"].as_array().unwrap();
    let names: Vec<_> = cases.iter().map(|case| &case["case"]).collect();
    assert_eq!(names, ["h1-small", "h2-small", "idle-memory"]);
    for case in cases {
        for proxy in ["postern", "nginx"] {
            let figures = &case["proxies"][proxy];
            for key in ["requests_per_second", "p50_us", "p99_us", "rss_kib"] {
                assert!(figures[key].as_f64().unwrap() > 0.0, "{key}: {case:#}");
            }
            let judged = case["metrics"][0].as_str().unwrap();
            assert!(
                figures[judged].as_f64().unwrap() > 0.0,
                "{judged}: {case:#}"
            );
            assert_eq!(figures["failed"], 0.0, "{case:#}");
            assert_eq!(figures["rounds"].as_array().unwrap().len(), 1);
        }
        assert_eq!(case["best_peer"], "nginx");
        assert!(
            case["ratio_to_best_peer"].as_f64().unwrap() > 0.0,
            "{case:#}"
        );
    }
    for name in ["postern", "nginx"] {
        assert!(!report["versions"][name].as_str().unwrap().is_empty());
        assert!(!report["configurations"][name].as_str().unwrap().is_empty());
    }
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.contains("</html>") && page.contains("id='h2-small'"));
}
