use azure_core::Bytes;

use super::*;

/// Sat, 21 Nov 2026 05:00:00 GMT.
const NOW: i64 = 1_795_237_200;

fn answer(status: u16, headers: &[(&'static str, &str)], body: &'static str) -> VaultError {
    let mut all = Headers::new();
    for (name, value) in headers {
        all.insert(*name, (*value).to_owned());
    }
    let status = StatusCode::from(status);
    let raw = RawResponse::from_bytes(status, all, Bytes::from_static(body.as_bytes()));
    of_status(status, Some(&raw), NOW)
}

#[test]
fn an_answer_asks_to_wait_in_seconds_milliseconds_or_until_a_date() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let cases: [(&[(&str, &str)], _); 9] = [
        (&[], None),
        (&[("retry-after", "7")], seconds(7)),
        (&[("retry-after", " 7 ")], seconds(7)),
        (
            &[("retry-after", "Sat, 21 Nov 2026 05:00:30 GMT")],
            seconds(30),
        ),
        (
            &[("retry-after", "Sat, 21 Nov 2026 04:00:00 GMT")],
            seconds(0),
        ),
        (
            &[("retry-after-ms", "1500")],
            Some(Duration::from_millis(1500)),
        ),
        (
            &[("retry-after", "7"), ("x-ms-retry-after-ms", "250")],
            Some(Duration::from_millis(250)),
        ),
        (&[("retry-after", "soon")], None),
        // No longer than an hour, whatever it says.
        (&[("retry-after", "99999999")], seconds(3600)),
    ];
    for (headers, expected) in cases {
        let error = answer(429, headers, "");
        assert_eq!(error.label(), "throttled");
        assert_eq!(error.retry_after(), expected, "{headers:?}");
        assert_eq!(answer(503, headers, "").retry_after(), expected);
    }
}

#[test]
fn every_status_has_its_word() {
    let disabled = r#"{"error":{"code":"Forbidden","message":"Operation get is not allowed on a disabled secret.",
        "innererror":{"code":"SecretDisabled"}}}"#;
    let cases = [
        (400, "", "rejected"),
        (401, "", "unauthorized"),
        (403, "", "forbidden"),
        (403, disabled, "disabled"),
        (404, "", "not_found"),
        (408, "", "unavailable"),
        (409, "", "conflict"),
        (412, "", "rejected"),
        (429, "", "throttled"),
        (500, "", "unavailable"),
        (503, "", "unavailable"),
        (599, "", "unavailable"),
        (302, "", "rejected"),
    ];
    for (status, body, label) in cases {
        let error = answer(status, &[], body);
        assert_eq!(error.label(), label, "{status}");
        assert!(VaultError::LABELS.contains(&error.label()));
    }
}

#[test]
fn what_the_vault_says_is_shown_on_one_line_and_bounded() {
    let body = r#"{"error":{"code":"Forbidden","message":"Caller lacks\npermission"}}"#;
    let error = answer(403, &[], body);
    assert_eq!(
        error.to_string(),
        "the vault forbids it: Forbidden: Caller lacks permission"
    );
    let error = answer(403, &[], "<html>a proxy's page</html>");
    assert_eq!(
        error.to_string(),
        "the vault forbids it: without saying why"
    );
    assert_eq!(shown(&"x".repeat(10_000)).len(), REASON_CHARACTERS_MAX);
}

#[test]
fn a_parser_s_words_are_not_shown_for_they_may_quote_a_secret() {
    let parser = serde_json::from_str::<u32>(r#""hunter2""#).unwrap_err();
    assert!(parser.to_string().contains("hunter2"));
    let error = VaultError::from(azure_core::Error::from(parser));
    assert_eq!(error.label(), "malformed");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn how_long_a_source_of_tokens_wants_to_be_left_alone_is_found_below_the_error() {
    let mut headers = Headers::new();
    headers.insert("retry-after", "5");
    let status = StatusCode::TooManyRequests;
    let raw = RawResponse::from_bytes(status, headers, "");
    let answer = azure_core::Error::new(
        ErrorKind::HttpResponse {
            status,
            error_code: None,
            raw_response: Some(Box::new(raw)),
        },
        "The request failed",
    );
    let refused = azure_core::Error::with_error(ErrorKind::Credential, answer, "no token");
    let error = VaultError::from(refused);
    assert_eq!(
        (error.label(), error.retry_after()),
        ("identity", Some(Duration::from_secs(5)))
    );
}
